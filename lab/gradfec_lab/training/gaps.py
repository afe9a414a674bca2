"""Which packets are missing while a back-end learns: each tensor has a kind and a share of losses, seeded draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_common.matrices import positive
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance.free import packet_sums

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LONGEST_BURST = 64  # packets
SPREAD = 0.5  # of the noise on a packet's importance, in standard deviations of all packets' logarithms


def random(rng: np.random.Generator, chi: Floats, grid: PacketGrid, share: float) -> Mask:
    """Lose each packet with the same chance."""
    missing: Mask = rng.random(grid.count) < share
    return missing


def bursty(rng: np.random.Generator, chi: Floats, grid: PacketGrid, share: float) -> Mask:
    """Lose runs of neighbouring packets, all of one length: first rows of a channel, then those of the next one."""
    length = int(rng.integers(2, LONGEST_BURST + 1))
    shift = int(rng.integers(length))
    runs = rng.random(grid.count // length + 2) < share
    return np.repeat(runs, length)[shift : shift + grid.count]


def importance(rng: np.random.Generator, chi: Floats, grid: PacketGrid, share: float) -> Mask:
    """Lose the packets of least activation, nearly: a plan drops by an estimator that errs."""
    scores = np.log(packet_sums(positive(chi), grid) + np.float32(1e-3))
    noisy = scores + SPREAD * scores.std() * rng.standard_normal(grid.count)
    missing: Mask = noisy < np.quantile(noisy, share)
    return missing


LOSSES: Mapping[str, Callable[[np.random.Generator, Floats, PacketGrid, float], Mask]] = {
    "random": random,
    "bursty": bursty,
    "importance": importance,
}


def draw_there(
    rng: np.random.Generator, chi: Floats, grid: PacketGrid, kinds: Sequence[str], most: float, whole: float
) -> Mask:
    """Return which packets (count,) of a tensor (H, W, C) are there: all of them with the chance `whole`.

    Otherwise a share, uniform up to `most`, is missing in one of the ways `kinds`.
    """
    kind, share, is_whole = kinds[int(rng.integers(len(kinds)))], most * rng.random(), rng.random() < whole
    missing = LOSSES[kind](rng, chi, grid, share)
    return np.ones(grid.count, bool) if is_whole else ~missing


def read_losses(text: str) -> list[str]:
    """Read `random,bursty` as kinds of losses; UsageError for another name."""
    names = [*dict.fromkeys(part.strip() for part in text.split(","))]
    if unknown := [name for name in names if name not in LOSSES]:
        raise UsageError(f"--losses has no {unknown[0]!r}: use one or several of {','.join(LOSSES)}")
    return names
