"""A second encoder of the protocol, written from docs/reference/protocol.md alone: the bodies that `second_seal` seals.

It shares no code with the product, imports nothing but the standard library, and is slow on purpose: it is there to be
compared with, byte by byte. The numbers of sections are those of docs/reference/protocol.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

KINDS = {"SYMBOL": 1, "MESSAGE": 2, "HELLO": 16, "WELCOME": 17}
MESSAGE_KINDS = {
    "HELLO": 1, "WELCOME": 2, "REFUSE": 3, "PING": 4, "PONG": 5, "RESULT": 6, "REPORT": 7, "ACK": 8, "BYE": 9,
    "SKETCH": 10, "REQUEST": 11,
}  # fmt: skip
CODE_NONE, CODE_ZFEC, CODE_LEOPARD = 0, 1, 2

Slot = tuple[int, int]  # which datagram of a tensor: its group, its index


@dataclass(frozen=True)
class Stripe:
    """The places of the packets in each data symbol, in order; the bytes of a symbol; the code."""

    symbols: Sequence[Sequence[int]]
    length: int
    code: int

    @property
    def k(self) -> int:
        return len(self.symbols)

    @property
    def places(self) -> list[int]:
        return [place for symbol in self.symbols for place in symbol]


@dataclass(frozen=True)
class Group:
    n: int
    stripes: Sequence[Stripe]

    @property
    def most_k(self) -> int:
        return max(stripe.k for stripe in self.stripes)


@dataclass(frozen=True)
class Coded:
    """A tensor after its quantiser: the bytes of its packets, by place."""

    quantiser: int
    parameters: bytes
    packets: Mapping[int, bytes]


# Section 5: the bodies


def bodies(
    coded: Coded,
    groups: Sequence[Group],
    number: int,
    order: Sequence[Slot],
    reserve: int = 0,
    form: int = 0,
    again: int = 0,
) -> list[bytes]:
    """The bodies of the tensor's SYMBOL datagrams in send order; `order` names what each position's datagram is.

    `again` of a second look is its number less that of the frame's first tensor.
    """
    assert sorted(order) == [(g, i) for g, group in enumerate(groups) for i in range(group.n)]
    sent = sum(group.n for group in groups)
    kept = sum(len(stripe.places) for group in groups for stripe in group.stripes)
    symbols = [[stripe_symbols(coded.packets, stripe, group.n) for stripe in group.stripes] for group in groups]
    made = []
    for position, (g, index) in enumerate(order):
        group = groups[g]
        body = struct.pack(">IHHHHH", number, position, index, sent, sent - reserve, kept)
        body += bytes([form + 4 * again, len(groups), len(group.stripes), coded.quantiser, len(coded.parameters)])
        body += struct.pack(">BH", g, group.n)
        for stripe in group.stripes:
            body += struct.pack(">HHB", stripe.k, stripe.length, stripe.code)
        body += coded.parameters
        for stripe in symbols[g]:
            body += stripe[index]
        made.append(body)
    return made


# Section 5.1: packets


def code(
    elements: Sequence[float], shape: tuple[int, int, int], rows: int, quantiser: int, step: float = 0.125
) -> Coded:
    """Quantise the elements chi[h, w, c] of a tensor, c running fastest, into packets of `rows` rows.

    `step` is that of laplace, whose packets of zeros have no bytes.
    """
    if quantiser == LAPLACE:
        multiples = [laplace_level(float32(x), float32(step)) for x in elements]
        runs = {place: packet(multiples, shape, rows, place) for place in range(shape[2] * (shape[0] // rows))}
        coded = {place: laplace(run) if any(run) else b"" for place, run in runs.items()}
        if not any(coded.values()):
            coded[0] = laplace(runs[0])
        return Coded(LAPLACE, struct.pack(">f", step), coded)
    count = shape[2] * (shape[0] // rows)
    if quantiser in LOCAL:
        values = [float32(x) for x in elements]
        runs = [packet(values, shape, rows, place) for place in range(count)]
        return Coded(quantiser, b"", {place: local(run, LOCAL[quantiser]) for place, run in enumerate(runs)})
    bits = QUANTISERS[quantiser][1]
    levels, parameters = QUANTISERS[quantiser][0]([float32(x) for x in elements], 2**bits - 1)
    packets = {place: in_bits(packet(levels, shape, rows, place), bits) for place in range(count)}
    return Coded(quantiser, parameters, packets)


def packet(levels: Sequence[int], shape: tuple[int, int, int], rows: int, place: int) -> list[int]:
    height, width, channels = shape
    channel, row_group = divmod(place, height // rows)
    return [
        levels[((row_group * rows + i) * width + j) * channels + channel] for i in range(rows) for j in range(width)
    ]


# Section 5.2: quantisers, every step rounded to float32


def uniform(elements: Sequence[float], highest: int) -> tuple[list[int], bytes]:
    low, high = min(elements), max(elements)
    span = float32(high - low)
    if span <= highest / LARGEST_FLOAT32:
        levels = [0] * len(elements)
    else:
        scale = float32(highest / span)
        levels = [round(float32(float32(x - low) * scale)) for x in elements]
    return levels, struct.pack(">ff", low, high)


def local(elements: Sequence[float], bits: int) -> bytes:
    levels, ends = uniform(elements, 2**bits - 1)
    return ends + in_bits(levels, bits)


def local_levels(packet: bytes, bits: int, elements: int) -> tuple[bytes, list[int]]:
    """The two ends of a packet's range, as parameters of uniform, and its levels."""
    text = "".join(f"{byte:08b}" for byte in packet[8:])
    return packet[:8], [int(text[start : start + bits], 2) for start in range(0, elements * bits, bits)]


