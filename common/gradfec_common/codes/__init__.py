"""Erasure codes. Each is a file here and a line in CODES, and has a small id on the wire.

All codes are systematic: the first k of the n symbols of a code word are the data itself. So a data symbol that arrives
is useful even if its code word cannot be decoded.
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
    """An (n, k) erasure code: any k of the n symbols of a code word give back its k data symbols."""

    id: int
    name: str
    max_n: int
    word_bytes: int  # the length of a symbol is a multiple of this

    def group_n(self, parity_share: float) -> int:
        """Return the most datagrams, 2 to max_n, in a group of FEC_A_B of which `parity_share` is parity."""

    def encode(self, data: Symbols, n: int) -> Symbols:
        """Compute the (n - k, length) parity symbols of (k, length) data symbols."""

    def decode(self, symbols: Symbols, indices: npt.NDArray[np.intp], k: int, n: int) -> Symbols:
        """Recover the (k, length) data symbols from (m, length) distinct symbols of the code word, m >= k.

        `indices` (m,) are the symbols' places in the code word, 0 .. n-1, each at most once.
        """


class Bare:
    """No parity: n = k symbols, each of them data."""

    id = 0
    name = "none"
    max_n = 65_535
    word_bytes = 1

    def group_n(self, parity_share: float) -> int:
        """Return `max_n`: smaller groups would have no advantage."""
        return self.max_n

    def encode(self, data: Symbols, n: int) -> Symbols:
        """Return no parity: (0, length); ValueError if n is not k."""
        if n != len(data):
            raise ValueError(f"without parity n = k, but n = {n} and k = {len(data)}")
        return np.empty((0, data.shape[1]), np.uint8)

    def decode(self, symbols: Symbols, indices: npt.NDArray[np.intp], k: int, n: int) -> Symbols:
        """Put the k symbols (k, length) in their order; ValueError if there are not k, or n is not k."""
        if len(indices) != k or n != k:
            raise ValueError(f"(n, k) = ({n}, {k}) without parity cannot be decoded from {len(indices)} symbols")
        data = np.empty_like(symbols)
        data[indices] = symbols
        return data


BARE = Bare()
ZFEC = ZfecCode()
LEOPARD = LeopardCode()
CODES: dict[int, ErasureCode] = {code.id: code for code in (BARE, ZFEC)}
if leopard_code.INSTALLED:
    CODES[LEOPARD.id] = LEOPARD

FEC: dict[str, ZfecCode | LeopardCode] = {code.name: code for code in (ZFEC, LEOPARD)}  # offered as --fec


def fec_code(text: str) -> ErasureCode:
    """Read a name in FEC, or a name and the datagrams of a group, as in zfec:256; UsageError for anything else."""
    name, colon, size = text.partition(":")
    if name not in FEC:
        raise UsageError(f"{text!r} is not an erasure code: use {' or '.join(FEC)}, or for example {ZFEC.name}:256")
    code = FEC[name]
    if not colon:
        return code
    if not (size.isascii() and size.isdigit() and 2 <= int(size) <= code.max_n):
        raise UsageError(f"{text!r}: a group with {name} has 2 to {code.max_n} datagrams, for example {name}:256")
    return replace(code, group=int(size))


def fec_named(text: str) -> ErasureCode:
    """Return the code that `fec_code` reads; UsageError if its library is not installed."""
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
    """Applies a function to each item: `map`, or the `map` of a thread pool for codes that release the GIL."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterable[R]:
        """Return the results in the order of the items."""


WORTH_A_THREAD = (
    1000  # multiplications for each byte of a symbol: below this, starting a thread costs more than it saves
)


def worth_threads(work: Sequence[int], each: Each) -> Each:
    """Return `each` if several calls each take enough multiplications for a byte of a symbol, otherwise `map`."""
    return each if len(work) > 1 and min(work) >= WORTH_A_THREAD else map
