"""Untrusted image files: whether they are what an encoder here writes, and what of them can be decoded.

A decoder allocates what a header asks for, and a header of a few bytes may ask for gigabytes. So only a file that says
it has the right size, and that has no more than what our encoders write, goes to a decoder.
"""

from __future__ import annotations

import re
import struct

Size = tuple[int, int]  # height and width, in pixels

SIDES = struct.Struct(">BHHB")  # of a JPEG frame header: bits, height, width, components
START, END = b"\xff\xd8", b"\xff\xd9"
BASELINE, PROGRESSIVE = 0xC0, 0xC2  # frames
TABLES = {0xC4, 0xDB, 0xE0}  # Huffman, quantisation, JFIF
SCAN, STOP = 0xDA, 0xD9
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # among coded data: what is neither a byte 255 nor a restart
SEGMENT = re.compile(rb"\xff([\x01-\xfe])", re.DOTALL)
MARKER_BYTES = 2
MAX_SCANS = 10  # as libjpeg writes: each costs a decoder a pass over the picture, however few bytes it has
MAX_SEGMENTS = 64  # twice what libjpeg writes

RIFF = struct.Struct("<4sI4s4sI")  # "RIFF", bytes that follow, "WEBP", "VP8 ", bytes of the frame
VP8 = struct.Struct("<3s3sHH")  # frame tag, start code, width and height of 14 bits with 2 of scale each
VP8_START = b"\x9d\x01\x2a"
RIFF_HEAD = 8  # bytes before those that the length counts


def whole_jpeg(untrusted: bytes, size: Size) -> bytes | None:
    """Return a whole baseline JPEG of that size, without what follows it; None for other bytes."""
    ends, whole = _scans(untrusted, size, BASELINE)
    return untrusted[: ends[-1]] + END if whole else None


def progressive_jpeg(untrusted: bytes, size: Size) -> bytes | None:
    """Return what the scans that are whole make: a progressive JPEG of that size; None for other bytes."""
    ends, _ = _scans(untrusted, size, PROGRESSIVE)
    return untrusted[: ends[-1]] + END if ends else None


def scan_ends(file: bytes, size: Size) -> list[int]:
    """Return where each scan of our own progressive JPEG ends, with the next marker, which shows that it is whole."""
    return [end + MARKER_BYTES for end in _scans(file, size, PROGRESSIVE)[0]]


def whole_webp(untrusted: bytes, size: Size) -> bytes | None:
    """Return a whole lossy WebP (one VP8 frame) of that size, without what follows it; None for others."""
    if len(untrusted) < RIFF.size + VP8.size:
        return None
    riff, follow, webp, vp8, frame = RIFF.unpack_from(untrusted)
    _, start, width, height = VP8.unpack_from(untrusted, RIFF.size)
    good = (
        (riff, webp, vp8, start) == (b"RIFF", b"WEBP", b"VP8 ", VP8_START)
        and (height, width) == size
        and follow == RIFF.size - RIFF_HEAD + frame + frame % 2
        and len(untrusted) >= RIFF_HEAD + follow
    )
    return untrusted[: RIFF_HEAD + follow] if good else None


def _scans(untrusted: bytes, size: Size, frame: int) -> tuple[list[int], bool]:
    """Return where each whole scan ends, and whether the file ends after the last one."""
    ends: list[int] = []
    framed, at = False, len(START)
    if not untrusted.startswith(START):
        return ends, False
    for _ in range(MAX_SEGMENTS):
        kind = SEGMENT.match(untrusted, at)
        if kind is None or kind[1][0] == STOP:
            return ends, kind is not None and bool(ends)
        marker, behind = kind[1][0], at + 2 + int.from_bytes(untrusted[at + 2 : at + 4], "big")
        if behind > len(untrusted):
            break
        if marker == frame and not framed:
            framed = untrusted[at + 4 : behind].startswith(SIDES.pack(8, *size, 3))
            if not framed:
                break
        elif marker == SCAN and framed and len(ends) < MAX_SCANS:
            after = MARKER.search(untrusted, behind)
            if after is None:
                break
            behind = after.start()
            ends.append(behind)
        elif marker not in TABLES:
            break
        at = behind
    return ends, False