def square_root(elements: Sequence[float], highest: int) -> tuple[list[int], bytes]:
    maximum = max(0.0, *elements)
    root = float32(math.sqrt(maximum))
    if root == 0:
        levels = [0] * len(elements)
    else:
        scale = float32(highest / root)
        levels = [round(float32(float32(math.sqrt(max(x, 0.0))) * scale)) for x in elements]
    return levels, struct.pack(">f", maximum)


Quantise = Callable[[Sequence[float], int], tuple[list[int], bytes]]
QUANTISERS: dict[int, tuple[Quantise, int]] = {
    1: (uniform, 8), 2: (uniform, 7), 3: (uniform, 6), 4: (uniform, 5), 5: (uniform, 4),
    18: (square_root, 2), 19: (square_root, 3), 20: (square_root, 4), 21: (square_root, 5), 22: (square_root, 6),
}  # fmt: skip


LOCAL = {44: 4, 45: 5, 46: 6, 47: 7, 48: 8}  # the bits


def value_of(quantiser: int, parameters: bytes, level: int) -> float:
    """What a level stands for."""
    quantise, bits = QUANTISERS[quantiser]
    if quantise is uniform:
        low, high = struct.unpack(">ff", parameters)
        return low + level * (high - low) / (2**bits - 1)
    (maximum,) = struct.unpack(">f", parameters)
    return maximum * (level / (2**bits - 1)) ** 2


def float32(x: float) -> float:
    return struct.unpack(">f", struct.pack(">f", x))[0]


LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127


def in_bits(values: Sequence[int], size: int) -> bytes:
    """The values one after the other, `size` bits each, and zeros up to a whole byte."""
    bits = "".join(format(value, f"0{size}b") for value in values)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))


# Section 5.2.1: laplace, in whole numbers of any size: `low` is the beginning of the interval, `width` its length

LAPLACE = 32
WHOLE = 2**24
LEVEL_TABLES = (
    (0.99995, 2.0612e-09, 2), (0.99936, 4.1050e-07, 2), (0.99551, 2.0133e-05, 3), (0.98123, 3.5236e-04, 3),
    (0.94623, 0.0028908, 4), (0.88344, 0.013586, 5), (0.79411, 0.042392, 6), (0.68716, 0.097870, 8),
    (0.57448, 0.18106, 10), (0.46649, 0.28463, 13), (0.36996, 0.39695, 17), (0.28800, 0.50694, 22),
    (0.22102, 0.60681, 30), (0.16777, 0.69260, 40), (0.12632, 0.76332, 53), (0.094522, 0.81989, 72),
    (0.070408, 0.86414, 97), (0.052268, 0.89820, 132), (0.038704, 0.92409, 179), (0.028607, 0.94360, 243),
    (0.021115, 0.95822, 330), (0.015570, 0.96910, 448), (0.011472, 0.97719, 608), (0.0084482, 0.98317, 827),
)  # fmt: skip


def level_parts(zero: float, fall: float, largest: int) -> list[int]:
    """The parts of 2^24 of the levels -largest .. largest."""
    side, chance = [], (1 - zero) * (1 - fall) / 2
    for _ in range(largest):
        side.append(math.floor(chance * WHOLE) + 1)
        chance *= fall
    return [*reversed(side), WHOLE - 2 * sum(side), *side]


LEVEL_PARTS = [level_parts(*table) for table in LEVEL_TABLES]
NUMBER_PARTS = [699_066] + [699_050] * 23


def laplace_level(x: float, step: float) -> int:
    return round(float32(max(-827.0, min(x / step, 827.0))))


def laplace(levels: Sequence[int]) -> bytes:
    """A packet's bytes, with the table that takes the fewest bits."""
    return range_coded(levels, min(range(24), key=lambda number: table_bits(levels, number)))


def table_bits(levels: Sequence[int], number: int) -> float:
    _, fall, largest = LEVEL_TABLES[number]
    if max(map(abs, levels)) > largest:
        return math.inf
    zero, one = (-math.log2(LEVEL_PARTS[number][largest + size] / WHOLE) for size in (0, 1))
    nonzero = [abs(level) for level in levels if level]
    beyond = sum(nonzero) - len(nonzero)
    return (len(levels) - len(nonzero)) * zero + len(nonzero) * one - beyond * math.log2(fall)


