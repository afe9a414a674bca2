"""A camera that pans slowly over photographs: the same frames, at the same times, for every rival."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_lab.bench.rivals.pictures import Picture, Pictures, scaled
from gradfec_lab.photographs import Photographs

SIDE = 224  # pixels, of a frame
ROOM = 256  # pixels: the square in the middle of a photograph over which the camera pans
FPS = 5
FRAMES_A_PHOTOGRAPH = 10  # two seconds
LEAD_IN = 20  # frames that do not count: connections open, codecs start, and rates find their place


def pan(photograph: Picture) -> Pictures:
    """Return the frames (10, 224, 224, 3) of a camera that moves along the diagonal of a photograph's middle."""
    picture = scaled(photograph, ROOM)
    down, across = ((length - ROOM) // 2 for length in picture.shape[:2])
    steps = np.linspace(0, ROOM - SIDE, FRAMES_A_PHOTOGRAPH).round().astype(int)
    return np.stack([picture[down + n : down + n + SIDE, across + n : across + n + SIDE] for n in steps])


class Film(NamedTuple):
    """What the camera takes: frames (N, 224, 224, 3), and the name of the photograph in each."""

    frames: Pictures
    sources: list[str]


def panned(photographs: Photographs, count: int) -> Film:
    """Film the first `count` usable photographs; UsageError if there is none."""
    frames: list[Pictures] = []
    names: list[str] = []
    for name in photographs.names:
        if len(frames) == count:
            break
        photograph = photographs.picture(name)
        if photograph is not None:
            frames.append(pan(photograph))
            names += FRAMES_A_PHOTOGRAPH * [name]
    if not frames:
        raise UsageError(f"no image of {photographs.folder} can be used: {next(iter(photographs.skipped.values()))}")
    return Film(np.concatenate(frames), names)


@dataclass(frozen=True)
class Footage:
    """What is sent over a link: frames (N, 224, 224, 3), and the photograph and the uncut model's class of each."""

    frames: Pictures
    sources: list[str]
    truth: npt.NDArray[np.intp]

    @classmethod
    def of(cls, film: Film, truth: npt.NDArray[np.intp], seconds: float | None) -> Footage:
        """Put the lead-in, the first photograph, before the film; cut or repeat this to a length, if there is one."""
        count = len(film.frames) if seconds is None else round(seconds * FPS)
        places = np.concatenate([np.arange(LEAD_IN) % FRAMES_A_PHOTOGRAPH, np.arange(count) % len(film.frames)])
        return cls(film.frames[places], [film.sources[place] for place in places], truth[places])

    @property
    def seconds(self) -> float:
        """Return how long it runs, lead-in included."""
        return len(self.frames) / FPS


class Playback:
    """A camera's clock: at a time, the newest frame is there and the ones before are gone."""

    def __init__(self, count: int, fps: float, start: float) -> None:
        """Show the first of `count` frames at `start`, by time.monotonic()."""
        self._count, self._fps, self._start = count, fps, start
        self._taken = -1  # the frame that was taken last

    def due(self, frame: int) -> float:
        """Return when a frame is taken."""
        return self._start + frame / self._fps

    def newest(self, now: float) -> int | None:
        """Return the newest frame that was not taken yet, and take it; None if there is none."""
        frame = min(int((now - self._start) * self._fps + 1e-6), self._count - 1)
        if now < self._start or frame <= self._taken:
            return None
        self._taken = frame
        return frame

    @property
    def next_due(self) -> float | None:
        """Return when the next frame will be there, or None after the last."""
        return self.due(self._taken + 1) if self._taken + 1 < self._count else None

    def __iter__(self) -> Iterator[int]:
        """Wait for frames, and yield the newest whenever the reader is ready for one."""
        while (due := self.next_due) is not None:
            time.sleep(max(due - time.monotonic(), 0))
            frame = self.newest(time.monotonic())
            if frame is not None:
                yield frame
