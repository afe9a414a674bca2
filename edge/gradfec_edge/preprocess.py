"""From a camera frame to what ResNet-50 was trained on: the one place, used by every path that feeds the network."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 224  # pixels, height and width of the network's input
# Means over ImageNet of blue, green and red, which `keras.applications.resnet50.preprocess_input` ("caffe") subtracts.
MEANS = np.array([103.939, 116.779, 123.68], np.float32)


def to_input(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize a BGR frame (h, w, 3) of any size to RGB (224, 224, 3), the whole frame, without cropping.

    Bicubic, but by area where each side shrinks to half or less: OpenCV's bicubic reads 4 x 4 pixels however much it
    shrinks, and would turn a camera's fine detail into noise.

    ValueError for anything but a non-empty uint8 image of three channels.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"a frame is uint8 (h, w, 3), not {frame.dtype} {frame.shape}")
    if frame.shape[:2] != (SIDE, SIDE):
        method = cv2.INTER_AREA if min(frame.shape[:2]) >= 2 * SIDE else cv2.INTER_CUBIC
        frame = np.asarray(cv2.resize(frame, (SIDE, SIDE), interpolation=method), np.uint8)
    return np.ascontiguousarray(frame[..., ::-1])


def normalise(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn RGB uint8 (..., 3) into float32 BGR minus the ImageNet means, as Keras's preprocess_input for ResNet-50."""
    return np.subtract(image[..., ::-1], MEANS, dtype=np.float32)
