"""A camera or stream that is read all the time. Only its newest frame is kept."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from gradfec_edge.frames import FOREVER_S, Capture, Frame, Image, Opener, Pace, Warn, as_bgr

RETRY_FIRST_S, RETRY_LONGEST_S = 0.25, 5.0
CLOSE_WAIT_S = 2.0
CAP_PROP_FPS = 5  # OpenCV's number; importing OpenCV is left to camera.py


class LiveCamera:
    """A device or stream, read all the time by its own thread. Only the newest frame is kept.

    A camera that fails is closed and opened again, after 0.25 s at first, doubling to 5 s.
    """

    live = True

    def __init__(
        self,
        target: int | str,
        name: str,
        *,
        fps: float | None,
        warn: Warn,
        open_capture: Opener,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        """Start reading, or waiting for a camera that is absent."""
        self.name = name
        self.skipped = 0
        self._target, self._warn, self._open_capture, self._pace = target, warn, open_capture, Pace(fps)
        self.interval = self._pace.interval
        self._number = 0
        self._newest: tuple[Image, float] | None = None
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._sleep = self._closed.wait if sleep is None else sleep
        self.trouble = ""
        self._retry_s = RETRY_FIRST_S
        self._thread = threading.Thread(target=self._run, name=f"camera {name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._capture_and_wait()
        finally:  # even if this thread crashes, next_frame() must not wait forever
            self._end()

    def _capture_and_wait(self) -> None:
        try:
            reason = self._capture_until_it_fails()
        except Exception as error:  # whatever a driver does, the camera is opened again
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if self._closed.is_set():
            return
        before, self.trouble = self.trouble, f"camera {self.name}: {reason}"
        if not before:
            self._warn(f"{self.trouble}; trying again until it answers")
        self._sleep(self._retry_s)
        self._retry_s = min(2 * self._retry_s, RETRY_LONGEST_S)

    def _capture_until_it_fails(self) -> str:
        capture = self._open_capture(self._target)
        try:
            if not capture.isOpened():
                return self._why_it_does_not_open()
            self.interval = _slower(self._pace.interval, interval_of(capture))
            frames = 0
            while not self._closed.is_set():
                ok, image = capture.read()
                if not ok or image is None:
                    break
                self._keep(as_bgr(image, "it"))
                frames += 1
            return "it stopped sending frames" if frames else "it opens but sends no frames"
        finally:
            capture.release()

    def _keep(self, image: Image) -> None:
        if self.trouble:
            self._warn(f"camera {self.name}: it sends frames now")
        self.trouble = ""
        self._retry_s = RETRY_FIRST_S
        with self._changed:
            self.skipped += self._newest is not None
            self._newest = (image, time.monotonic())
            self._changed.notify_all()

    def _why_it_does_not_open(self) -> str:
        device = f"/dev/video{self._target}" if isinstance(self._target, int) else self._target
        if "://" in device or not sys.platform.startswith("linux"):
            return "it cannot be opened"
        if not Path(device).exists():
            return f"there is no {device}"
        if not os.access(device, os.R_OK | os.W_OK):
            return f"permission denied on {device} (is this user in the group that owns it?)"
        return "it cannot be opened (does another program use it?)"

    def next_frame(self, timeout: float = FOREVER_S) -> Frame | None:
        """Return the newest frame if it was not taken yet, or wait at most `timeout` seconds for the next."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._closed.is_set():
                now = time.monotonic()
                wait = self._pace.wait(now)
                if self._newest is not None and wait == 0:
                    (image, captured_at), self._newest = self._newest, None
                    self._pace.took(now)
                    self._number += 1
                    return Frame(self._number - 1, self.name, image, captured_at)
                if now >= deadline:
                    return None
                self._changed.wait(min(wait, deadline - now) if wait > 0 else deadline - now)
        return None

    @property
    def ended(self) -> bool:
        """Whether the camera was closed, the only way in which it ends."""
        return self._closed.is_set()

    def close(self) -> None:
        """Stop reading, and wait for the thread that reads: 2 s at most, because a driver may hang."""
        self._end()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_WAIT_S)

    def _end(self) -> None:
        with self._changed:
            self._closed.set()
            self._changed.notify_all()


def _slower(first: float | None, second: float | None) -> float | None:
    return max((interval for interval in (first, second) if interval is not None), default=None)


def interval_of(capture: Capture) -> float | None:
    """Return the seconds between frames that a camera or file says it has."""
    rate = capture.get(CAP_PROP_FPS)
    return 1 / rate if 0 < rate <= 1000 else None  # streams without a rate report 0, NaN or their clock's 90000
