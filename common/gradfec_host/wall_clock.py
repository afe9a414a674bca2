"""The time of day. Only people and files need it: the protocol and all measurements use time.monotonic()."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone

UnixTime = Callable[[float], float]  # of a moment of time.monotonic()


def unix_time(at: float) -> float:
    """Return the Unix time of a moment of time.monotonic()."""
    return time.time() - (time.monotonic() - at)


def local_time(unix_s: float) -> str:
    """Write a Unix time for people, by this machine's clock and time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))


def rfc3339(unix_s: float) -> str:
    """Write a Unix time in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(unix_s, timezone.utc).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
