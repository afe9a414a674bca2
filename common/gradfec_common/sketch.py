"""What an edge tells of one of its tensors for people to look at; docs/PROTOCOL.md, section 6.1, has every byte."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import ZFEC
from gradfec_common.protect.plan import Plan, ranking
from gradfec_common.wire import MAX_PART_BYTES, SketchPart

LEVELS = 16  # of importance
MAX_PHOTOGRAPH_BYTES = 8192
LENGTH_BYTES = 2  # u16 in front of the photograph
JPEG_MAGIC = b"\xff\xd8\xff"
FATES_A_BYTE, LEVELS_A_BYTE = 4, 2
SYMBOLS_FOR_EACH_PART = 2  # so that it may be seen what a bad link does
MAX_PARTS = 255

Levels = npt.NDArray[np.uint8]


class Fate(enum.IntEnum):
    """What a plan does with a packet."""

    DROPPED = 0
    BARE = 1
    PROTECTED = 2


class Sketch(NamedTuple):
    """Of each of a tensor's packets, by place, its Fate (count,) and its importance (count,), 15 for the highest.

    `photograph`: a small JPEG of what the camera sees, or nothing.
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
    """Return which of so many equal shares, by rank, each of the packets (count,) is in; the highest matters most."""
    count = len(importance)
    level = np.empty(count, np.uint8)
    level[ranking(importance)] = levels - 1 - np.arange(count) * levels // count
    return level


def sketch_bytes(sketch: Sketch) -> bytes:
    """Encode a sketch, to be sent in parts."""
    photograph = len(sketch.photograph).to_bytes(LENGTH_BYTES, "big") + sketch.photograph
    return _packed(sketch.fates, FATES_A_BYTE) + _packed(sketch.importance, LEVELS_A_BYTE) + photograph


def read_sketch(untrusted: bytes, count: int) -> Sketch | None:
    """Decode the sketch of a tensor of `count` packets, whatever follows it; None where it is none.

    Of the photograph only the first bytes and the length are looked at: it is for a browser to decode.
    """
    end_of_fates = -(-count // FATES_A_BYTE)
    end = end_of_fates + -(-count // LEVELS_A_BYTE)
    start = end + LENGTH_BYTES
    length = int.from_bytes(untrusted[end:start], "big")
    photograph = untrusted[start : start + length]
    if len(untrusted) < start or len(photograph) < length or length > MAX_PHOTOGRAPH_BYTES:
        return None
    if photograph and not photograph.startswith(JPEG_MAGIC):
        return None
    fates = _unpacked(untrusted[:end_of_fates], FATES_A_BYTE, count)
    if (fates > max(Fate)).any():
        return None
    return Sketch(fates, _unpacked(untrusted[end_of_fates:end], LEVELS_A_BYTE, count), photograph)


def sketch_parts(tensor: int, whole: bytes) -> list[SketchPart]:
    """Code an encoded sketch, each symbol for a datagram: any k of n will do."""
    k = -(-len(whole) // MAX_PART_BYTES)
    n = min(SYMBOLS_FOR_EACH_PART * k, MAX_PARTS)
    data = np.frombuffer(whole.ljust(-(-len(whole) // k) * k, b"\0"), np.uint8).reshape(k, -1)
    symbols = np.concatenate([data, ZFEC.encode(data, n)])
    return [SketchPart(tensor, n, k, index, symbol.tobytes()) for index, symbol in enumerate(symbols)]


def join_parts(parts: Mapping[int, bytes], n: int, k: int) -> bytes:
    """Undo `sketch_parts` from k symbols of one length, by their index; what the sketch was filled up with stays."""
    indices = np.array(sorted(parts))
    symbols = np.frombuffer(b"".join(parts[index] for index in indices.tolist()), np.uint8).reshape(k, -1)
    return ZFEC.decode(symbols, indices, k, n).tobytes()


def _shifts(a_byte: int) -> npt.NDArray[np.uint8]:
    """Return by how many bits each of so many values in a byte is shifted, the first the furthest."""
    return np.arange(8 - 8 // a_byte, -1, -8 // a_byte).astype(np.uint8)


def _packed(values: Levels, a_byte: int) -> bytes:
    """Put (count,) values into bytes, so many in each, the last filled up with zeros."""
    filled = np.pad(values, (0, -len(values) % a_byte)).reshape(-1, a_byte)
    packed: Levels = np.bitwise_or.reduce(filled << _shifts(a_byte), axis=1)  # (bytes, a_byte) -> (bytes,)
    return packed.tobytes()


def _unpacked(packed: bytes, a_byte: int, count: int) -> Levels:
    """Undo `_packed`."""
    values = np.frombuffer(packed, np.uint8)[:, None] >> _shifts(a_byte)  # (bytes,) -> (bytes, a_byte)
    unpacked: Levels = (values & np.uint8(2 ** (8 // a_byte) - 1)).ravel()[:count]
    return unpacked
