"""How fine a frame is: as fine as a number of bytes allows, or as the policy `auto` has chosen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common import entropy
from gradfec_common.errors import UsageError
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import AutoProtection, LinkEstimate, Quality, Room
from gradfec_common.protect.auto import Choice
from gradfec_common.quantisers import Coded
from gradfec_common.quantisers.image import ImageCodec
from gradfec_common.quantisers.laplace import Laplace
from gradfec_common.symbols import entry_sizes
from gradfec_common.transmit import room_for
from gradfec_common.wire import MAX_DATAGRAM_BYTES

HALVINGS = 6  # of the range of qualities: to a fiftieth of a step
END_BYTES = 0.83  # what a packet's last byte costs beyond its bits, on average
LARGEST = 1.2  # times as many bytes as frames of a quality have on average: of a frame with more, the quality is lower
TRIES = 3  # of a picture's quality: each codes it once
STAYS = 0.95  # of the logarithm of the ratio, with each frame: a scene that was complex long ago may have changed


class Target(Protocol):
    """A way to choose for each tensor how finely to code it."""

    def encode(
        self, tensor: npt.NDArray[np.float32], grid: PacketGrid, link: LinkEstimate
    ) -> tuple[Coded, float | None]:
        """Code a tensor (H, W, C) for a link; also return the agreement of frames as fine, if the policy needs it."""


@dataclass(frozen=True)
class ByteTarget:
    """Frames of at most about `bytes` bytes of UDP payload, headers included, without parity.

    `step` gives the step of a quality between `qualities`, the lowest and the highest.
    """

    bytes: int
    step: Callable[[float], float]
    qualities: tuple[float, float]

    def encode(self, latents: npt.NDArray[np.float32], grid: PacketGrid, link: LinkEstimate) -> tuple[Coded, None]:
        """Code latents (H, W, C) as finely as `bytes` allow, or with the coarsest step."""
        return self._quantiser(latents, grid).encode(latents, grid), None

    def _quantiser(self, latents: npt.NDArray[np.float32], grid: PacketGrid) -> Laplace:
        low, high = self.qualities
        if self.estimate(latents, grid, Laplace(self.step(high))) <= self.bytes:
            return Laplace(self.step(high))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            fits = self.estimate(latents, grid, Laplace(self.step(middle))) <= self.bytes
            low, high = (middle, high) if fits else (low, middle)
        return Laplace(self.step(low))

    @staticmethod
    def estimate(latents: npt.NDArray[np.float32], grid: PacketGrid, quantiser: Laplace) -> float:
        """Return the bytes of UDP payload that latents take, without coding them."""
        levels = quantiser.levels(latents, grid)
        some = levels[levels.any(axis=1)]
        if not len(some):
            return 0.0
        sizes = entry_sizes((entropy.costs(some).bits / 8 + END_BYTES).astype(np.intp))
        return float(sizes.sum()) * MAX_DATAGRAM_BYTES / room_for(quantiser.parameter_bytes).left()


@dataclass(frozen=True)
class LinkTarget:
    """The quality that `auto` has chosen for the link; `step` gives the step of a quality, `coarsest` the lowest."""

    policy: AutoProtection
    room: Room
    step: Callable[[float], float]
    coarsest: float

    def encode(self, latents: npt.NDArray[np.float32], grid: PacketGrid, link: LinkEstimate) -> tuple[Coded, None]:
        """Code latents (H, W, C) with that quality, or more coarsely if they need many more bytes than usual."""
        chosen = self.policy.choose(link, self.room).quality
        most = LARGEST * chosen.bytes * MAX_DATAGRAM_BYTES / self.room.left()
        return ByteTarget(round(most), self.step, (self.coarsest, chosen.quality)).encode(latents, grid, link)


class PictureTarget:
    """Pictures as fine as suits the link and their own bytes.

    A camera's next picture takes about as many bytes as its last one.
    """

    def __init__(self, policy: AutoProtection, room: Room, codec: ImageCodec) -> None:
        """Suppose that the first picture takes as many bytes as pictures usually do."""
        self._policy, self._room, self._codec = policy, room, codec
        self._ratio = 1.0  # of the last picture's bytes to the usual ones; it is about the same in all qualities

    def value(self, link: LinkEstimate) -> float:
        """Return what the next picture is worth on a link; call it once a frame, also if none is sent."""
        self._ratio **= STAYS
        choice = self._choose(link)
        return choice.value if choice else -math.inf

    def encode(self, tensor: npt.NDArray[np.float32], grid: PacketGrid, link: LinkEstimate) -> tuple[Coded, float]:
        """Code a picture (H, W, 3) as is best for its own bytes: any beyond the usual would be missing for parity."""
        tried = dict[float, tuple[Coded, float]]()  # by quality
        while len(tried) < TRIES:
            choice = self._choose(link)
            quality = choice.quality if choice else self._at_ratio()[0]  # the coarsest, if none fits
            if quality.quality in tried:
                return tried[quality.quality]
            coded = self._codec.with_quality(round(quality.quality)).encode(tensor, grid)
            tried[quality.quality] = coded, quality.agreement
            self._ratio *= float(entry_sizes(coded.packets.sizes).sum()) / quality.bytes
        return min(tried.values(), key=lambda one: len(one[0].packets.data))

    def _choose(self, link: LinkEstimate) -> Choice | None:
        """Return what suits the link and the last picture; None if none would fit."""
        try:
            return self._policy.choose(link, self._room, self._at_ratio())
        except UsageError:
            return None

    def _at_ratio(self) -> tuple[Quality, ...]:
        """Return the qualities, coarse to fine, with the bytes that a picture like the last one takes."""
        return tuple(one._replace(bytes=self._ratio * one.bytes) for one in self._policy.worth.qualities)
