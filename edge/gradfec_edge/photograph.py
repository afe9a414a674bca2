"""What the camera sees, as a small JPEG for people to look at."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

QUALITIES = (75, 50, 30, 15)  # of JPEG: the first that is small enough


def fitted(image: npt.NDArray[np.uint8], side: int) -> tuple[int, int]:
    """Return the size (width, height) of an image (h, w, 3), made smaller so that the longer side has `side` pixels."""
    height, width = image.shape[:2]
    scale = min(side / max(height, width), 1.0)
    return max(round(scale * width), 1), max(round(scale * height), 1)


def jpeg(image: npt.NDArray[np.uint8], size: tuple[int, int], most_bytes: int | None = None) -> bytes:
    """Return an RGB image (h, w, 3), resized to (width, height), as a JPEG of at most `most_bytes`; else b""."""
    if image.shape[1::-1] != size:
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    for quality in QUALITIES:
        done, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        if done and (most_bytes is None or len(encoded) <= most_bytes):
            return encoded.tobytes()
    return b""
