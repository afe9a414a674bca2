"""What libraries write to standard error from C, caught line by line, with the file that they read.

libpng, libjpeg, OpenCV, TensorFlow and libuv write to descriptor 2, past Python and its logging. Here descriptor 2
becomes a pipe, and a thread reads it. Two things must not happen:

- A library that writes much must not hang. It may hold Python's lock, and then the thread cannot read. So a write to a
  full pipe fails, and the library goes on; the text is lost.
- A process that crashes must not take its last words along. They are still in the pipe then. So a shell waits beside
  the process: if that ends without a goodbye, the shell copies what is left in the pipe to the real standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

if sys.platform != "win32":
    import fcntl

STANDARD_ERROR = 2
PIPE_BYTES = 2**20  # the most that Linux gives anybody
MAX_LINE_BYTES = 1000
WAIT_S = 1.0  # for the thread, or the shell
MARK = b"\0"  # begins a line of our own: which files are being read, and whether what is written matters
# Its input is the pipe, its output the real standard error. Descriptor 2 is a pipe on which we say goodbye.
WATCHER = ["/bin/sh", "-c", "read goodbye <&2 || exec cat"]


class Line(NamedTuple):
    """A line that a library wrote while `files` were being read; `quiet` if it is a notice that nobody needs."""

    text: str
    files: str = ""
    quiet: bool = False


class Caught:
    """Descriptor 2, caught until `close`."""

    def __init__(self, on_line: Callable[[Line], object]) -> None:
        """Begin. A thread calls `on_line`. OSError if that is not possible."""
        self._on_line = on_line
        self._lock = threading.Lock()
        self._files: list[str] = []
        self._quiet = 0
        self._reached = threading.Event()  # the thread has read all that was written before `flush`
        with contextlib.ExitStack() as undo:
            self._real = _opened(undo, os.dup(STANDARD_ERROR))
            self._pipe, write = (_opened(undo, end) for end in os.pipe())
            watched, self._life = (_opened(undo, end) for end in os.pipe())
            with contextlib.suppress(OSError, AttributeError):  # Linux only
                fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            os.set_blocking(write, False)
            self._watcher = subprocess.Popen(
                WATCHER, stdin=self._pipe, stdout=self._real, stderr=watched, start_new_session=True
            )
            os.dup2(write, STANDARD_ERROR)
            undo.pop_all()
        os.close(write)
        os.close(watched)
        self._thread = threading.Thread(target=self._read, name="caught", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Name the file that is read inside this context."""
        with self._lock:
            self._files.append(name)
            self._mark()
        try:
            yield
        finally:
            with self._lock:
                self._files.remove(name)
                self._mark()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Note that only notices are written inside this context."""
        with self._lock:
            self._quiet += 1
            self._mark()
        try:
            yield
        finally:
            with self._lock:
                self._quiet -= 1
                self._mark()

    def flush(self) -> None:
        """Wait until all that was written has been told."""
        if threading.current_thread() is self._thread:
            return
        with self._lock:
            self._reached.clear()
            self._mark(flush=True)
        self._reached.wait(WAIT_S)

    def close(self) -> None:
        """Put descriptor 2 back."""
        self.flush()
        os.dup2(self._real, STANDARD_ERROR)  # now nobody writes to the pipe, unless a child process still has it
        with contextlib.suppress(OSError):  # somebody has killed the shell
            os.write(self._life, b"goodbye\n")
        os.close(self._life)
        self._thread.join(WAIT_S)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._watcher.wait(WAIT_S)
        os.close(self._real)

    def _mark(self, *, flush: bool = False) -> None:
        state = {"files": " or ".join(self._files)[:MAX_LINE_BYTES], "quiet": self._quiet > 0, "flush": flush}
        with contextlib.suppress(OSError):  # the pipe is full
            os.write(STANDARD_ERROR, b"\n" + MARK + json.dumps(state).encode() + b"\n")

    def _read(self) -> None:
        rest, files, quiet = b"", "", False
        while data := os.read(self._pipe, 2**16):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > 2**16:
                lines, rest = [*lines, rest], b""
            for line in lines:
                if line.startswith(MARK):
                    with contextlib.suppress(ValueError):
                        state = json.loads(line[1:])
                        files, quiet = state["files"], state["quiet"]
                        if state["flush"]:
                            self._reached.set()
                elif text := line[:MAX_LINE_BYTES].decode(errors="replace").strip():
                    self._on_line(Line(text, files, quiet))
        os.close(self._pipe)


def _opened(undo: contextlib.ExitStack, descriptor: int) -> int:
    undo.callback(os.close, descriptor)
    return descriptor


_at_work: list[Caught] = []  # the one in use, if any


def begin(on_line: Callable[[Line], object]) -> None:
    """Catch what libraries write from now on, if that is possible."""
    with contextlib.suppress(OSError):  # descriptor 2 is closed, or there is no shell
        _at_work.append(Caught(on_line))


def flush() -> None:
    """Wait until all that libraries have written has been told."""
    for caught in _at_work:
        caught.flush()


def end() -> None:
    """Undo `begin`."""
    while _at_work:
        _at_work.pop().close()


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Name the file that is read inside this context, for what libraries write of it."""
    with _at_work[-1].reading(name) if _at_work else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def notices(on_line: Callable[[Line], object]) -> Iterator[None]:
    """Tell what is written inside this context as `quiet`, or to `on_line` if nothing was caught before."""
    if _at_work:
        with _at_work[-1].quiet():
            yield
        return
    begin(on_line)
    try:
        yield
    finally:
        end()
