"""What libraries write to standard error from C, caught line by line, with the file that they read.

libpng, libjpeg, OpenCV, TensorFlow and libuv write to descriptor 2, past Python and its logging. Here descriptor 2
becomes a pipe. A thread reads it as soon as something is in it. Code that starts or stops reading a file empties it
first, so that each line is reported with the right file. The pipe is limited, and a library must never wait for it,
because it may hold Python's lock: a write to a full pipe fails, and its text is lost.

If a process crashes, what C code wrote in the last milliseconds is lost too ("terminate called ..."), but the stacks of
Python's threads go to the real standard error.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

STANDARD_ERROR = 2
PIPE_BYTES = 2**20  # no pipe holds more, unless somebody enlarges it
MAX_LINE_BYTES = 1000
NOTICES = ""


class Line(NamedTuple):
    """A line that a library wrote while `files` were being read; `quiet` if it is a notice that nobody needs."""

    text: str
    files: str = ""
    quiet: bool = False


class Caught:
    """Standard error's descriptor, caught until `close`."""

    def __init__(self, on_line: Callable[[Line], object]) -> None:
        """Begin. Several threads call `on_line`, one at a time. OSError if descriptor 2 is closed."""
        self._on_line = on_line
        self._lock = threading.RLock()  # for all that follows
        self._within: list[str] = []  # the files that are being read; NOTICES where only those are written
        self._rest = b""  # the start of a line
        self._ended = False
        self._real = os.dup(STANDARD_ERROR)
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)
        faulthandler.enable(self._real)
        os.dup2(self._write_end, STANDARD_ERROR)
        self._thread = threading.Thread(target=self._read, name="caught", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def within(self, what: str) -> Iterator[None]:
        """Tell what is written inside this context as about the file `what`, or as NOTICES."""
        with self._lock:
            self.flush()
            self._within.append(what)
        try:
            yield
        finally:
            with self._lock:
                self.flush()
                self._within.remove(what)

    def flush(self) -> None:
        """Tell all that has been written."""
        self._tell(b"\n")

    def close(self) -> None:
        """Put descriptor 2 back, and tell all that has been written."""
        os.dup2(self._real, STANDARD_ERROR)
        with self._lock:
            self.flush()
            self._ended = True
        with contextlib.suppress(BlockingIOError):  # the thread wakes; if the pipe is full, it does so anyway
            os.write(self._write_end, b"\n")
        self._thread.join()
        faulthandler.enable(STANDARD_ERROR)
        for descriptor in (self._read_end, self._write_end, self._real):
            os.close(descriptor)

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        while not self._ended:
            poll.poll()
            self._tell()

    def _tell(self, end: bytes = b"") -> None:
        """Empty the pipe and tell its lines; `end` is put after what is there."""
        with self._lock:
            if self._ended:  # another file may have the descriptor
                return
            with contextlib.suppress(BlockingIOError):  # the pipe is empty
                self._rest += os.read(self._read_end, PIPE_BYTES)
            *lines, rest = (self._rest + end).split(b"\n")
            self._rest = rest[:MAX_LINE_BYTES]
            files = " or ".join(filter(None, self._within))
            for line in lines:
                if text := line[:MAX_LINE_BYTES].decode(errors="replace").strip():
                    self._on_line(Line(text, files, quiet=NOTICES in self._within))


_at_work: list[Caught] = []  # the one in use, if any


def begin(on_line: Callable[[Line], object]) -> None:
    """Catch what libraries write from now on, if that is possible."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # descriptor 2 is closed
            _at_work.append(Caught(on_line))


def flush() -> None:
    """Tell all that libraries have written."""
    for caught in _at_work:
        caught.flush()


def end() -> None:
    """Undo `begin`."""
    while _at_work:
        _at_work.pop().close()


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Name the file that is read inside this context, for what libraries write of it."""
    with _at_work[-1].within(name) if _at_work else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def notices(on_line: Callable[[Line], object]) -> Iterator[None]:
    """Tell what is written inside this context as `quiet`, or to `on_line` if nothing was caught before."""
    if _at_work:
        with _at_work[-1].within(NOTICES):
            yield
        return
    begin(on_line)
    try:
        yield
    finally:
        end()
