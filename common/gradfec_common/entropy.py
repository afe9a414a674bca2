"""Entropy coding of whole numbers by static tables: the only module that imports `constriction`.

A table is a Laplace distribution, rounded to whole levels. Each run of levels names the table that suits it best, so it
can be decoded without the other runs. docs/reference/protocol.md specifies tables and bytes.

Constriction codes runs where it is installed, and otherwise numpy: the bytes are the same, but that takes twice as
long for a tensor of latents, and hundreds of times as long for a few long runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common import range_coding
from gradfec_common.range_coding import STATE_WORDS, WHOLE, WORD_BYTES, WORD_MASK, Alphabets, Decoder, Parts, to_the_end

try:
    import constriction
except ImportError:  # it has no wheel for Linux on ARM (see pyproject.toml)
    constriction = None

Levels = npt.NDArray[np.int32]
Tables = npt.NDArray[np.intp]

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


class Table(NamedTuple):
    """A distribution of levels -`largest` .. `largest`. `bits` (largest + 1,) is the cost of levels by size."""

    largest: int
    bits: npt.NDArray[np.float64]


@lru_cache(1)
def tables() -> tuple[Table, ...]:
    """Return the tables, from the narrowest to the widest."""
    return tuple(
        Table(largest, -np.log2(parts[largest:] / WHOLE)) for largest, parts in zip(LARGEST, all_parts(), strict=True)
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


@lru_cache(1)
def _alphabets() -> Alphabets:
    """Return the tables, and after them that of the tables' numbers."""
    return Alphabets([*all_parts(), which_parts()])


@lru_cache(1)
def _zeros() -> Tables:
    """Return the symbols of each table's level 0 (TABLES,)."""
    zeros: Tables = _alphabets().first[:TABLES] + np.array(LARGEST)
    return zeros


class Costs(NamedTuple):
    """What coding runs of levels (m, length) takes: `table` (m,), the best for each run, and `bits` (m,)."""

    table: Tables
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


def encode(levels: Levels, chosen: Tables) -> list[bytes]:
    """Code runs of levels (m, length) by the chosen tables (m,); return the bytes of each, at least one."""
    return encode_in_numpy(levels, chosen) if constriction is None else encode_by_library(levels, chosen)


def encode_in_numpy(levels: Levels, chosen: Tables) -> list[bytes]:
    """Encode as `encode` does, all runs side by side."""
    alphabets = _alphabets()
    symbols = np.empty((1 + levels.shape[1], len(levels)), np.intp)
    np.add(chosen, alphabets.first[TABLES], out=symbols[0])
    np.add(levels.T, _zeros()[chosen], out=symbols[1:])
    return range_coding.encode(symbols, alphabets)


def encode_by_library(levels: Levels, chosen: Tables) -> list[bytes]:
    """Encode as `encode` does, run by run with constriction, which must be installed.

    The library ends each run with words of its own choice, those of low + 2^32 - 1. Fewer bytes do.
    """
    *models, which = _models()
    symbols = levels + np.array(LARGEST, np.int32)[chosen, np.newaxis]
    range_encoder = constriction.stream.queue.RangeEncoder
    heads, states = [], []
    for run, table in zip(symbols, chosen.tolist(), strict=True):
        encoder = range_encoder()
        encoder.encode(table, which)
        encoder.encode(run, models[table])
        behind, state = encoder.pos()
        heads.append(encoder.get_compressed()[:behind].astype(">u4").tobytes())
        states.append(state)
    low, width = np.array(states, np.uint64).reshape(-1, 2).T
    number = low + to_the_end(low, width)
    carries = (number < low).astype(np.intp) - (low + WORD_MASK < low)  # beside what the library's choice carried
    for index in np.flatnonzero(carries).tolist():
        head = int.from_bytes(heads[index], "big") + int(carries[index])
        heads[index] = head.to_bytes(len(heads[index]), "big")
    ends, size = number.astype(">u8").tobytes(), WORD_BYTES * STATE_WORDS
    return [(head + ends[size * n : size * n + size]).rstrip(b"\0") or b"\0" for n, head in enumerate(heads)]


class Decoded(NamedTuple):
    """The `levels` of runs (m, length), and which runs are `there` (m,): the levels of others are 0."""

    levels: Levels
    there: npt.NDArray[np.bool_]


def decode(coded: Sequence[bytes], length: int) -> Decoded:
    """Decode runs of `length` levels from untrusted bytes. One without bytes, or whose bytes fit no level, is missing.

    Most bytes are some run's code, so bytes that were changed or cut short lead to other levels.
    """
    return decode_in_numpy(coded, length) if constriction is None else decode_by_library(coded, length)


def decode_in_numpy(coded: Sequence[bytes], length: int) -> Decoded:
    """Decode as `decode` does, all runs side by side."""
    alphabets, symbols = _alphabets(), np.empty((length, len(coded)), np.intp)
    decoder = Decoder(coded, alphabets)
    table = decoder.symbols(np.full(len(coded), TABLES * WHOLE, np.uint64)) - alphabets.first[TABLES]
    there = (table < TABLES) & np.array([bool(one) for one in coded], np.bool_)
    table[~there] = 0  # any
    wholes = (table * WHOLE).astype(np.uint64)
    for row in symbols:
        row[:] = decoder.symbols(wholes)
    levels = (symbols - _zeros()[table]).T
    there &= (levels <= np.array(LARGEST)[table, np.newaxis]).all(axis=1)
    return Decoded(np.where(there[:, np.newaxis], levels, 0).astype(np.int32), there)


def decode_by_library(coded: Sequence[bytes], length: int) -> Decoded:
    """Decode as `decode` does, run by run with constriction, which must be installed."""
    levels, there = np.zeros((len(coded), length), np.int32), np.zeros(len(coded), np.bool_)
    *models, which = _models()
    range_decoder = constriction.stream.queue.RangeDecoder
    for run, one in enumerate(coded):
        if not one:
            continue
        padded = one + bytes(WORD_BYTES * STATE_WORDS + -len(one) % WORD_BYTES)
        decoder = range_decoder(np.frombuffer(padded, ">u4").astype(np.uint32))
        try:
            table = decoder.decode(which)
            levels[run] = decoder.decode(models[table], length) - LARGEST[table]
            there[run] = True
        except AssertionError:  # the library's word for a number that belongs to no level
            pass
    return Decoded(levels, there)


@lru_cache(1)
def _models() -> list[constriction.stream.model.Categorical]:
    """Return the tables for the library, and after them that of the tables' numbers.

    It gives each symbol one part, and shares out the rest: so these have exactly their parts.
    """
    return [constriction.stream.model.Categorical(one - 1.0, perfect=False) for one in (*all_parts(), which_parts())]
