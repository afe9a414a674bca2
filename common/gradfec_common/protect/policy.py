"""The interface of a policy, which plans from each packet's importance and size, the link, and a datagram's room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import ErasureCode
from gradfec_common.errors import UsageError
from gradfec_common.protect.link import LinkEstimate
from gradfec_common.protect.plan import Plan
from gradfec_common.symbols import Packing, entry_sizes, pack_tightly
from gradfec_common.wire.symbol import STRIPE_BYTES

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Room:
    """The room in a datagram: `body_bytes` for the stripes' entries in the header and the symbols together.

    A data symbol may hold `packets_a_symbol` packets, or as many as fit if that is None.
    """

    body_bytes: int
    packets_a_symbol: int | None = None

    def left(self, stripes: int = 1) -> int:
        """Return the bytes left for symbols in a group of that many stripes."""
        return self.body_bytes - stripes * STRIPE_BYTES

    def packing(self, sizes: Indices, code: ErasureCode) -> Packing:
        """Pack packets of (m,) bytes, in order, for a group of one stripe; UsageError if one does not fit."""
        entries = entry_sizes(sizes)
        most = self.left() - self.left() % code.word_bytes
        if int(entries.max()) > most:
            self.too_long(int(entries.max()), most)
        return pack_tightly(entries, most, code.word_bytes, self.packets_a_symbol)

    def too_long(self, entry: int, most: int | None = None) -> NoReturn:
        """Say that a packet takes `entry` bytes of a symbol, and a datagram has only `most` for it; UsageError."""
        raise UsageError(
            f"a packet takes {entry} bytes, more than the {most or self.left()} that a datagram has for it: use "
            "smaller --rows, or a --codec of fewer bits"
        )


class Policy(Protocol):
    """A way to protect a tensor. `name` is how the user writes it."""

    @property
    def name(self) -> str:
        """The policy as the user writes it."""

    def plan(self, importance: npt.NDArray[np.float32], sizes: Indices, link: LinkEstimate, room: Room) -> Plan:
        """Plan for packets of the given importance (count,), higher matters more, and coded sizes (count,) in bytes.

        UsageError if the policy has no plan for such packets.
        """
