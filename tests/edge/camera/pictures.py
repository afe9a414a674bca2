"""Pictures and videos as sources, and all frames of a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gradfec_edge.camera import Frame, Source

PATIENCE_S = 30.0  # how long a test waits for a thread before it fails; never waited for when it passes
Picture = np.ndarray[Any, np.dtype[np.uint8]]


def picture(value: int, height: int = 12, width: int = 16) -> Picture:
    return np.full((height, width, 3), value, np.uint8)


def save(path: Path, image: Any) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def save_video(path: Path, count: int, rate: float = 10) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (64, 48))
    for number in range(count):
        writer.write(picture(20 * number, 48, 64))
    writer.release()
    return path


def every_frame(source: Source, at_most: int = 1000) -> list[Frame]:
    taken: list[Frame] = []
    while not source.ended and len(taken) < at_most:
        frame = source.next_frame(PATIENCE_S)
        if frame is not None:
            taken.append(frame)
    source.close()
    return taken
