"""Sketches: pictures of a tensor's plan for the live page. docs/reference/protocol.md, section 6.1, has every byte."""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.protect.plan import Plan, ranking
from gradfec_common.wire import MAX_PART_BYTES, SketchPart

LEVELS = 16  # of importance
MAX_PHOTOGRAPH_BYTES = 8192
LENGTH_BYTES = 2  # u16 in front of the photograph
JPEG_MAGIC = b"\xff\xd8\xff"
FATES_A_BYTE, LEVELS_A_BYTE = 4, 2

Levels = npt.NDArray[np.uint8]


class Fate(enum.IntEnum):
    """What a plan does with a packet."""

    DROPPED = 0
    BARE = 1
    PROTECTED = 2


class Sketch(NamedTuple):
    """A picture of a tensor's plan.

    `fates` (count,) the Fate of each packet, by place; `importance` (count,) in which sixteenth of all packets each is,
    15 being the most important; `photograph` a small JPEG of what the camera sees, or nothing.
    """

    fates: Levels
    importance: Levels
    photograph: bytes = b""


def plan_fates(plan: Plan) -> Levels:
    """Return what a plan does with each packet (total,), as Fate."""
    fates = np.full(plan.total, Fate.DROPPED, np.uint8)
    for n, stripe in plan.stripes:
        fates[stripe.packets] = Fate.PROTECTED if n > stripe.k else Fate.BARE
    return fates


def importance_levels(importance: npt.NDArray[np.float32], levels: int) -> Levels:
    """Return which of `levels` equal shares, by rank, each packet (count,) is in; the highest matters most."""
    count = len(importance)
    level = np.empty(count, np.uint8)
    level[ranking(importance)] = levels - 1 - np.arange(count) * levels // count
    return level


def sketch_bytes(sketch: Sketch) -> bytes:
    """Encode a sketch, to be sent in parts."""
    photograph = len(sketch.photograph).to_bytes(LENGTH_BYTES, "big") + sketch.photograph
    return _packed(sketch.fates, FATES_A_BYTE) + _packed(sketch.importance, LEVELS_A_BYTE) + photograph


def read_sketch(untrusted: bytes, count: int) -> Sketch | None:
    """Decode the sketch of a tensor of `count` packets; None for bytes that are not one.

    Only the first bytes and the length of the photograph are checked. The browser that shows it decodes it.
    """
    end_of_fates = -(-count // FATES_A_BYTE)
    end = end_of_fates + -(-count // LEVELS_A_BYTE)
    start = end + LENGTH_BYTES
    length, photograph = int.from_bytes(untrusted[end:start], "big"), untrusted[start:]
    if len(untrusted) != start + length or length > MAX_PHOTOGRAPH_BYTES:
        return None
    if photograph and not photograph.startswith(JPEG_MAGIC):
        return None
    fates = _unpacked(untrusted[:end_of_fates], FATES_A_BYTE, count)
    if (fates > max(Fate)).any():
        return None
    return Sketch(fates, _unpacked(untrusted[end_of_fates:end], LEVELS_A_BYTE, count), photograph)


def sketch_parts(tensor: int, whole: bytes, form: int = 0) -> list[SketchPart]:
    """Cut the encoded sketch of a tensor of a form into parts, each for a datagram."""
    pieces = [whole[start : start + MAX_PART_BYTES] for start in range(0, len(whole), MAX_PART_BYTES)]
    return [SketchPart(tensor, number, len(pieces), data, form) for number, data in enumerate(pieces)]


def _shifts(a_byte: int) -> npt.NDArray[np.uint8]:
    """Return by how many bits each of `a_byte` values in a byte is shifted, the first the furthest."""
    return np.arange(8 - 8 // a_byte, -1, -8 // a_byte).astype(np.uint8)


def _packed(values: Levels, a_byte: int) -> bytes:
    """Pack (count,) values, `a_byte` of them in each byte, and zeros up to a whole byte."""
    filled = np.pad(values, (0, -len(values) % a_byte)).reshape(-1, a_byte)  # (count,) -> (bytes, a_byte)
    packed: Levels = np.bitwise_or.reduce(filled << _shifts(a_byte), axis=1)  # -> (bytes,)
    return packed.tobytes()


def _unpacked(packed: bytes, a_byte: int, count: int) -> Levels:
    values = np.frombuffer(packed, np.uint8)[:, None] >> _shifts(a_byte)  # (bytes,) -> (bytes, a_byte)
    unpacked: Levels = (values & np.uint8(2 ** (8 // a_byte) - 1)).ravel()[:count]
    return unpacked
