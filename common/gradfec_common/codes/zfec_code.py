"""The one door to zfec (Reed-Solomon over GF(2^8), systematic, n <= 256).

zfec 1.6.0.0 hangs for ever on a repeated primary index, returns wrong data on a repeated parity index, reads out of
bounds on an index >= n or an empty first block, and reorders the caller's list. Everything is checked here first.

It releases the GIL while it codes. To make a coder costs as much as a third of coding a block of (256, 128), so they
are kept: they hold their matrix alone, which nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import zfec

from gradfec_common.codes.received import in_rows

Symbols = npt.NDArray[np.uint8]

MULTIPLICATIONS = 20  # a byte: blocks of 80 for FEC_50_50, of 125 for FEC_20_80, of 222 for FEC_10_90
CODERS = 16  # kept of each kind, with n x k bytes each: whoever asks for ever new (n, k) cannot fill the memory


@dataclass(frozen=True)
class ZfecCode:
    """Reed-Solomon blocks of at most 256 symbols: any k of n decode. FEC_A_B makes them of `block` symbols if given."""

    block: int | None = None

    id = 1
    name = "zfec"
    max_n = 256
    word_bytes = 1

    def block_n(self, parity_share: float) -> int:
        """Return how many symbols a block may have: the larger, the better it protects, and the more it costs.

        Encoding takes k (n - k) / n multiplications for each byte of a block, n times the shares of data and parity:
        blocks are as large as that stays within MULTIPLICATIONS.
        """
        if self.block is not None:
            return self.block
        most = MULTIPLICATIONS / max(parity_share * (1 - parity_share), MULTIPLICATIONS / self.max_n)
        return max(int(most), 2)

    def encode(self, data: Symbols, n: int) -> Symbols:
        """Compute the (n - k, length) parity symbols of (k, length) data symbols; ValueError for a block it lacks."""
        k, length = data.shape
        self._check(k, n, length)
        if n == k:
            return np.empty((0, length), np.uint8)
        parity = encoder(k, n).encode([*np.ascontiguousarray(data)], [*range(k, n)])
        return np.frombuffer(b"".join(parity), np.uint8).reshape(n - k, length)

    def decode(self, symbols: Symbols, indices: npt.NDArray[np.intp], k: int, n: int) -> Symbols:
        """Recover the (k, length) data symbols from (m, length) symbols at distinct `indices` below n, m >= k.

        Raises ValueError for anything that zfec would not survive.
        """
        self._check(k, n, symbols.shape[-1])
        data, places = in_rows(symbols, indices, k, n)
        missing = np.flatnonzero(places >= k)
        if len(missing):
            decoded = decoder(k, n).decode([*data], places.tolist())
            recovered = b"".join(decoded[row] for row in missing)
            data[missing] = np.frombuffer(recovered, np.uint8).reshape(len(missing), -1)
        return data

    def _check(self, k: int, n: int, length: int) -> None:
        if not 1 <= k <= n <= self.max_n or length < 1:
            raise ValueError(
                f"no zfec block with k = {k}, n = {n}, {length} bytes a symbol: 1 <= k <= n <= {self.max_n} and at "
                "least one byte needed"
            )


@lru_cache(CODERS)
def encoder(k: int, n: int) -> Any:
    """Return zfec's encoder for blocks of (n, k)."""
    return zfec.Encoder(k, n)


@lru_cache(CODERS)
def decoder(k: int, n: int) -> Any:
    """Return zfec's decoder for blocks of (n, k)."""
    return zfec.Decoder(k, n)
