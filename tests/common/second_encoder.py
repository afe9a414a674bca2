"""A second encoder of the gradfec protocol, written from docs/PROTOCOL.md alone: the bodies that `second_seal` seals.

It shares no code with the product, imports nothing but the standard library, and is slow on purpose: it is there to be
compared with, byte by byte. The numbers of sections are those of docs/PROTOCOL.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

KINDS = {"SYMBOL": 1, "MESSAGE": 2, "HELLO": 16, "WELCOME": 17}
MESSAGE_KINDS = {
    "HELLO": 1, "WELCOME": 2, "REFUSE": 3, "PING": 4, "PONG": 5, "RESULT": 6, "REPORT": 7, "ACK": 8, "BYE": 9,
    "SKETCH": 10,
}  # fmt: skip
CODE_NONE, CODE_ZFEC, CODE_LEOPARD = 0, 1, 2
UNIFORM8 = 1
FILL_ZERO = 1


@dataclass(frozen=True)
class Block:
    """A code block: the places of the packets that are its data symbols, in order, and how many symbols it has."""

    places: Sequence[int]
    n: int
    code: int


@dataclass(frozen=True)
class Tensor:
    """A feature tensor: its split point's number, its shape, and its elements in the order of chi[h, w, c]."""

    split: int
    shape: tuple[int, int, int]
    elements: Sequence[float]


# Section 5: symbols


def symbols(
    tensor: Tensor,
    rows: int,
    blocks: Sequence[Block],
    number: int,
    order: Sequence[tuple[int, int]],
) -> list[bytes]:
    """The bodies of the tensor's SYMBOL datagrams in send order; `order` names each position's (block, index)."""
    elements = [float32(x) for x in tensor.elements]
    low, high = min(elements), max(elements)
    quantised = [quantise(x, low, high) for x in elements]
    of_block = [block_symbols(quantised, tensor.shape, rows, block) for block in blocks]
    sent, kept = sum(block.n for block in blocks), sum(len(block.places) for block in blocks)
    assert sorted(order) == [(b, i) for b, block in enumerate(blocks) for i in range(block.n)]
    common = struct.pack(
        ">IHHHBBBBff", number, sent, kept, tensor.split, len(blocks), rows, UNIFORM8, FILL_ZERO, low, high
    )
    bodies = []
    for position, (b, index) in enumerate(order):
        own = struct.pack(">HBBHHH", position, b, blocks[b].code, blocks[b].n, len(blocks[b].places), index)
        bodies.append(common + own + of_block[b][index])
    return bodies


# Section 5.1: symbols and packets


def block_symbols(quantised: Sequence[int], shape: tuple[int, int, int], rows: int, block: Block) -> list[bytes]:
    data = [struct.pack(">H", place) + packet(quantised, shape, rows, place) for place in block.places]
    k = len(data)
    of_code = leopard_parity if block.code == CODE_LEOPARD else parity
    return data + [of_code(data, k, block.n, index) for index in range(k, block.n)]


