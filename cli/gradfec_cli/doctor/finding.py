"""What a check of `gradfec doctor` found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class State(Enum):
    """How bad it is: a warning is worth knowing, what is broken keeps something from working."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One check's outcome: what there is, what to do about it where something is to be done, and figures for --json."""

    state: State
    text: str
    remedy: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


def ok(text: str, **facts: object) -> Finding:
    """Say that all is fine."""
    return Finding(State.OK, text, facts=facts)


def warning(text: str, remedy: str = "", **facts: object) -> Finding:
    """Say what works, but not as well as it could."""
    return Finding(State.WARNING, text, remedy, facts)


def broken(text: str, remedy: str = "", **facts: object) -> Finding:
    """Say what does not work."""
    return Finding(State.BROKEN, text, remedy, facts)


def bad(named: bool, text: str, remedy: str = "", **facts: object) -> Finding:
    """Say what does not work: broken if the user named it in an option, otherwise it may not be needed."""
    return broken(text, remedy, **facts) if named else warning(text, remedy, **facts)
