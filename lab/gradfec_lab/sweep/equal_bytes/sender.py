"""What a codec sends of a picture under some plan, and what the cloud answers when datagrams are lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from gradfec_common.codes import ZFEC
from gradfec_common.delivery import packets_at_hand
from gradfec_common.errors import UsageError
from gradfec_common.protect import UNKNOWN_LINK, Plan, UnequalProtection, read_policy
from gradfec_common.quantisers import Coded, Needs
from gradfec_common.transmit import EncodedTensor, encode_tensor
from gradfec_edge.coding import Coding, frame_bytes
from gradfec_edge.frontend import Features
from gradfec_lab.sweep.codecs import Codec
from gradfec_lab.sweep.ends import Ends, Floats, Mask, delivered
from gradfec_lab.sweep.engine import Case

UNHEARD = b""  # the pattern of a frame of which nothing arrives, or that cannot be sent: it gets no answer
NO_ANSWER = -1


class Scheme(NamedTuple):
    """A codec at one of its settings, under a policy as the user writes it."""

    codec: str
    setting: str
    policy: str

    @property
    def name(self) -> str:
        """Its name in the store."""
        return "/".join(self)

    @property
    def bytes_name(self) -> str:
        """The name of a frame's bytes in the store."""
        return f"bytes/{self.name}"

    @property
    def datagrams_name(self) -> str:
        """The name of a frame's number of datagrams in the store."""
        return f"datagrams/{self.name}"


def coding_for(codec: Codec, scheme: Scheme) -> Coding:
    """Return the edge's coding; its parity is of zfec."""
    return replace(codec.at(scheme.setting), policy=read_policy(scheme.policy, ZFEC))


@dataclass(frozen=True)
class Sent:
    """A tensor, packed and coded as planned when it is needed first."""

    scheme: Scheme
    coding: Coding
    coded: Coded
    plan: Plan

    @property
    def wire_bytes(self) -> int:
        """Bytes of UDP payload: headers, seals, packets, parity."""
        return frame_bytes(self.plan, self.coding.quantiser)

    @property
    def crowded(self) -> bool:
        """Whether packets are dropped because the datagrams have no room for them."""
        return bool(self.coded.packets.sizes[self.plan.dropped].any()) and not isinstance(
            self.coding.policy, UnequalProtection
        )

    @cached_property
    def encoded(self) -> EncodedTensor:
        """The datagrams that the edge would send, parity included."""
        return encode_tensor(self.coded, self.coding.quantiser, self.plan)

    def case(self, point: str, repetition: int, arrived: Mask, ends: Ends) -> Case:
        """Return the case in which these datagrams `arrived` (sent,)."""
        if not arrived.any():
            return Case(point, repetition, UNHEARD, no_tensor)
        at_hand = packets_at_hand(self.plan, arrived)
        whole = at_hand.sum() == self.plan.kept
        if self.coding.quantiser.needs is Needs.ALL and not whole:
            pattern = self.scheme.codec.encode()  # the same for every picture: nothing can be seen of it
        else:
            pattern = self._tensor + np.packbits(at_hand).tobytes()

        def features() -> Floats:
            return delivered(self.encoded, arrived, self.coding.grid, ends.conceal)

        return Case(point, repetition, pattern, features)

    @property
    def _tensor(self) -> bytes:
        """The bytes in which two tensors differ that have the same packets at hand."""
        depends_on_plan = self.coding.quantiser.sizes(self.coding.grid) is not None  # kept packets make up for others
        return "/".join(self.scheme if depends_on_plan else self.scheme[:2]).encode() + b"/"


def no_tensor() -> Floats:
    """Never called: a pattern without an answer has no tensor."""
    raise AssertionError


class Picture:
    """One picture under all schemes of a codec; what is coded once stays."""

    def __init__(self, codec: Codec, features: Features) -> None:
        self._codec, self._features = codec, features
        self._coded: dict[str, Coded] = {}

    def sent(self, scheme: Scheme) -> Sent | None:
        """Return what is sent of it; None if the plan has no room for it."""
        coding, (chi, scores, damage) = coding_for(self._codec, scheme), self._features
        assert scores is not None, "ends rank packets"  # noqa: S101
        try:
            if coding.quantiser.sizes(coding.grid) is not None:  # then what is coded depends on the plan
                plan, coded = coding.packets(chi, scores, damage, UNKNOWN_LINK)
                return Sent(scheme, coding, coded, plan)
            coded = self._of(scheme.setting)
            ranks = scores if coded.importance is None else coded.importance
            return Sent(scheme, coding, coded, coding.plan(coded.packets.sizes, ranks, UNKNOWN_LINK))
        except UsageError:
            return None

    def _of(self, setting: str) -> Coded:
        if setting not in self._coded:
            coding = self._codec.at(setting)
            self._coded[setting] = coding.quantiser.encode(self._features.chi, coding.grid)
        return self._coded[setting]
