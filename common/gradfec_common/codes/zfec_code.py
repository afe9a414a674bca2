"""The one door to zfec (Reed-Solomon over GF(2^8), systematic, n <= 256).

zfec 1.6.0.0 hangs for ever on a repeated primary index, returns wrong data on a repeated parity index, reads out of
bounds on an index >= n or an empty first block, and reorders the caller's list. Everything is checked here first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import zfec

Symbols = npt.NDArray[np.uint8]


class ZfecCode:
    """Reed-Solomon blocks of at most 256 symbols: any k of n decode."""

    id = 1
    name = "zfec"
    max_n = 256

    def encode(self, data: Symbols, n: int) -> Symbols:
        """Compute the (n - k, length) parity symbols of (k, length) data symbols."""
        k, length = data.shape
        self._check(k, n, length)
        if n == k:
            return np.empty((0, length), np.uint8)
        rows = [*np.ascontiguousarray(data)]
        parity = zfec.Encoder(k, n).encode(rows, [*range(k, n)])
        return np.frombuffer(b"".join(parity), np.uint8).reshape(n - k, length)

    def decode(self, symbols: Symbols, indices: npt.NDArray[np.intp], k: int, n: int) -> Symbols:
        """Recover the (k, length) data symbols from (m, length) symbols at distinct `indices` below n, m >= k.

        Raises ValueError for anything that zfec would not survive.
        """
        self._check(k, n, symbols.shape[1])
        places = np.asarray(indices)
        if places.dtype.kind not in "iu":
            raise ValueError(f"indices of dtype {places.dtype}, expected integers")
        if len(places) != len(symbols) or len(places) < k:
            raise ValueError(f"{len(symbols)} symbols at {len(places)} indices: at least k = {k} of each needed")
        if places.min() < 0 or places.max() >= n or len(np.unique(places)) != len(places):
            raise ValueError(f"indices must be distinct and in 0 .. {n - 1}")
        # the k lowest indices: every data symbol at hand, and only as much parity as is missing
        chosen = np.argsort(places, kind="stable")[:k]
        is_data = places[chosen] < k
        data = np.empty((k, symbols.shape[1]), np.uint8)
        data[places[chosen[is_data]]] = symbols[chosen[is_data]]
        if not is_data.all():
            rows = [*np.ascontiguousarray(symbols[chosen])]
            decoded = zfec.Decoder(k, n).decode(rows, places[chosen].tolist())
            for index in np.setdiff1d(np.arange(k), places[chosen[is_data]]):
                data[index] = np.frombuffer(decoded[index], np.uint8)
        return data

    def _check(self, k: int, n: int, length: int) -> None:
        if not 1 <= k <= n <= self.max_n or length < 1:
            raise ValueError(f"no zfec block with k = {k}, n = {n}, {length} bytes a symbol")
