"""What image files and video files share: frames that wait, in order, until they are taken."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator

from gradfec_common.errors import GradfecError
from gradfec_edge.frames import FOREVER_S, Frame, Image, Pace, Warn


class FiniteSource(ABC):
    """Frames that wait until they are taken, each exactly once. Then the source ends, or starts over."""

    live = False
    trouble = ""

    def __init__(self, name: str, loop: bool, fps: float | None, warn: Warn) -> None:
        """Read the first picture; GradfecError, at once, if there is none."""
        self.name = name
        self.skipped = 0
        self._loop, self._warn, self._pace = loop, warn, Pace(fps)
        self.interval = self._pace.interval
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._number = 0
        self._pictures = self._all_passes()
        self._ahead = next(self._pictures, None)
        self._ended = self._ahead is None
        if self._ended:
            raise GradfecError(self._nothing())

    @abstractmethod
    def _one_pass(self) -> Iterator[tuple[str, Image]]:
        """Yield each (name, picture) once."""

    @abstractmethod
    def _nothing(self) -> str:
        """Return the error message for a source without pictures."""

    def _all_passes(self) -> Generator[tuple[str, Image], None, None]:
        sent = True
        while sent:
            sent = False
            for picture in self._one_pass():
                yield picture
                sent = self._loop

    def next_frame(self, timeout: float = FOREVER_S) -> Frame | None:
        """Return the next frame when it is due. If that is not within `timeout` seconds, return None and keep it."""
        with self._lock:
            if self._ahead is None:
                self._ahead = next(self._pictures, None)
            if self._ahead is None:
                self._ended = True
                return None
            wait = self._pace.wait(time.monotonic())
            if wait > 0 and (self._closed.wait(min(wait, timeout)) or wait > timeout):
                return None
            (source, image), self._ahead = self._ahead, None
            now = time.monotonic()
            self._pace.took(now)
            self._number += 1
            return Frame(self._number - 1, source, image, now)

    @property
    def ended(self) -> bool:
        """Whether every frame was taken, or the source was closed."""
        return self._ended or self._closed.is_set()

    def close(self) -> None:
        """End the source; frames not yet taken are not sent."""
        self._closed.set()
        with self._lock:
            self._ahead = None
            self._pictures.close()
