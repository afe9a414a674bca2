"""What a codec's frames are worth: how many answers are right, by quality and by what is missing.

Both curves are measured on images that the codec has not learned from, and travel in its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Quality(NamedTuple):
    """Means over images: the bytes of a frame's packets in symbols, and the agreement with the uncut network."""

    quality: float
    bytes: float
    agreement: float


@dataclass(frozen=True)
class Worth:
    """`qualities`, from coarse to fine; and `kept`: (share of the bytes, agreement), the most important bytes first.

    A codec without `kept` needs every packet: a frame of which anything is missing is worth nothing. Packets that are
    missing by chance cost more than the least important ones: a share s of them is worth what the first s ** `scatter`
    are. Measured with latents: `gradfec sweep kept`, chance beside place.
    """

    qualities: tuple[Quality, ...]
    kept: tuple[tuple[float, float], ...]
    scatter: float = 2.0

    @cached_property
    def classes(self) -> tuple[Floats, Floats]:
        """The shares (m + 1,) of the bytes, from 0 to 1, between which each byte is worth the same, and their worth."""
        shares = np.array([0.0, *(share for share, _ in self.kept), 1.0])
        whole = max((found for _, found in self.kept), default=1.0) or 1.0
        worth = np.array([0.0, *(found / whole for _, found in self.kept), 1.0])
        corners = hull(shares, np.minimum(np.maximum.accumulate(worth), 1.0))
        return shares[corners], worth[corners].clip(0, 1)

    def agreement(self, size: float) -> float:
        """Return the agreement with the uncut network of whole frames whose packets have `size` bytes."""
        if not self.qualities:
            return 1.0
        measured = np.array(self.qualities)  # (qualities, 3)
        return float(np.interp(size, measured[:, 1], measured[:, 2]))

    def of(self, shares: Floats) -> Floats:
        """Return what a frame is worth, 1 being a whole one, of which the most important shares (...) are there."""
        return np.interp(shares, *self.classes) if self.kept else np.asarray(shares >= 1, np.float64)

    def by_chance(self, shares: Floats) -> Floats:
        """Return what a frame is worth of which any shares (...) are there."""
        return self.of(shares**self.scatter)


def hull(x: Floats, y: Floats) -> npt.NDArray[np.intp]:
    """Return which of the points (m,), x rising, are corners of the least concave curve above all, with both ends."""
    corners: list[int] = []
    for i in range(len(x)):
        while len(corners) >= 2 and _below(x, y, corners[-2], corners[-1], i):
            corners.pop()
        corners.append(i)
    return np.array(corners, np.intp)


def _below(x: Floats, y: Floats, a: int, b: int, c: int) -> bool:
    """Return whether point b is not above the line from a to c."""
    return bool((y[b] - y[a]) * (x[c] - x[a]) <= (y[c] - y[a]) * (x[b] - x[a]))


WHOLE_ONLY = Worth((), ())
