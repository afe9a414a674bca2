"""Photographs as untrusted JPEG files, in memory."""

from __future__ import annotations

import re
import struct

import cv2
import numpy as np
import numpy.typing as npt

MOST_PIXELS = 2**25  # 33 megapixels, 100 MB once decoded
MOST_SCANS = 64  # each costs a decoder a pass over the picture, however few bytes it has; libjpeg writes 10
START = b"\xff\xd8"
SCAN = b"\xff\xda"
# Marker, bytes that follow. Restarts, which are markers alone, are not at home before a frame.
SEGMENT = re.compile(rb"\xff+([\xc0-\xcf\xda-\xfe])(..)", re.DOTALL)
FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
SIDES = struct.Struct(">xHH")  # of a frame header: bits, height, width


def read_jpeg(untrusted: bytes) -> npt.NDArray[np.uint8]:
    """Decode a JPEG file to BGR (h, w, 3), upright; ValueError if it is not one, or is too large.

    A decoder allocates what a header asks for, and a header of a few bytes may ask for gigabytes: so it is read first.
    """
    sides = _sides(untrusted)
    if sides is None:
        raise ValueError("it is not a JPEG file")
    height, width = sides
    if height * width > MOST_PIXELS:
        raise ValueError(f"the picture has {width} x {height} pixels, and at most {MOST_PIXELS} are allowed")
    if untrusted.count(SCAN) > MOST_SCANS:
        raise ValueError(f"the file has more than {MOST_SCANS} scans")
    try:
        picture = cv2.imdecode(np.frombuffer(untrusted, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None or {*picture.shape[:2]} != {*sides}:  # it may have been turned
        raise ValueError("the JPEG file is damaged")
    return np.asarray(picture, np.uint8)


def _sides(untrusted: bytes) -> tuple[int, int] | None:
    """Return the height and width that a file's first frame header says; None if there is none, or one is 0."""
    at = len(START)
    while untrusted.startswith(START) and (segment := SEGMENT.match(untrusted, at)):
        if segment[1][0] in FRAMES and len(untrusted) >= segment.end() + SIDES.size:
            height, width = SIDES.unpack_from(untrusted, segment.end())
            return (height, width) if height and width else None
        if segment[1][0] == SCAN[1]:
            return None
        at = segment.start(2) + int.from_bytes(segment[2], "big")
    return None
