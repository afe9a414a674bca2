"""Range coding of many runs of symbols side by side, in numpy: a Python loop over the steps, each a step of all runs.

docs/reference/protocol.md, section 5.2.1, specifies the coder: low, width, unit, parts, and where the bytes end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Parts = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.intp]
State = npt.NDArray[np.uint64]

WHOLE = 1 << 24  # chances are whole numbers of parts of this, and at least one
WORD_BYTES = 4
STATE_WORDS = 2  # of low and width
WIDEST = (1 << 64) - 1

# Arrays without axes: numpy is slower with Python's numbers.
PRECISION = np.array(24, np.uint64)
WORD = np.array(32, np.uint64)
WORD_MASK = np.array((1 << 32) - 1, np.uint64)
NARROW = np.array(1 << 32, np.uint64)  # a width below this takes in a word
TAILS = np.array([[(1 << 8 * size) - 1] for size in range(STATE_WORDS * WORD_BYTES + 1)], np.uint64)


class Alphabets:
    """Alphabets' symbols, numbered one alphabet after the other: `first[a]` is the first of alphabet a.

    `parts` are the symbols' chances, of WHOLE in each alphabet, and `before` the sums of those before them there.
    """

    def __init__(self, alphabets: Sequence[Parts]) -> None:
        """Take the parts of the symbols of each alphabet."""
        every = np.concatenate(alphabets)
        ends = np.cumsum(every)  # as if the alphabets had WHOLE parts each of something
        self.first = np.cumsum([0, *map(len, alphabets)])
        self.ends = ends.astype(np.uint64)
        # One more symbol, after the last alphabet: what bytes may lead to that no encoder made.
        self.parts = np.append(every, 1).astype(np.uint64)
        self.before = np.append((ends - every) % WHOLE, 0).astype(np.uint64)


def encode(symbols: Symbols, alphabets: Alphabets) -> list[bytes]:
    """Code runs of symbols (steps, m), a run a column; return the fewest bytes of each, at least one.

    low is a sum of unit x before, and nothing else depends on it: so the loop is about widths alone.
    """
    m = symbols.shape[1]
    runs = np.arange(m)
    units, behind, width = _narrowed(alphabets.parts.take(symbols))
    state = behind[-1]
    words = np.zeros((int(state.max(initial=0)) + STATE_WORDS, m), np.uint64)  # low's, with carries on top
    flat = words.reshape(-1)
    cells = (behind[:-1] * m + runs).ravel()
    added = (units * alphabets.before.take(symbols)).ravel()
    np.add.at(flat, cells, added >> WORD)
    np.add.at(flat[m:], cells, added & WORD_MASK)
    end = to_the_end((words[state, runs] << WORD) + words[state + 1, runs], width)
    words[state, runs] += end >> WORD
    words[state + 1, runs] += end & WORD_MASK
    return _bytes(words)


class _Narrowed(NamedTuple):
    """What follows from the symbols' parts (steps, m).

    The `units` (steps, m), how many words are `behind` the state, before each step and at the end (steps + 1, m), and
    the last `width` (m,).
    """

    units: State
    behind: Symbols
    width: State


def _narrowed(parts: State) -> _Narrowed:
    steps, m = parts.shape
    units, behind = np.empty_like(parts), np.zeros((steps + 1, m), np.intp)
    width, wider = np.full(m, WIDEST, np.uint64), np.empty(m, np.uint64)
    narrow = np.empty(m, np.bool_)
    for unit, part, before, after in zip(units, parts, behind[:-1], behind[1:], strict=True):
        np.right_shift(width, PRECISION, unit)
        np.multiply(unit, part, width)
        np.less(width, NARROW, narrow)
        np.left_shift(width, WORD, wider)
        np.copyto(width, wider, where=narrow)
        np.add(before, narrow, after)
    return _Narrowed(units, behind, width)


def to_the_end(low: State, width: State) -> State:
    """Return how far it is (m,) from low to the number in the interval that ends with the most bytes of zeros.

    low and width are the last 64 bits of them.
    """
    further = (~low + np.uint64(1)) & TAILS  # (9, m): to the next number that ends with 0 to 8 bytes of zeros
    most = np.count_nonzero(further < width, axis=0) - 1
    end: State = further[most, np.arange(len(low))]
    return end


def _bytes(words: State) -> list[bytes]:
    """Return each column (count, m) of words as bytes without trailing zeros, after all carries."""
    for row in range(len(words) - 1, 0, -1):
        words[row - 1] += words[row] >> WORD
    data, size = (words & WORD_MASK).T.astype(">u4").tobytes(), WORD_BYTES * len(words)
    return [data[start : start + size].rstrip(b"\0") or b"\0" for start in range(0, len(data), size)]


class Decoder:
    """Decodes runs from untrusted bytes, a symbol of each at a time; zeros follow the bytes.

    Instead of the number in the bytes, and low, it has `rest`: how far the number is above low.
    """

    def __init__(self, coded: Sequence[bytes], alphabets: Alphabets) -> None:
        """Take the bytes of each run."""
        self._alphabets = alphabets
        zeros = STATE_WORDS + 1  # words after each run's bytes
        data = b"".join([one + bytes(WORD_BYTES * zeros + -len(one) % WORD_BYTES) for one in coded])
        sizes = np.array([len(one) for one in coded], np.intp)
        ends = np.cumsum(-(-sizes // WORD_BYTES) + zeros)
        self._words = np.frombuffer(data, ">u4").astype(np.uint64)
        self._last = ends - 1  # each run's last word is a zero, and taken in again and again
        first = np.concatenate([[0], ends])[:-1].astype(np.intp)
        self._rest = (self._words[first] << WORD) + self._words[first + 1]
        self._next = first + STATE_WORDS
        self._width = np.full(len(coded), WIDEST, np.uint64)
        self._unit, self._number, self._wider = (np.empty_like(self._width) for _ in range(3))
        self._narrow = np.empty(len(coded), np.bool_)

    def symbols(self, wholes: State) -> Symbols:
        """Return the next symbol of each run (m,), where `wholes` (m,) are the numbers of alphabets times WHOLE.

        A number that belongs to no symbol leads to one of another alphabet, or of none. Whatever follows in that run
        means nothing, and harms no other.
        """
        rest, width, unit, number = self._rest, self._width, self._unit, self._number
        np.right_shift(width, PRECISION, unit)
        np.floor_divide(rest, unit, number)
        np.add(number, wholes, number)
        symbols: Symbols = self._alphabets.ends.searchsorted(number, "right")
        self._alphabets.before.take(symbols, out=number, mode="clip")
        np.multiply(number, unit, number)
        np.subtract(rest, number, rest)
        self._alphabets.parts.take(symbols, out=number, mode="clip")
        np.multiply(number, unit, width)
        np.less(width, NARROW, self._narrow)
        if np.count_nonzero(self._narrow):
            self._take_in()
        return symbols

    def _take_in(self) -> None:
        """Take in another word where the width is narrow."""
        narrow, wider = self._narrow, self._wider
        np.left_shift(self._width, WORD, wider)
        np.copyto(self._width, wider, where=narrow)
        np.left_shift(self._rest, WORD, wider)
        np.add(wider, self._words.take(self._next), wider)
        np.copyto(self._rest, wider, where=narrow)
        np.add(self._next, narrow, self._next)
        np.minimum(self._next, self._last, out=self._next)
