"""From a network's outputs to an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Head = Callable[[NDArray[np.float32]], list[tuple[int, str, float]]]  # outputs of one tensor -> classes, best first


def answer_of(outputs: NDArray[np.float32], head: Head) -> list[list[Any]]:
    """Return [class index, label, score] of each class that `head` names; ValueError for outputs that are no numbers.

    An edge chooses its features freely, and may choose some that make the network overflow.
    """
    if not np.isfinite(outputs).all():
        raise ValueError("the network overflows on its features")
    return [[index, label, score] for index, label, score in head(outputs)]