def packet(quantised: Sequence[int], shape: tuple[int, int, int], rows: int, place: int) -> bytes:
    height, width, channels = shape
    channel, group = divmod(place, height // rows)
    return bytes(
        quantised[((group * rows + i) * width + j) * channels + channel] for i in range(rows) for j in range(width)
    )


# Section 5.2: the quantiser, every step rounded to float32


def quantise(x: float, low: float, high: float) -> int:
    if float32(high - low) <= TINY:
        return 0
    scale = float32(255.0 / float32(high - low))
    return min(255, math.floor(float32(float32(float32(x - low) * scale) + 0.5)))


def float32(x: float) -> float:
    return struct.unpack(">f", struct.pack(">f", x))[0]


LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127
TINY = float32(255 / LARGEST_FLOAT32)


# Section 5.3: code 1. V's row i is (1, x, x^2, ...) at the point x = point(i), so that E[i][j] is the j-th
# polynomial of Lagrange over the first k points, at point(i).


def gf_tables() -> tuple[list[int], dict[int, int]]:
    powers, element = [], 1
    for _ in range(255):
        powers.append(element)
        element <<= 1
        if element & 0x100:
            element ^= 0x11D
    return powers, {element: exponent for exponent, element in enumerate(powers)}


POWERS, LOGARITHMS = gf_tables()


def gf_multiply(a: int, b: int) -> int:
    return POWERS[(LOGARITHMS[a] + LOGARITHMS[b]) % 255] if a and b else 0


def gf_divide(a: int, b: int) -> int:
    return POWERS[(LOGARITHMS[a] - LOGARITHMS[b]) % 255] if a else 0


def point(i: int) -> int:
    return POWERS[i - 1] if i else 0


def parity(data: Sequence[bytes], k: int, n: int, index: int) -> bytes:
    total = bytearray(len(data[0]))
    for j, symbol in enumerate(data):
        factor = 1
        for m in range(k):
            if m != j:
                factor = gf_multiply(factor, gf_divide(point(index) ^ point(m), point(j) ^ point(m)))
        for offset, byte in enumerate(symbol):
            total[offset] ^= gf_multiply(factor, byte)
    return bytes(total)


# Section 5.3: code 2


def words(symbol: bytes) -> list[int]:
    """The symbol's words: of each 64 bytes, or of what is left, the first half are low bytes, the second high ones."""
    chunks = [symbol[start : start + 64] for start in range(0, len(symbol), 64)]
    return [low | high << 8 for c in chunks for low, high in zip(c[: len(c) // 2], c[len(c) // 2 :], strict=True)]


def of_words(numbers: Sequence[int]) -> bytes:
    chunks = [numbers[start : start + 32] for start in range(0, len(numbers), 32)]
    return b"".join(bytes(w & 0xFF for w in c) + bytes(w >> 8 for w in c) for c in chunks)


def gf16_powers() -> list[int]:
    powers, element = [], 1
    for _ in range(65535):
        powers.append(element)
        element <<= 1
        if element & 0x10000:
            element ^= 0x1002D
    return powers


BETA = (
    0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012,
    0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8, 0xFB34, 0xFF38, 0x991E,
)  # fmt: skip
POWERS16 = gf16_powers()
LOGARITHMS16 = {element: exponent for exponent, element in enumerate(POWERS16)}


def phi(w: int) -> int:
    element = 0
    for b, beta in enumerate(BETA):
        if w >> b & 1:
            element ^= beta
    return element


PHI = [phi(w) for w in range(65536)]
WORD_OF = {element: w for w, element in enumerate(PHI)}


def leopard_parity(data: Sequence[bytes], k: int, n: int, index: int) -> bytes:
    p, j = n - k, index - k
    power_k, power_p = (k - 1).bit_length(), (p - 1).bit_length()
    parity_is_low = power_k > power_p or (power_k == power_p and k <= p)
    r = power_p if parity_is_low else power_k
    total = [0] * (len(data[0]) // 2)
    for i, symbol in enumerate(data):
        low, high = (j, 2**r + i) if parity_is_low else (i, 2**r + j)
        factor = LOGARITHMS16[PHI[high >> r]] - LOGARITHMS16[PHI[high ^ low]]
        for m, w in enumerate(words(symbol)):
            if w:
                total[m] ^= POWERS16[(LOGARITHMS16[PHI[w]] + factor) % 65535]
    return of_words([WORD_OF[element] for element in total])


# Section 6: control messages


def message(kind: str, values: Mapping[str, object]) -> bytes:
    return bytes([MESSAGE_KINDS[kind]]) + msgpack(dict(values))


def msgpack(value: object) -> bytes:
    """The shortest msgpack form of a value; a float is always a float64."""
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return msgpack_unsigned(value)
    if isinstance(value, bytes):
        return msgpack_length(len(value), 0, 0, {1: 0xC4, 2: 0xC5}) + value
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        return msgpack_length(len(text), 0xA0, 32, {1: 0xD9, 2: 0xDA}) + text
    if isinstance(value, Mapping):
        pairs = [msgpack(key) + msgpack(item) for key, item in value.items()]
        return msgpack_length(len(pairs), 0x80, 16, {2: 0xDE}) + b"".join(pairs)
    if isinstance(value, Sequence):
        return msgpack_length(len(value), 0x90, 16, {2: 0xDC}) + b"".join(map(msgpack, value))
    raise TypeError(f"no msgpack form for {value!r}")


def msgpack_unsigned(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes([value])
    size, tag = next((size, tag) for size, tag in ((1, 0xCC), (2, 0xCD), (4, 0xCE), (8, 0xCF)) if value < 256**size)
    return bytes([tag]) + value.to_bytes(size, "big")


def msgpack_length(length: int, fixed: int, below: int, tags: Mapping[int, int]) -> bytes:
    if length < below:
        return bytes([fixed | length])
    size, tag = next((size, tag) for size, tag in tags.items() if length < 256**size)
    return bytes([tag]) + length.to_bytes(size, "big")


# Section 6, REPORT: the map of what arrived; section 6.1: sketches


def arrived(positions: Collection[int], sent: int) -> bytes:
    """The bit of position p is bit 7 - p mod 8 of byte p / 8, bit 0 being the lowest."""
    return bytes(sum(1 << 7 - p % 8 for p in positions if p // 8 == byte) for byte in range((sent + 7) // 8))


def sketch(fates: Sequence[int], importance: Sequence[int], photograph: bytes) -> bytes:
    return in_bits(fates, 2) + in_bits(importance, 4) + struct.pack(">H", len(photograph)) + photograph


def in_bits(values: Sequence[int], size: int) -> bytes:
    """The values one after the other, `size` bits each, and zeros up to a whole byte."""
    bits = "".join(format(value, f"0{size}b") for value in values)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))


def in_parts(tensor: int, whole: bytes) -> list[dict[str, object]]:
    data = [whole[start : start + 1024] for start in range(0, len(whole), 1024)]
    return [{"tensor": tensor, "part": part, "parts": len(data), "data": piece} for part, piece in enumerate(data)]
