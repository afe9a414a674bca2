"""What all sources of frames share: the frame, the interface of a source, the pace of --fps, the check of a picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gradfec_common.errors import GradfecError
from gradfec_common.heads import Answer

MAX_IMAGE_PIXELS = 100_000_000
FOREVER_S = 1e9  # thirty years; the limit for a thread's wait is not much higher

Image = NDArray[np.uint8]
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Frame:
    """One picture: `image` is BGR, (h, w, 3) uint8; `number` counts from 0; `captured_at` is time.monotonic()."""

    number: int
    source: str
    image: Image
    captured_at: float


class Source(Protocol):
    """What the edge takes frames from. One thread at a time calls next_frame(); any thread may call close().

    `live`: newest frame only. `interval`: seconds between frames, where known. `skipped`: frames of a camera that
    nobody took, including those that --fps passes over; files of a folder that are not readable images. `trouble`: why
    a camera sends no frames, "" if it does.
    """

    live: bool
    name: str
    interval: float | None
    skipped: int
    trouble: str

    def next_frame(self, timeout: float = FOREVER_S) -> Frame | None:
        """Wait for a frame, at most `timeout` seconds; None if there is none yet, or none will come (see `ended`)."""

    @property
    def ended(self) -> bool:
        """Whether no frame will ever come again."""

    def close(self) -> None:
        """Let go of the device or file, and end the source; a waiting next_frame() returns None."""


@runtime_checkable
class Asker(Source, Protocol):
    """A source whose frames are questions: they come when somebody asks, and each gets one reply.

    `within_s`: how long somebody waits for it. `replies` counts them by outcome.
    """

    within_s: float
    replies: Counter[str]

    def reply(self, frame: Frame, answer: Answer | None) -> None:
        """Hand the answer to the program that asked; None if there will be none."""


class Capture(Protocol):
    """The part of cv2.VideoCapture that is used here. Tests provide their own."""

    def isOpened(self) -> bool: ...  # noqa: D102, N802
    def read(self) -> tuple[bool, Any]: ...  # noqa: D102
    def get(self, prop: int, /) -> float: ...  # noqa: D102
    def release(self) -> None: ...  # noqa: D102


Opener = Callable[[int | str], Capture]


class Pace:
    """Decides when the next frame may go, so that there are at most `fps` a second; None means no limit."""

    def __init__(self, fps: float | None) -> None:
        """Let the first frame go at once."""
        self.interval = None if fps is None else 1 / fps
        self._due = -math.inf

    def wait(self, now: float) -> float:
        """Return the seconds from `now` until the next frame may go, 0 when it may."""
        return max(0.0, self._due - now)

    def took(self, now: float) -> None:
        """Record that a frame went at `now`."""
        if self.interval is not None:
            # If it is a little late, keep the beat, so that the rate does not drift. If it is late by a whole beat or
            # more, do not try to catch up.
            late = now - self._due
            self._due = (self._due if late < self.interval else now) + self.interval


def as_bgr(image: Any, name: object) -> Image:
    """Check a decoded picture and convert it to BGR, (h, w, 3) uint8; GradfecError, with its name, if that fails."""
    if not isinstance(image, np.ndarray) or image.ndim not in {2, 3} or image.size == 0:
        raise GradfecError(f"{name} gives no picture")
    if image.shape[0] * image.shape[1] > MAX_IMAGE_PIXELS:
        raise GradfecError(too_large(name))
    if image.dtype == np.uint16:  # thermal and depth cameras
        image = (image >> 8).astype(np.uint8)
    channels = 1 if image.ndim == 2 else image.shape[2]
    if image.dtype != np.uint8 or channels not in {1, 3, 4}:
        raise GradfecError(f"{name} gives pictures of {channels} channels of {image.dtype}, which are not supported")
    if channels == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)  # (h, w) -> (h, w, 3)
    return np.ascontiguousarray(image[:, :, :3])


def too_large(name: object) -> str:
    """Say that a picture is over the limit."""
    return f"{name} is too large: more than {MAX_IMAGE_PIXELS // 10**6} megapixels"
