"""What the cloud tells the outside: answers, and which edges are connected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answered:
    """An answered frame: its record, as in a results file, and its answer's lines, (label, score) each."""

    edge: str
    record: Mapping[str, object]
    lines: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Linked:
    """Whether an edge has a session now."""

    edge: str
    connected: bool


News = Answered | Linked
