"""What a training job has to know of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Parts(NamedTuple):
    """What job.json says of it, and what computes the arrays of weights.npz."""

    said: Mapping[str, Any]
    arrays: Callable[[], dict[str, Any]]
