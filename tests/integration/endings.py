"""How daemons end, and their last lines."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from gradfec_cli.daemons import ERROR, Daemon

SOON_S = 60.0  # a safety net: what should happen happens within milliseconds


def is_one_clear_line(stderr: str, words: str) -> bool:
    """Whether exactly one line is an error, it is the last, and it has the words in it."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.fullmatch(line)]
    return errors == lines[-1:] and words.lower() in errors[0].lower() and "Traceback" not in stderr


def untimed(line: str) -> str:
    """Return a line of a log for people without its time."""
    found = re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*)", line)
    assert found, line
    return found[1]


def ended(daemon: Daemon) -> tuple[int, str, list[str]]:
    """Wait for a daemon to end by itself: its exit code, what it said, its standard output."""
    output = [*daemon.lines()]
    code = daemon.process.wait(SOON_S)
    daemon.stop()
    return code, "\n".join(daemon.said), output


def wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)
