"""AVIF without its boxes: of a file with one picture, only the coded picture travels.

The boxes around it take 275 bytes, and always say the same: one picture, its sides, its colours. So the far end writes
them for the picture that it expects. What travels are the units ("OBUs") of AV1, each a header, a length and a payload:
a mark in time, the sequence's header, and the frame. The boxes: ISO/IEC 14496-12 and 23008-12, "AV1 Image File Format"
1.1; the units: AV1 Bitstream & Decoding Process Specification, 5.3 to 5.5.

A decoder allocates what the sequence's header asks for, so that has to ask for the right size. As it is the header of
a still picture alone ("reduced"), the frame cannot have another one.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

Size = tuple[int, int]  # height and width, in pixels

DATA = b"mdat"  # the box of the coded picture, the last one
SEQUENCE, TIME, FRAME = 1, 2, 6  # kinds of units
UNITS = ([TIME, SEQUENCE, FRAME], [SEQUENCE, FRAME])
LENGTH_BYTES = 4  # of a unit's length, at most; AV1 allows 8
REDUCED = 0b00011  # the main profile, a still picture, and a header for that alone
SIDE_BITS = 4  # that say how many bits a side has
COLOURS = struct.pack(">HHHB", 1, 13, 6, 0x80)  # primaries of BT.709, transfer of sRGB, matrix of BT.601, full range
CHROMA = 0x0C  # 4:2:0, in 8 bits


class Unit(NamedTuple):
    """One unit of AV1: its kind, its payload, and where the next one begins."""

    kind: int
    payload: bytes
    end: int


def without_boxes(file: bytes) -> bytes:
    """Return what travels of an encoder's file."""
    return file[file.index(DATA) + len(DATA) :]


def whole_avif(untrusted: bytes, size: Size) -> bytes | None:
    """Return the file of a whole picture of that size, without what follows it; None for other bytes."""
    units, at = list[Unit](), 0
    while len(units) < len(UNITS[0]) and (not units or units[-1].kind != FRAME):
        unit = _unit(untrusted, at)
        if unit is None:
            return None
        units.append(unit)
        at = unit.end
    if [unit.kind for unit in units] not in UNITS:
        return None
    level = _level(units[-2].payload, size)
    return None if level is None else _boxes(size, level, untrusted[:at])


def _unit(untrusted: bytes, at: int) -> Unit | None:
    """Return the unit that begins at an offset; None if it is not whole, says no length, or has an extension."""
    head, length = untrusted[at : at + 1], 0
    if not head or head[0] & 0b10000111 != 0b010:  # no forbidden bit, no extension, a length, nothing reserved
        return None
    for number, byte in enumerate(untrusted[at + 1 : at + 1 + LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * number  # "leb128"
        if byte < 0x80:
            first = at + 2 + number
            payload = untrusted[first : first + length]
            return Unit(head[0] >> 3, payload, first + length) if len(payload) == length else None
    return None


def _level(header: bytes, size: Size) -> int | None:
    """Return the level of AV1 that a sequence's header says; None if it is not for such a still picture of that size.

    Other kinds of pictures, which a decoder would know, are none of ours: AV1 specification, 5.5.1 and 5.5.2.
    """
    bits, at = int.from_bytes(header, "big"), 8 * len(header)

    def read(count: int) -> int:
        nonlocal at
        at -= count
        return bits >> at & (1 << count) - 1 if at >= 0 else 0

    kind, level = read(5), read(5)
    of_width, of_height = read(SIDE_BITS) + 1, read(SIDE_BITS) + 1
    width, height = read(of_width) + 1, read(of_height) + 1
    read(3)  # the size of superblocks, filters within and at the edges
    is_smaller = read(1)  # "superres"
    read(2)  # filters of another kind
    is_deep, is_grey = read(1), read(1)
    is_ours = kind == REDUCED and (height, width) == size and not (is_smaller or is_deep or is_grey)
    return level if at >= 0 and is_ours else None


def _boxes(size: Size, level: int, units: bytes) -> bytes:
    """Return the file of a picture."""
    height, width = size
    kinds = _box(b"ftyp", b"avif", bytes(4), b"avif", b"mif1", b"miaf")
    handler = _full(b"hdlr", bytes(4), b"pict", bytes(13))
    entry = _full(b"infe", struct.pack(">HH", 1, 0), b"av01", bytes(1), version=2)
    properties = (
        _full(b"ispe", struct.pack(">II", width, height)),
        _full(b"pixi", bytes([3, 8, 8, 8])),
        _box(b"av1C", bytes([0x81, level, CHROMA, 0])),
        _box(b"colr", b"nclx", COLOURS),
    )
    of_the_picture = struct.pack(">IHB4B", 1, 1, len(properties), 1, 2, 0x80 | 3, 4)  # of which the third is essential

    def meta(begins: int) -> bytes:
        where = struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, begins, len(units))
        return _full(
            b"meta",
            handler,
            _full(b"pitm", struct.pack(">H", 1)),
            _full(b"iloc", where),
            _full(b"iinf", struct.pack(">H", 1), entry),
            _box(b"iprp", _box(b"ipco", *properties), _full(b"ipma", of_the_picture)),
        )

    data = _box(DATA, units)
    begins = len(kinds) + len(meta(0)) + len(data) - len(units)
    return kinds + meta(begins) + data


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, *parts: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]), *parts)
