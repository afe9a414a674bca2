"""Untrusted JPEG files: photographs come out, and whatever else comes in is an error and no more."""

from __future__ import annotations

import contextlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_common.jpeg import MOST_SCANS, read_jpeg

PICTURE = np.repeat(np.arange(0, 240, 8, dtype=np.uint8), 3).reshape(1, 30, 3).repeat(20, axis=0)


def jpeg(*settings: int) -> bytes:
    return cv2.imencode(".jpg", PICTURE, settings)[1].tobytes()


FILE = jpeg()


def exif(orientation: int) -> bytes:
    """Return an EXIF segment that says how the camera was held."""
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + orientation.to_bytes(2, "big") + bytes(6)
    body = b"Exif\0\0" + tiff
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


@pytest.mark.parametrize("file", [FILE, jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1), FILE + b"more"])
def test_a_photograph_is_decoded(file: bytes) -> None:
    assert np.abs(read_jpeg(file).astype(int) - PICTURE).max() < 12


def test_a_photograph_that_was_taken_on_the_side_comes_out_upright() -> None:
    assert read_jpeg(FILE[:2] + exif(6) + FILE[2:]).shape == (30, 20, 3)


def with_sides(height: int, width: int) -> bytes:
    at = FILE.index(b"\xff\xc0") + 5
    return FILE[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + FILE[at + 4 :]


def behind_a_restart(file: bytes) -> bytes:
    """Return a file that says its sides again where it would go on if a restart marker had a length."""
    frame = FILE.index(b"\xff\xc0")
    whole = b"\xff\xd8\xff\xd0" + file[2:]
    return whole.ljust(4 + int.from_bytes(file[2:4], "big"), b"\0") + FILE[frame:]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", "it is not a JPEG file"),
        (b"\xff\xd8", "it is not a JPEG file"),
        (cv2.imencode(".png", PICTURE)[1].tobytes(), "it is not a JPEG file"),
        (FILE[: FILE.index(b"\xff\xc0")], "it is not a JPEG file"),
        (with_sides(0, 30), "it is not a JPEG file"),
        (behind_a_restart(with_sides(20_000, 20_000)), "it is not a JPEG file"),
        (with_sides(65_500, 65_500), "the picture has 65500 x 65500 pixels, and at most 33554432 are allowed"),
        (FILE + b"\xff\xda" * MOST_SCANS, "the file has more than 64 scans"),
        (FILE[: FILE.index(b"\xff\xda")] + b"\xff\xd9", "the JPEG file is damaged"),
    ],
)
def test_what_is_no_photograph_is_refused_with_the_reason(file: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_jpeg(file)


@given(st.binary(max_size=200), st.integers(0, len(FILE)), st.integers(0, 10))
def test_a_file_with_any_bytes_in_it_is_decoded_or_refused(noise: bytes, at: int, cut: int) -> None:
    for file in (noise, b"\xff\xd8" + noise, FILE[:at] + noise + FILE[at + cut :]):
        with contextlib.suppress(ValueError):
            assert read_jpeg(file).dtype == np.uint8
