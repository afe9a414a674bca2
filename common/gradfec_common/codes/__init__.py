"""Erasure codes over the symbols of a block, behind one interface and named on the wire by a small id.

All are systematic: the first k of a block's n symbols are the data itself, so that each data symbol that arrives is
usable whether its block decodes or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import leopard_code
from gradfec_common.codes.leopard_code import LeopardCode
from gradfec_common.codes.zfec_code import ZfecCode
from gradfec_common.errors import UsageError

Symbols = npt.NDArray[np.uint8]


class ErasureCode(Protocol):
    """An (n, k) erasure code: any k of a block's n symbols give back its k data symbols, unless said otherwise."""

    id: int
    name: str
    max_n: int
    word_bytes: int  # of an element of the code's field: a symbol's length is a multiple of it

    def block_n(self, parity_share: float) -> int:
        """Return how many symbols, 2 to max_n, FEC_A_B gives a block at most, of which that share is parity."""

    def encode(self, data: Symbols, n: int) -> Symbols:
        """Compute the (n - k, length) parity symbols of (k, length) data symbols."""

    def decode(self, symbols: Symbols, indices: npt.NDArray[np.intp], k: int, n: int) -> Symbols:
        """Recover the (k, length) data symbols from (m, length) distinct symbols of the block, m >= k.

        `indices` (m,) are the symbols' places in the block, 0 .. n-1, each at most once.
        """


class Bare:
    """No code at all: a block of n = k symbols, each standing for itself."""

    id = 0
    name = "none"
    max_n = 65_535
    word_bytes = 1

    def block_n(self, parity_share: float) -> int:
        """Return how many symbols a block may have: there is nothing to be gained by fewer."""
        return self.max_n

    def encode(self, data: Symbols, n: int) -> Symbols:
        """Return no parity: (0, length)."""
        if n != len(data):
            raise ValueError(f"a bare block has n = k, got n = {n}, k = {len(data)}")
        return np.empty((0, data.shape[1]), np.uint8)

    def decode(self, symbols: Symbols, indices: npt.NDArray[np.intp], k: int, n: int) -> Symbols:
        """Put the k symbols in their order."""
        if len(indices) != k or n != k:
            raise ValueError(f"a bare block of {k} symbols cannot be decoded from {len(indices)}")
        data = np.empty_like(symbols)
        data[indices] = symbols
        return data


BARE = Bare()
ZFEC = ZfecCode()
LEOPARD = LeopardCode()
CODES: dict[int, ErasureCode] = {code.id: code for code in (BARE, ZFEC)}
if leopard_code.INSTALLED:
    CODES[LEOPARD.id] = LEOPARD

FEC: dict[str, ZfecCode | LeopardCode] = {code.name: code for code in (ZFEC, LEOPARD)}  # what FEC_A_B can be made of


def fec_code(text: str) -> ErasureCode:
    """Return the code of a name in FEC, or, as in zfec:256, with blocks of so many symbols; UsageError for another."""
    name, colon, size = text.partition(":")
    if name not in FEC:
        raise UsageError(f"{text!r} is no erasure code: use {' or '.join(FEC)}, or for example {ZFEC.name}:256")
    code = FEC[name]
    if not colon:
        return code
    if not (size.isascii() and size.isdigit() and 2 <= int(size) <= code.max_n):
        raise UsageError(f"{text!r}: a block of {name} has 2 to {code.max_n} symbols, for example {name}:256")
    return replace(code, block=int(size))


def fec_named(text: str) -> ErasureCode:
    """Return the code that `fec_code` does; UsageError where its library is not installed."""
    code = fec_code(text)
    if code.id not in CODES:
        raise UsageError(
            f"{code.name} needs the package reed-solomon-leopard, which is not installed: use {ZFEC.name}, or pip "
            "install reed-solomon-leopard (Python 3.10 to 3.12; for others it needs a Rust compiler)"
        )
    return code


T = TypeVar("T")
R = TypeVar("R")


class Each(Protocol):
    """How to apply a function to each block: `map`, or that of a pool of threads for codes that release the GIL."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterable[R]:
        """Return what `function` makes of each item, in their order."""


WORTH_A_THREAD = 1000  # multiplications for each byte of a symbol: for less, threads wait longer than they work


def worth_threads(work: Sequence[int], each: Each) -> Each:
    """Return `each` for several calls that each make enough multiplications for a byte of a symbol, else `map`."""
    return each if len(work) > 1 and min(work) >= WORTH_A_THREAD else map
