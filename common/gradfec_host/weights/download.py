"""Run a program that downloads: watch its progress, give up if nothing arrives, leave no process behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL_S = 0.25
STALL_S = 120  # without a new byte
LIMIT_S = 3600


class DownloadError(Exception):
    """The program failed; `output` is what it printed."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output


def run_download(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, watch: Callable[[int], None]
) -> None:
    """Run `command` in `folder` until it ends, and tell `watch` how many bytes have arrived; DownloadError if it fails.

    Kill the process if nothing arrives for STALL_S, after LIMIT_S, or if this process is interrupted.
    """
    log = folder / "output.log"
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise DownloadError(f"cannot run {command[0]}: {error.strerror}") from error
        try:
            _wait(process, folder, watch)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise DownloadError(log.read_text("utf-8", "replace"))


def _wait(process: subprocess.Popen[bytes], folder: Path, watch: Callable[[int], None]) -> None:
    arrived = idle = 0
    for _ in range(round(LIMIT_S / POLL_S)):  # counts polls
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            return
        before, arrived = arrived, _largest_file(folder)
        idle = 0 if arrived > before else idle + 1
        if idle * POLL_S > STALL_S:
            raise DownloadError(f"nothing arrived for {STALL_S} s")
        watch(arrived)
    raise DownloadError(f"not done after {LIMIT_S} s")


def _largest_file(folder: Path) -> int:
    """Return the size in bytes of the largest file, the download; npm makes a second copy at the end."""
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # the process may move or remove it meanwhile
            size = max(size, path.stat().st_size)
    return size
