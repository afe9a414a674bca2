"""Which plans a codec may have at a number of bytes: a small grid around the loss that it has to survive.

A plan of n datagrams, any k of which are enough, survives a loss p if k is some margin below n (1 - p). More and
shorter datagrams make the share that arrives more certain, and cost more headers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from gradfec_common.codes import ZFEC
from gradfec_common.quantisers import Needs
from gradfec_common.wire import MAX_DATAGRAM_BYTES

UNPROTECTED = "none"
SPLITS = (1.0, 1.5, 2.5)  # datagrams, in as many as the bytes need at least
MARGINS = (0.7, 0.55, 0.85, 0.4, 0.25, 1.0)  # of k below n (1 - p)
TWO_CLASSES = ((0.5, 0.9), (0.4, 0.8), (0.6, 1.2))  # margins of either class
TWO_CLASSES_SPLITS = (1.5, 2.0)
DROPS = (0.9, 0.7)  # margins of FEC_A_B
PAPER_DROPS = (0.95, 0.85, 0.75, 0.65, 0.5)


def plans(bytes_a_frame: int, loss: float, needs: Needs) -> list[str]:
    """Return policies, as the user writes them, for a codec whose packets need such others."""
    if not loss:
        return [UNPROTECTED]
    least = math.ceil(bytes_a_frame / MAX_DATAGRAM_BYTES)
    found = [*_one_class(least, loss)]
    if needs is not Needs.ALL:
        found += _two_classes(least, loss)
    if needs is Needs.NOTHING:
        found += drops(loss, DROPS)
    return [*dict.fromkeys([*found, UNPROTECTED])]


def drops(loss: float, margins: tuple[float, ...] = PAPER_DROPS) -> list[str]:
    """Return FEC_A_B with B some margins below the share of datagrams that arrive."""
    kept = [max(round(100 * (1 - loss) * margin), 1) for margin in margins]
    return [f"FEC_{100 - share}_{share}" for share in kept]


def _one_class(least: int, loss: float) -> Iterator[str]:
    for margin in MARGINS:
        for split in SPLITS:
            n = min(math.ceil(least * split), ZFEC.max_n)
            k = below(n, loss, margin)
            yield f"nested:{k}/{n}" if k < n else f"nested:{n}"


def _two_classes(least: int, loss: float) -> Iterator[str]:
    for split in TWO_CLASSES_SPLITS:
        n = min(math.ceil(least * split), ZFEC.max_n)
        for margins in TWO_CLASSES:
            first, second = (below(n, loss, margin) for margin in margins)
            if first < second:
                yield f"nested:{first},{second}/{n}" if second < n else f"nested:{first},{n}"


def below(n: int, loss: float, margin: float) -> int:
    """Return how many of n datagrams are enough, by a margin below those that are expected to arrive."""
    return min(max(round(n * (1 - loss) * margin), 1), n)
