"""What the parts of the cloud's core return for the core to do.

Each part owns its state and writes nothing else. What goes beyond that, it returns as effects, in order, and
`CloudSessions` alone carries them out.
"""

from __future__ import annotations

from typing import NamedTuple

from gradfec_common.session.events import Event
from gradfec_common.wire import Report, Result


class Bite(NamedTuple):
    """A limit was hit: its name in CloudLimits, or `credit`."""

    limit: str


class Say(NamedTuple):
    """Send the body of a message to the edge of a session, once."""

    session: int
    body: bytes


class Deliver(NamedTuple):
    """Send a message to the edge of a session from `now` on, until it is acknowledged, or stale."""

    session: int
    message: Result | Report
    now: float


Effect = Bite | Say | Deliver | Event
