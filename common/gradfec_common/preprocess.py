"""From a camera frame to the picture that the network sees: every path that feeds a network goes through here."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gradfec_common.networks import Preprocess


def to_input(frame: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Resize a BGR frame (h, w, 3) of any size to RGB (side, side, 3), the whole frame, without cropping.

    Bicubic, but by area where each side shrinks to half or less: OpenCV's bicubic reads 4 x 4 pixels however much it
    shrinks, and would turn a camera's fine detail into noise.

    ValueError for anything but a non-empty uint8 image of three channels.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"a frame is uint8 (h, w, 3), not {frame.dtype} {frame.shape}")
    side = preprocess.side
    if frame.shape[:2] != (side, side):
        method = cv2.INTER_AREA if min(frame.shape[:2]) >= 2 * side else cv2.INTER_CUBIC
        frame = np.asarray(cv2.resize(frame, (side, side), interpolation=method), np.uint8)
    return np.ascontiguousarray(frame[..., ::-1])
