"""`gradfec-edge` with a live camera that plays the frames of a file, each at its time.

`python -m gradfec_lab.bench.rivals.played_edge --camera FRAMES.npy ...`; all else is the edge's own.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from gradfec_edge import cameras
from gradfec_edge.frames import FOREVER_S, Frame
from gradfec_lab.bench.rivals.footage import FPS, Playback


class PlayedCamera:
    """The frames (N, h, w, 3) of a file as a live camera, from when the first one is asked for.

    A frame's source is its number in the file. It was captured when it was due, however late it is taken.
    """

    live = True
    skipped = 0
    trouble = ""

    def __init__(self, path: str, fps: float) -> None:
        """Read the file."""
        self.name, self.interval = Path(path).name, 1 / fps
        self._frames = np.load(path)
        self._fps = fps
        self._playback: Playback | None = None
        self._closed = threading.Event()

    def next_frame(self, timeout: float = FOREVER_S) -> Frame | None:
        """See Source."""
        now = time.monotonic()
        deadline = now + timeout
        playback = self._playback = self._playback or Playback(len(self._frames), self._fps, now)
        while (due := playback.next_due) is not None and not self._closed.is_set():
            number = playback.newest(now)
            if number is not None:
                return Frame(number, str(number), self._frames[number], playback.due(number))
            if now >= deadline:
                return None
            self._closed.wait(max(min(due, deadline) - now, 0))
            now = time.monotonic()
        self._closed.set()
        return None

    @property
    def ended(self) -> bool:
        """See Source."""
        return self._closed.is_set()

    def close(self) -> None:
        """See Source."""
        self._closed.set()


def open_played(src: str, *, fps: float | None = None, **_: Any) -> PlayedCamera:
    """Open a file of frames in place of a camera."""
    return PlayedCamera(src, fps or FPS)


if __name__ == "__main__":
    from gradfec_edge.cli import main

    cameras.open_source = open_played  # type: ignore[assignment, attr-defined]
    main(prog_name="gradfec-edge")
