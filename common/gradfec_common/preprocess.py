"""From a camera frame to the picture that the network sees: every path that feeds a network goes through here."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gradfec_common.heads import Place
from gradfec_common.networks import Preprocess

Picture = NDArray[np.uint8]


def to_input(frame: Picture, preprocess: Preprocess) -> Picture:
    """Turn a BGR frame (h, w, 3) of any size into the RGB picture (height, width, 3), by the `fit` of `preprocess`.

    Bicubic, but by area where each side shrinks to half or less: OpenCV's bicubic reads 4 x 4 pixels however much it
    shrinks, and would turn a camera's fine detail into noise.

    ValueError for anything but a non-empty uint8 image of three channels.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"a frame is uint8 (h, w, 3), not {frame.dtype} {frame.shape}")
    left, top, right, bottom = seen_part((frame.shape[0], frame.shape[1]), preprocess)
    if preprocess.fit != "pad":
        # At least a pixel: of a line, less may be seen.
        top, left = min(round(top), frame.shape[0] - 1), min(round(left), frame.shape[1] - 1)
        bottom, right = max(round(bottom), top + 1), max(round(right), left + 1)
        frame = _resized(frame[top:bottom, left:right], preprocess.size)
    else:
        # The part that is seen is larger than the frame, which fills its middle.
        height, width = preprocess.size
        inner = (
            max(round(frame.shape[0] * height / (bottom - top)), 1),
            max(round(frame.shape[1] * width / (right - left)), 1),
        )
        y, x = (height - inner[0]) // 2, (width - inner[1]) // 2
        padded = np.full((height, width, 3), preprocess.fill, np.uint8)
        padded[y : y + inner[0], x : x + inner[1]] = _resized(frame, inner)
        frame = padded
    return np.ascontiguousarray(frame[..., ::-1])


def seen_part(size: tuple[int, int], preprocess: Preprocess) -> tuple[float, float, float, float]:
    """Return what the network sees of a frame of `size` (h, w): left, top, right, bottom, in the frame's pixels.

    Padding lies outside the frame.
    """
    h, w = size
    if preprocess.fit == "squash":
        return 0.0, 0.0, float(w), float(h)
    shape = preprocess.width / preprocess.height
    height = min(h, w / shape) * preprocess.keep if preprocess.fit == "crop" else max(h, w / shape)
    width = height * shape
    return (w - width) / 2, (h - height) / 2, (w + width) / 2, (h + height) / 2


def seen_share(frame: Picture, preprocess: Preprocess) -> Place:
    """Return `seen_part` of a frame (h, w, 3), in fractions of its width and height."""
    h, w = frame.shape[:2]
    left, top, right, bottom = seen_part((h, w), preprocess)
    return left / w, top / h, right / w, bottom / h


def _resized(frame: Picture, size: tuple[int, int]) -> Picture:
    if frame.shape[:2] == size:
        return frame
    shrinks = frame.shape[0] >= 2 * size[0] and frame.shape[1] >= 2 * size[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(frame, size[::-1], interpolation=method), np.uint8)
