"""Erasure codes over the symbols of a block, behind one interface and named on the wire by a small id.

All are systematic: the first k of a block's n symbols are the data itself, so that each data symbol that arrives is
usable whether its block decodes or not.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common.codes.zfec_code import ZfecCode

Symbols = npt.NDArray[np.uint8]


class ErasureCode(Protocol):
    """An (n, k) erasure code: any k of a block's n symbols give back its k data symbols, unless said otherwise."""

    id: int
    name: str
    max_n: int

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
CODES: dict[int, ErasureCode] = {code.id: code for code in (BARE, ZFEC)}
