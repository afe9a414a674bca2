"""What libraries write to standard error from C, caught line by line, with the file that they read.

libpng, libjpeg, OpenCV, TensorFlow and libuv write to descriptor 2, past Python and its logging. Here descriptor 2
becomes a pipe, and a thread reads it. Two things must not happen:

- A library that writes much must not hang. It may hold Python's lock, and then the thread cannot read. So a write to a
  full pipe fails, and the library goes on; the text is lost.
- A process that crashes must not take its last words along. So a line stays in the pipe until it is in the log: the
  thread works on a copy, which tee(2) makes. And a shell waits beside the process: if that ends without a goodbye, the
  shell writes what is left in the pipe to the real standard error.

All this needs Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

STANDARD_ERROR = 2
PIPE_BYTES = 2**20  # the most that Linux gives anybody
MAX_LINE_BYTES = 1000
WAIT_S = 1.0  # for the thread, or the shell
COPIED_BYTES = 2**16  # at once
REST_S, MOST_TRIES = 0.02, 50  # for the end of a line
NO_WAIT = 2  # SPLICE_F_NONBLOCK
MARK = b"\x1e"  # begins a line of our own, a `State`; it is the ASCII record separator
# Its input is the pipe, its output the real standard error. Descriptor 2 is a pipe on which we say goodbye. When
# systemd asks all processes of a service to end, it stays, because the service may still crash.
WATCHER = ["/bin/sh", "-c", f"trap '' TERM HUP; read goodbye <&2 || exec sed '/^{MARK.decode()}/d;/^$/d'"]
LIBC = ctypes.CDLL(None, use_errno=True)


class State(NamedTuple):
    """What holds for the lines that follow: which files are read, whether only notices are written."""

    files: str = ""
    quiet: bool = False
    flush: bool = False  # somebody waits until this is read
    last: bool = False  # nothing follows


class Pipe:
    """Two descriptors."""

    def __init__(self) -> None:
        """Open them."""
        self.read_end, self.write_end = os.pipe()

    def close(self) -> None:
        """Close both."""
        os.close(self.read_end)
        os.close(self.write_end)


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
        self._quiet, self._ended = 0, False
        self._reached = threading.Event()  # the thread has read all that was written before `flush`
        self._real = os.dup(STANDARD_ERROR)
        self._pipe, self._copies, self._life = Pipe(), Pipe(), Pipe()
        with contextlib.suppress(OSError):  # this user has many pipes: then it is a small one
            fcntl.fcntl(self._pipe.write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self._pipe.write_end, False)
        try:
            if self._tee(NO_WAIT) != errno.EAGAIN:
                raise OSError("there is no tee(2)")
            self._watcher = subprocess.Popen(
                WATCHER,
                stdin=self._pipe.read_end,
                stdout=self._real,
                stderr=self._life.read_end,
                start_new_session=True,  # Ctrl-C is not for it
            )
        except OSError:
            self._close_all()
            raise
        os.dup2(self._pipe.write_end, STANDARD_ERROR)
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
        os.dup2(self._real, STANDARD_ERROR)
        with self._lock:
            self._mark(last=True)
            self._ended = True
        with contextlib.suppress(OSError):  # somebody has killed the shell
            os.write(self._life.write_end, b"goodbye\n")
        self._thread.join(WAIT_S)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._watcher.wait(WAIT_S)
        if not self._thread.is_alive():
            self._close_all()

    def _close_all(self) -> None:
        for pipe in (self._pipe, self._copies, self._life):
            pipe.close()
        os.close(self._real)

    def _mark(self, *, flush: bool = False, last: bool = False) -> None:
        if self._ended:  # another file may have the descriptor
            return
        state = State(" or ".join(self._files)[:MAX_LINE_BYTES], self._quiet > 0, flush, last)
        with contextlib.suppress(OSError):  # the pipe is full
            os.write(self._pipe.write_end, b"\n" + MARK + json.dumps(state._asdict()).encode() + b"\n")

    def _read(self) -> None:
        state, tries = State(), 0
        while not state.last:
            data = self._copy()
            end = data.rfind(b"\n") + 1
            if not end and tries < MOST_TRIES and len(data) < COPIED_BYTES:  # the rest of the line may be on its way
                tries += 1
                time.sleep(REST_S)
                continue
            tries, end = 0, end or len(data)
            for line in data[:end].split(b"\n"):
                if line.startswith(MARK):
                    state = self._marked(line) or state
                elif text := line[:MAX_LINE_BYTES].decode(errors="replace").strip():
                    self._on_line(Line(text, state.files, state.quiet))
            os.read(self._pipe.read_end, end)

    def _copy(self) -> bytes:
        """Wait, and return what is in the pipe without taking it out."""
        while (number := self._tee()) == errno.EINTR:
            pass
        if number:
            raise OSError(number, os.strerror(number))
        return os.read(self._copies.read_end, COPIED_BYTES)

    def _tee(self, flags: int = 0) -> int:
        """Copy what is in the pipe; return an error's number, or 0."""
        done = LIBC.tee(self._pipe.read_end, self._copies.write_end, COPIED_BYTES, flags)
        return ctypes.get_errno() if done < 0 else 0

    def _marked(self, line: bytes) -> State | None:
        try:
            state = State(**json.loads(line[1:]))
        except (ValueError, TypeError):  # a library wrote it
            return None
        if state.flush:
            self._reached.set()
        return state


_at_work: list[Caught] = []  # the one in use, if any


def begin(on_line: Callable[[Line], object]) -> None:
    """Catch what libraries write from now on, if that is possible."""
    if sys.platform == "linux":
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
