"""The real daemons as child processes on loopback; none is left behind."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import IO, Any

from gradfec_common.errors import GradfecError
from gradfec_common.keys import new_key
from gradfec_host.config import CONFIG_VARIABLE
from gradfec_host.key_files import KEY_FILE_VARIABLE, write_key

READY_S = 300.0  # first start of a cloud: TensorFlow's import on a slow machine, and the download of the weights
STOP_S = 15.0
# The ports that `free_port` tries, in turn. A program that asks for any port never gets one of them from the kernel
# (Linux: from 32,768 on), so a free one stays free until its daemon has started. They are shuffled, so that two
# programs begin at different ones.
PORTS: Iterator[int] = cycle(random.sample(range(20_000, 32_000), 1000))
ERROR = re.compile(r"(?:\S+ \S+ )?error: *(.*)", re.IGNORECASE)  # the line that ends a program, after its time


class Daemon:
    """A running daemon: the lines of its standard output, and the last lines of its log."""

    def __init__(
        self, name: str, arguments: list[str], program: Sequence[str] | None = None, pass_fds: Sequence[int] = ()
    ) -> None:
        """Start `python -m module arguments...` for the daemon `name`, or `program` instead, with these open files."""
        self.name = name
        self.process = subprocess.Popen(
            [*(program or (sys.executable, "-m", MODULES[name])), *arguments],
            env=with_key(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
        self.said: deque[str] = deque(maxlen=200)
        self._changed = threading.Condition()
        self._silent = False  # standard error is closed: the daemon has ended
        self._printed: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # lines of standard output, then None
        # Read both all the time: an unread pipe fills up, and then the daemon hangs in the middle of a print.
        self._listener = threading.Thread(target=self._listen, args=(self.process.stderr,), daemon=True)
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._listener.start()
        self._reader.start()

    def wait_until_it_says(self, words: str, timeout_s: float = READY_S) -> None:
        """Wait for a log line that contains `words`; GradfecError if the daemon ends first."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_said(words) or self._silent, timeout_s)
            if not self._has_said(words):
                raise self.failure()

    def said_after(self, words: str) -> str:
        """Return what follows `words` in the last log line that contains them."""
        return next(line for line in reversed(self.said) if words in line).partition(words)[2]

    def lines(self) -> Iterator[str]:
        """Yield the lines of standard output that were not yielded before, until the daemon ends."""
        yield from iter(self._printed.get, None)
        self._printed.put(None)  # for the next call

    def stop(self) -> list[str]:
        """Stop the daemon, and return the rest of its standard output."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._listener.join(timeout=1)
        return [*self.lines()]

    def totals(self) -> dict[str, Any]:
        """Stop the daemon, and return the totals that it prints at the end with --json."""
        lines = self.stop()
        if self.process.returncode or not lines:
            raise self.failure()
        totals: dict[str, Any] = json.loads(lines[-1])
        return totals

    def failure(self) -> GradfecError:
        """Return the error that says how the daemon ended."""
        self._listener.join(timeout=1)
        said = [line for line in self.said if line.strip()]
        errors = [found[1] for line in said if (found := ERROR.fullmatch(line))]
        last = " / ".join(errors[-1:] or said[-3:]) or "it logged nothing"
        with contextlib.suppress(subprocess.TimeoutExpired):
            return GradfecError(f"{self.name} ended with exit code {self.process.wait(timeout=1)}: {last}")
        return GradfecError(f"{self.name} hangs: {last}")

    def _listen(self, stderr: IO[str]) -> None:
        with stderr:
            for line in stderr:
                with self._changed:
                    self.said.append(line.rstrip())
                    self._changed.notify_all()
        with self._changed:
            self._silent = True
            self._changed.notify_all()

    def _read(self, stdout: IO[str]) -> None:
        with stdout:
            for line in stdout:
                self._printed.put(line.rstrip("\n"))
        self._printed.put(None)

    def _has_said(self, words: str) -> bool:
        return any(words in line for line in self.said)


@cache
def own_key() -> Path:
    """Make a key that only the daemons of this process need; return its file."""
    folder = tempfile.TemporaryDirectory(prefix="gradfec-key-")
    atexit.register(folder.cleanup)
    write_key(Path(folder.name) / "key", new_key(os.urandom))
    return Path(folder.name) / "key"


def with_key() -> dict[str, str]:
    """Return a daemon's environment, with the key of this process.

    It reads no settings file: the user's own settings must not change a measurement.
    """
    return {**os.environ, KEY_FILE_VARIABLE: str(own_key()), CONFIG_VARIABLE: os.devnull}


MODULES = {"gradfec-edge": "gradfec_edge", "gradfec-cloud": "gradfec_cloud", "gradfec-netem": "gradfec_cli.netem"}


@contextlib.contextmanager
def daemon(
    name: str,
    *arguments: str | float,
    ready: str | None = None,
    program: Sequence[str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[Daemon]:
    """Run a daemon for the length of a `with` block, once it has logged `ready`; stop it afterwards."""
    running = Daemon(name, [str(argument) for argument in arguments], program, pass_fds)
    try:
        if ready is not None:
            running.wait_until_it_says(ready)
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


def free_port() -> int:
    """Return a port of the loopback interface that is free now, for UDP and for TCP."""
    for port in PORTS:
        with (
            contextlib.suppress(OSError),
            socket.socket(type=socket.SOCK_DGRAM) as udp,
            socket.socket(type=socket.SOCK_STREAM) as tcp,
        ):
            udp.bind(("127.0.0.1", port))
            tcp.bind(("127.0.0.1", port))
            return port
    raise AssertionError("PORTS has no end")
