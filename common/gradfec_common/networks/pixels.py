"""Between a picture and a network's input: every path that feeds a network goes through here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.networks.network import Preprocess

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def normalise(image: Image, preprocess: Preprocess) -> Floats:
    """Turn RGB uint8 (..., 3) into the float32 that the network was trained on, (pixels - means) * scales."""
    pixels = image[..., ::-1] if preprocess.order == "bgr" else image
    centred: Floats = np.subtract(pixels, np.array(preprocess.means, np.float32), dtype=np.float32)
    return centred if preprocess.scales == (1, 1, 1) else centred * np.array(preprocess.scales, np.float32)


def picture_of(tensor: Floats, preprocess: Preprocess) -> Image:
    """Undo `normalise`: turn finite float32 (..., 3) into RGB uint8; what no pixel became is moved to the nearest."""
    pixels = tensor.astype(np.float64) / np.array(preprocess.scales) + np.array(preprocess.means, np.float64)
    image = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(image[..., ::-1] if preprocess.order == "bgr" else image)
