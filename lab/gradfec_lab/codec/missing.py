"""Which packets are missing in training: a decoder only copes with what it has seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NONE, TAIL, RANDOM = 0.6, 0.15, 0.15  # shares of images; the rest is for runs


def draw_there(rng: np.random.Generator, images: int, channels: int, strips: int) -> npt.NDArray[np.float32]:
    """Return for each packet (images, channels, strips) whether it is there, 1 or 0.

    In most images, nothing is missing; in some, the last channels, so that the first become the most important. In
    others, packets are missing at random, or runs of them in a random order, as datagrams carry them.
    """
    there = np.ones((images, channels, strips), np.float32)
    for image in there:
        kind, share = rng.random(), rng.random()
        if kind < NONE:
            continue
        if kind < NONE + TAIL:
            image[max(1, round(channels * share**0.5)) :] = 0
        elif kind < NONE + TAIL + RANDOM:
            image[rng.random(image.shape) < 0.8 * share**2] = 0
        else:
            order = rng.permutation(image.size)
            run = image.size // 12  # a datagram's share
            lost = np.flatnonzero(rng.random(12) < 0.8 * share)
            for first in lost * run:
                image.reshape(-1)[order[first : first + run]] = 0
    return there
