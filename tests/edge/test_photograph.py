"""The small JPEG of what the camera sees."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from gradfec_common.sketch import JPEG_MAGIC, MAX_PHOTOGRAPH_BYTES
from gradfec_edge.photograph import fitted, jpeg


def decoded(encoded: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1]  # BGR -> RGB


@pytest.mark.parametrize("side", [160, 224])
def test_an_image_comes_back_at_its_size_with_its_colours(side: int) -> None:
    image = np.zeros((224, 224, 3), np.uint8)
    image[:, :112], image[:, 112:] = (200, 30, 20), (10, 20, 190)
    encoded = jpeg(image, (side, side))
    assert encoded.startswith(JPEG_MAGIC)
    again = decoded(encoded)
    assert again.shape == (side, side, 3)
    assert np.abs(again[5, 5].astype(int) - (200, 30, 20)).max() < 12
    assert np.abs(again[5, -5].astype(int) - (10, 20, 190)).max() < 12


def test_the_worst_image_is_made_to_fit() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    assert len(jpeg(noise, (160, 160))) > MAX_PHOTOGRAPH_BYTES
    assert 0 < len(jpeg(noise, (160, 160), MAX_PHOTOGRAPH_BYTES)) <= MAX_PHOTOGRAPH_BYTES


def test_what_cannot_be_made_to_fit_is_left_out() -> None:
    assert jpeg(np.zeros((224, 224, 3), np.uint8), (160, 160), 100) == b""


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(480, 640, (448, 336)), (640, 480, (336, 448)), (30, 40, (40, 30)), (1, 5000, (448, 1))],
)
def test_a_large_image_is_made_smaller_and_keeps_its_shape(height: int, width: int, size: tuple[int, int]) -> None:
    assert fitted(np.zeros((height, width, 3), np.uint8), 448) == size
