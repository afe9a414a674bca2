"""Reed-Solomon over GF(2^8), systematic, n <= 256. The only module that imports zfec.

zfec 1.6.0.0 hangs forever on a repeated data index, returns wrong data on a repeated parity index, reads out of bounds
on an index >= n or an empty first symbol, and reorders the caller's list. So this module checks all input first.

zfec releases the GIL while it codes. Making a coder takes a third of the time of coding a (256, 128) code word, so they
are cached. A coder holds nothing but its matrix, which never changes, so threads may share it.
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

MULTIPLICATIONS = 20  # a byte: groups of 80 for FEC_50_50, of 125 for FEC_20_80, of 222 for FEC_10_90
CODERS = 16  # cached encoders, and as many decoders, of n x k bytes each: changing (n, k) does not fill the memory


@dataclass(frozen=True)
class ZfecCode:
    """Code words of at most 256 symbols. Any k of the n symbols are enough.

    FEC_A_B makes groups of `group` datagrams if given.
    """

    group: int | None = None

    id = 1
    name = "zfec"
    max_n = 256
    word_bytes = 1

    def group_n(self, parity_share: float) -> int:
        """Return `group` if given, otherwise the largest n that costs at most MULTIPLICATIONS a byte.

        Larger groups protect better and cost more. Encoding takes k (n - k) / n multiplications for each byte of a code
        word, which is n times the share of data times the share of parity.
        """
        if self.group is not None:
            return self.group
        most = MULTIPLICATIONS / max(parity_share * (1 - parity_share), MULTIPLICATIONS / self.max_n)
        return max(int(most), 2)

    def encode(self, data: Symbols, n: int) -> Symbols:
        """Compute the (n - k, length) parity symbols of (k, length) data symbols; ValueError for a bad (n, k)."""
        k, length = data.shape
        self._check(k, n, length)
        if n == k:
            return np.empty((0, length), np.uint8)
        parity = encoder(k, n).encode([*np.ascontiguousarray(data)], [*range(k, n)])
        return np.frombuffer(b"".join(parity), np.uint8).reshape(n - k, length)

    def decode(self, symbols: Symbols, indices: npt.NDArray[np.intp], k: int, n: int) -> Symbols:
        """Recover the (k, length) data symbols from (m, length) symbols at distinct `indices` below n, m >= k.

        Raises ValueError for input that zfec would not survive.
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
                f"zfec cannot code k = {k}, n = {n}, {length} bytes a symbol: it needs 1 <= k <= n <= {self.max_n} and "
                "at least one byte"
            )


@lru_cache(CODERS)
def encoder(k: int, n: int) -> Any:
    """Return zfec's encoder for (n, k)."""
    return zfec.Encoder(k, n)


@lru_cache(CODERS)
def decoder(k: int, n: int) -> Any:
    """Return zfec's decoder for (n, k)."""
    return zfec.Decoder(k, n)
