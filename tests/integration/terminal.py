"""A terminal for a daemon: an emulator takes its bytes, and shows what a person would see."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte

from gradfec_cli.daemons import MODULES, STOP_S, with_key

from .endings import SOON_S
from .stubbed import SMALL

COLUMNS, LINES = 80, 24
STUBBED = Path(__file__).with_name("stubbed.py")


class Terminal:
    """A daemon with a toy network on a terminal of its own."""

    def __init__(self, name: str, *arguments: object, **settings: str) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._master = master
        self.screen = pyte.HistoryScreen(COLUMNS, LINES, history=10_000, ratio=1)
        self._stream = pyte.ByteStream(self.screen)
        self.hid_the_cursor = False
        environment = {**with_key(), "TERM": "xterm-256color", **settings}
        for name_of_width in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
            environment.pop(name_of_width, None)
        self.process = subprocess.Popen(
            [sys.executable, STUBBED, MODULES[name], *SMALL[name], *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,  # noqa: PLW1509  # Ctrl-C is for it
        )
        os.close(slave)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def look(self, wait_s: float = 0.1) -> bool:
        """Take in what the daemon has written; False once it has closed its side."""
        if not select.select([self._master], [], [], wait_s)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError as error:
            assert error.errno == errno.EIO  # Linux: nobody has the other side open any more
            return False
        self._stream.feed(data)
        self.hid_the_cursor |= self.screen.cursor.hidden
        return bool(data)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + SOON_S
        while not holds():
            assert time.monotonic() < end, "\n".join(self.screen.display)
            assert self.look(), self.lines()

    def wait_until_it_ends(self) -> int:
        end = time.monotonic() + SOON_S
        while self.look():
            assert time.monotonic() < end, "\n".join(self.screen.display)
        return self.process.wait(SOON_S)

    def visible(self) -> str:
        return "\n".join(self.screen.display)

    def lines(self) -> list[str]:
        """All that is on the screen, or has been scrolled off it, with lines that were wrapped made whole again."""
        scrolled = ["".join(row[x].data for x in range(COLUMNS)) for row in self.screen.history.top]
        whole: list[str] = []
        goes_on = False
        for row in [*scrolled, *self.screen.display]:
            if goes_on and not re.match(r"[\d-]{10} [\d:]{8} (gradfec-|error: )", row):
                whole[-1] += row
            else:
                whole.append(row)
            goes_on = len(row.rstrip()) >= COLUMNS - 1  # the last character of a row may be a space
        return [line.rstrip() for line in whole if line.strip()]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self._master)


@contextmanager
def on_terminal(name: str, *arguments: object, **settings: str) -> Iterator[Terminal]:
    """Run a daemon on a terminal for the length of a `with` block."""
    terminal = Terminal(name, *arguments, **settings)
    try:
        yield terminal
    finally:
        terminal.close()
