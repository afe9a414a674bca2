"""Entropy coding of whole numbers by static tables: the only module that imports `constriction` (range coding).

A table is a Laplace distribution, rounded to whole levels. Each run of levels names the table that suits it best, so
nothing has to be known of another run. docs/PROTOCOL.md specifies tables and bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

try:
    import constriction
except ImportError:  # it has no wheel for Linux on ARM (see pyproject.toml): then QUANTISERS does not contain `laplace`
    constriction = None

Levels = npt.NDArray[np.int32]
Parts = npt.NDArray[np.int64]

INSTALLED = constriction is not None
HOW_TO_INSTALL = (
    "laplace, which bottlenecks need, needs the package constriction, which is not installed: use another --codec, or "
    "pip install constriction (for Linux on another processor than x86-64, it needs a Rust compiler)"
)

# Of each table: the chance of level 0, nearly, and how the chance falls from one level to the next. They are those of
# Laplace distributions with scales 0.05 x 1.36^n. Both ends must have exactly the same tables, and exponentials differ
# between machines in their last bits: so here are numbers, and only sums and products of them.
ZERO = (
    0.99995, 0.99936, 0.99551, 0.98123, 0.94623, 0.88344, 0.79411, 0.68716, 0.57448, 0.46649, 0.36996, 0.28800,
    0.22102, 0.16777, 0.12632, 0.094522, 0.070408, 0.052268, 0.038704, 0.028607, 0.021115, 0.015570, 0.011472,
    0.0084482,
)  # fmt: skip
FALL = (
    2.0612e-09, 4.1050e-07, 2.0133e-05, 3.5236e-04, 0.0028908, 0.013586, 0.042392, 0.097870, 0.18106, 0.28463, 0.39695,
    0.50694, 0.60681, 0.69260, 0.76332, 0.81989, 0.86414, 0.89820, 0.92409, 0.94360, 0.95822, 0.96910, 0.97719, 0.98317,
)  # fmt: skip
LARGEST = (2, 2, 3, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 40, 53, 72, 97, 132, 179, 243, 330, 448, 608, 827)
TABLES = len(ZERO)
WHOLE = 1 << 24  # chances are whole numbers of parts of this, and at least one: the library's precision
WORD_BYTES = 4  # of the library
STATE_BITS = 64


class Table(NamedTuple):
    """A distribution of levels -`largest` .. `largest`. `bits` (largest + 1,) is the cost of levels by size."""

    largest: int
    bits: npt.NDArray[np.float64]
    model: constriction.stream.model.Categorical


@lru_cache(1)
def tables() -> tuple[Table, ...]:
    """Return the tables, from the narrowest to the widest."""
    return tuple(
        Table(largest, -np.log2(parts[largest:] / WHOLE), _model(parts))
        for largest, parts in zip(LARGEST, all_parts(), strict=True)
    )


def all_parts() -> list[Parts]:
    """Return the chances of each table's levels (2 x largest + 1,), in parts of WHOLE."""
    return [_parts(*numbers) for numbers in zip(ZERO, FALL, LARGEST, strict=True)]


def _parts(zero: float, fall: float, largest: int) -> Parts:
    side, chance = [], (1 - zero) * (1 - fall) / 2  # of level 1
    for _ in range(largest):
        side.append(int(chance * WHOLE) + 1)
        chance *= fall
    return np.array([*side[::-1], WHOLE - 2 * sum(side), *side])


def which_parts() -> Parts:
    """Return the chances of the tables' numbers (TABLES,), in parts of WHOLE: the same, as far as it can be divided."""
    parts = np.full(TABLES, WHOLE // TABLES)
    parts[0] += WHOLE % TABLES
    return parts


def _model(parts: Parts) -> constriction.stream.model.Categorical:
    """Return a model with exactly these chances: the library gives each symbol one part, and shares out the rest."""
    return constriction.stream.model.Categorical(parts - 1.0, perfect=False)


@lru_cache(1)
def _which() -> constriction.stream.model.Categorical:
    return _model(which_parts())


class Costs(NamedTuple):
    """What coding runs of levels (m, length) takes: `table` (m,), the best for each run, and `bits` (m,)."""

    table: npt.NDArray[np.intp]
    bits: npt.NDArray[np.float64]


def costs(levels: Levels) -> Costs:
    """Choose tables for runs of levels (m, length), none beyond the widest table's largest.

    A table's cost follows from three sums over a run: how many levels are zero, how many are not, and their sizes.
    """
    sizes = np.abs(levels)
    nonzero = np.count_nonzero(levels, axis=1).astype(np.float64)
    further = sizes.sum(axis=1, dtype=np.float64) - nonzero  # steps beyond level 1
    terms = np.stack([levels.shape[1] - nonzero, nonzero, further], axis=1)  # (m, 3)
    bits = terms @ _bits_a_term()
    bits[sizes.max(axis=1)[:, np.newaxis] > np.array(LARGEST)] = np.inf
    best = bits.argmin(axis=1)
    return Costs(best, bits[np.arange(len(bits)), best] + np.log2(TABLES))


@lru_cache(1)
def _bits_a_term() -> npt.NDArray[np.float64]:
    """Return for each table (3, TABLES) the bits of a zero, of a one, and of each step beyond."""
    return np.array(
        [[table.bits[0], table.bits[1], -np.log2(fall)] for table, fall in zip(tables(), FALL, strict=True)]
    ).T


def encode(levels: Levels, chosen: npt.NDArray[np.intp]) -> list[bytes]:
    """Code runs of levels (m, length) by the chosen tables (m,); return the bytes of each, at least one."""
    each, which = tables(), _which()
    coded = []
    for run, number in zip(levels, chosen.tolist(), strict=True):
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(number, which)
        encoder.encode(run + each[number].largest, each[number].model)
        coded.append(_finished(encoder))
    return coded


def decode(coded: bytes, length: int) -> Levels | None:
    """Decode a run of `length` levels from untrusted bytes; None if there are no bytes, or if they lead to no level.

    Most bytes are some run's code, so bytes that were changed or cut short lead to other levels.
    """
    if not coded:
        return None
    padded = coded + bytes(2 * WORD_BYTES + -len(coded) % WORD_BYTES)
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))
    try:
        table = tables()[decoder.decode(_which())]
        return np.asarray(decoder.decode(table.model, length) - table.largest, np.int32)
    except AssertionError:  # the library's word for a number that belongs to no level
        return None


def _finished(encoder: constriction.stream.queue.RangeEncoder) -> bytes:
    """Return the fewest bytes that, with zeros behind them, decode to what was encoded.

    The coder's interval is [low, low + width) behind the words that it has written already. The library ends it with a
    whole word of its own choice, which says whether a carry went into those words.
    """
    written: int
    low: int
    width: int
    written, (low, width) = encoder.pos()
    words = bytes(encoder.get_compressed().astype(">u4"))
    head = int.from_bytes(words[: WORD_BYTES * written], "big")
    own = (low + (1 << 32) - 1) % (1 << STATE_BITS)
    head -= own < low  # the library's choice carried
    first = (head << STATE_BITS) + low
    whole = WORD_BYTES * written + STATE_BITS // 8
    for size in range(max(WORD_BYTES * written, 1), whole + 1):
        unit = 1 << 8 * (whole - size)
        number = -(-first // unit) * unit
        if number < first + width:
            return (number >> 8 * (whole - size)).to_bytes(size, "big").rstrip(b"\0") or b"\0"
    raise AssertionError("an empty interval")
