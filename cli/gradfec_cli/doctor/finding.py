"""The findings of `gradfec doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class State(Enum):
    """How bad it is: a warning is good to know; something broken keeps gradfec from working."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One check's outcome: what it found, what to do about it if anything, and values for --json."""

    state: State
    text: str
    remedy: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


def ok(text: str, **facts: object) -> Finding:
    """Return a finding that everything is fine."""
    return Finding(State.OK, text, facts=facts)


def warning(text: str, remedy: str = "", **facts: object) -> Finding:
    """Return a finding of something that works, but not as well as it could."""
    return Finding(State.WARNING, text, remedy, facts)


def broken(text: str, remedy: str = "", **facts: object) -> Finding:
    """Return a finding of something that does not work."""
    return Finding(State.BROKEN, text, remedy, facts)


def bad(named: bool, text: str, remedy: str = "", **facts: object) -> Finding:
    """Return a finding: broken if the user named it in an option, otherwise a warning, as it may not be needed."""
    return broken(text, remedy, **facts) if named else warning(text, remedy, **facts)