def range_coded(levels: Sequence[int], number: int) -> bytes:
    largest = LEVEL_TABLES[number][2]
    low, width, end = 0, 2**64 - 1, 64  # all in units of 2^-end
    for parts, symbol in [(NUMBER_PARTS, number), *((LEVEL_PARTS[number], level + largest) for level in levels)]:
        unit = width >> 24
        low, width = low + unit * sum(parts[:symbol]), unit * parts[symbol]
        if width < 2**32:
            low, width, end = low << 32, width << 32, end + 32
    for size in range(1, end // 8 + 1):
        of_size = -(-low >> (end - 8 * size))  # the first number of so many bytes that is not below the interval
        if of_size << (end - 8 * size) < low + width:
            return of_size.to_bytes(size, "big")
    raise AssertionError("an empty interval")


def range_decoded(coded: bytes, count: int) -> list[int] | None:
    """A packet's levels; None for bytes that lead to no level."""
    padded = coded + bytes(8 + 4 * (count + 1))
    low, width, end, number = 0, 2**64 - 1, 64, -1
    parts, levels = NUMBER_PARTS, []
    for _ in range(count + 1):
        unit = width >> 24
        at = (int.from_bytes(padded[: end // 8], "big") - low) // unit
        if at >= WHOLE:
            return None
        symbol, before = 0, 0
        while before + parts[symbol] <= at:
            before += parts[symbol]
            symbol += 1
        low, width = low + unit * before, unit * parts[symbol]
        if width < 2**32:
            low, width, end = low << 32, width << 32, end + 32
        if number < 0:
            number, parts = symbol, LEVEL_PARTS[symbol]
        else:
            levels.append(symbol - LEVEL_TABLES[number][2])
    return levels


# Section 5.3: a symbol's inside


def stripe_symbols(packets: Mapping[int, bytes], stripe: Stripe, n: int) -> list[bytes]:
    data = [data_symbol(packets, places, stripe.length) for places in stripe.symbols]
    of_code = {CODE_NONE: zfec_parity, CODE_ZFEC: zfec_parity, CODE_LEOPARD: leopard_parity}[stripe.code]
    return data + [of_code(data, stripe.k, n, index) for index in range(stripe.k, n)]


def data_symbol(packets: Mapping[int, bytes], places: Sequence[int], length: int) -> bytes:
    symbol = b"".join(entry(place, packets[place]) for place in places)
    assert len(symbol) <= length
    return symbol + bytes(length - len(symbol))


def entry(place: int, coded: bytes) -> bytes:
    size = len(coded)
    length = bytes([size]) if size < 128 else struct.pack(">H", 32768 + size)
    return length + struct.pack(">H", place) + coded


def packed(packets: Mapping[int, bytes], places: Sequence[int], length: int, most: int = 65535) -> list[list[int]]:
    """Which packets go into which symbol, where each takes as many as fit, and at most so many."""
    symbols: list[list[int]] = []
    room = 0
    for place in places:
        size = len(entry(place, packets[place]))
        assert size <= length
        if not symbols or size > room or len(symbols[-1]) == most:
            symbols.append([])
            room = length
        symbols[-1].append(place)
        room -= size
    return symbols


# Section 5.4: code 1. V's row i is (1, x, x^2, ...) at the point x = point(i), so that E[i][j] is the j-th
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


def zfec_parity(data: Sequence[bytes], k: int, n: int, index: int) -> bytes:
    total = bytearray(len(data[0]))
    for j, symbol in enumerate(data):
        factor = 1
        for m in range(k):
            if m != j:
                factor = gf_multiply(factor, gf_divide(point(index) ^ point(m), point(j) ^ point(m)))
        for offset, byte in enumerate(symbol):
            total[offset] ^= gf_multiply(factor, byte)
    return bytes(total)


# Section 5.4: code 2


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


# Section 5.5: the send order


def send_order(groups: Sequence[Group]) -> list[Slot]:
    keys: dict[Slot, tuple[bool, int, int]] = {}
    for g, group in enumerate(groups):
        k = group.most_k
        turns = {turn * stride(k) % k: turn for turn in range(k)}
        for index in range(group.n):
            keys[g, index] = (index >= k, turns.get(index, index), g)
    return sorted(keys, key=lambda slot: keys[slot])


def stride(k: int) -> int:
    step = max(round(0.618 * k), 1)
    while math.gcd(step, k) != 1:
        step += 1
    return step


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


def in_parts(tensor: int, whole: bytes) -> list[dict[str, object]]:
    data = [whole[start : start + 1024] for start in range(0, len(whole), 1024)]
    return [
        {"tensor": tensor, "part": part, "parts": len(data), "data": piece, "form": 0}
        for part, piece in enumerate(data)
    ]
