"""Pictures in memory: scaled, as JPEG, as planes of a video, and with their number in a strip below.

A decoder says at best when it shows a picture, not which one that is, and on a lossy link it leaves some out. So a
video's pictures have 16 rows more than the network sees, one macroblock: black and white blocks, the bits of the
frame's number and their parity. This costs the video a few bytes a frame, and not one of the picture's own pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]  # (h, w, 3) BGR
Pictures = npt.NDArray[np.uint8]  # (N, h, w, 3) BGR
BLOCK = 16  # pixels: a macroblock
WHITE = 255


def scaled(picture: Picture, short: int) -> Picture:
    """Scale a picture so that its short side has `short` pixels."""
    height, width = picture.shape[:2]
    ratio = short / min(height, width)
    size = max(round(width * ratio), short), max(round(height * ratio), short)
    return np.asarray(
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC), np.uint8
    )


def to_jpeg(picture: Picture, quality: int) -> bytes:
    """Code a BGR picture (h, w, 3) as JPEG, at a quality from 0 to 100."""
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "a picture that OpenCV cannot code"  # noqa: S101
    return data.tobytes()


def from_jpeg(data: bytes) -> Picture:
    """Decode what `to_jpeg` has made."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def to_planes(picture: Picture) -> bytes:
    """Return a picture as I420: all of Y, then a quarter as much of U, and of V."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)).tobytes()


def from_planes(planes: bytes, width: int) -> Picture:
    """Return the picture whose I420 it is."""
    rows = np.frombuffer(planes, np.uint8).reshape(-1, width)
    return np.asarray(cv2.cvtColor(rows, cv2.COLOR_YUV2BGR_I420), np.uint8)


def marked(picture: Picture, number: int) -> Picture:
    """Return a picture with its number in 16 more rows below."""
    bits = mark(number, picture.shape[1] // BLOCK)
    row = np.repeat(np.where(bits, WHITE, 0), BLOCK).astype(np.uint8)
    strip = np.broadcast_to(row[None, :, None], (BLOCK, len(row), 3))
    return np.concatenate([picture, strip])


def unmarked(picture: Picture) -> tuple[Picture, int | None]:
    """Return the picture above the strip, and its number; None if the strip is damaged."""
    strip = picture[-BLOCK:].reshape(BLOCK, -1, BLOCK, 3)  # (16 rows, blocks, 16 columns, 3)
    bits = strip[4:-4, :, 4:-4].mean(axis=(0, 2, 3)) > WHITE / 2
    number = int(np.dot(bits[:-1], 1 << np.arange(len(bits) - 1)))
    return picture[:-BLOCK], number if np.array_equal(mark(number, len(bits)), bits) else None


def mark(number: int, blocks: int) -> npt.NDArray[np.bool_]:
    """Return a number's bits (blocks,), the lowest first, and odd parity at the end: a grey strip has no number."""
    bits = (number >> np.arange(blocks - 1) & 1).astype(bool)
    return np.append(bits, bits.sum() % 2 == 0)
