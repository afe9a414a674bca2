"""How fine a frame is: as fine as a number of bytes allows, or as the policy `auto` has chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common import entropy
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import AutoProtection, LinkEstimate, Room
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


class Target(Protocol):
    """A way to choose for each tensor how finely to code it."""

    def encode(self, tensor: npt.NDArray[np.float32], grid: PacketGrid, link: LinkEstimate) -> Coded:
        """Code a tensor (H, W, C) for a link."""


@dataclass(frozen=True)
class ByteTarget:
    """Frames of at most about `bytes` bytes of UDP payload, headers included, without parity.

    `step` gives the step of a quality between `qualities`, the lowest and the highest.
    """

    bytes: int
    step: Callable[[float], float]
    qualities: tuple[float, float]

    def encode(self, latents: npt.NDArray[np.float32], grid: PacketGrid, link: LinkEstimate) -> Coded:
        """Code latents (H, W, C) as finely as `bytes` allow, or with the coarsest step."""
        return self._quantiser(latents, grid).encode(latents, grid)

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

    def encode(self, latents: npt.NDArray[np.float32], grid: PacketGrid, link: LinkEstimate) -> Coded:
        """Code latents (H, W, C) with that quality, or more coarsely if they need many more bytes than usual."""
        chosen = self.policy.choose(link, self.room).quality
        most = LARGEST * chosen.bytes * MAX_DATAGRAM_BYTES / self.room.left()
        return ByteTarget(round(most), self.step, (self.coarsest, chosen.quality)).encode(latents, grid, link)


@dataclass(frozen=True)
class PictureTarget:
    """The quality of pictures that `auto` has chosen for the link."""

    policy: AutoProtection
    room: Room
    codec: ImageCodec

    def encode(self, tensor: npt.NDArray[np.float32], grid: PacketGrid, link: LinkEstimate) -> Coded:
        """Code a picture (H, W, 3) with that quality, or with what is best for one that takes as many bytes as it does.

        Its bytes beyond the usual would be missing for parity.
        """
        qualities, room = self.policy.worth.qualities, self.room
        chosen, tried = self.policy.choose(link, room).quality, set[float]()
        while True:
            coded = self.codec.with_quality(round(chosen.quality)).encode(tensor, grid)
            tried.add(chosen.quality)
            usual = next(one.bytes for one in qualities if one.quality == chosen.quality)
            times = float(entry_sizes(coded.packets.sizes).sum()) / usual  # in other qualities, too, about
            chosen = self.policy.choose(
                link, room, tuple(one._replace(bytes=times * one.bytes) for one in qualities)
            ).quality
            if chosen.quality in tried or len(tried) == TRIES:
                return coded
