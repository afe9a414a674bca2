"""Reed-Solomon over GF(2^16) in O(n log n), systematic. The only module that imports reed-solomon-leopard.

S.-J. Lin, T. Y. Al-Naffouri, Y. S. Han, W.-H. Chung, "Novel Polynomial Basis with Fast Fourier Transform and Its
Application to Reed-Solomon Erasure Codes", 2016; C. A. Taylor's Leopard-RS; the Rust crate reed-solomon-simd 3, whose
code words docs/reference/protocol.md specifies. This module checks all input first. The library has checks of its own,
but takes dictionaries, in which a repeated index replaces an earlier one without notice. It also raises TypeError for a
symbol of another type and OverflowError for a negative index, and allocates memory according to k and n.

The library holds the GIL, and one code word is one call, so threads would not help.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradfec_common.codes.received import in_rows

try:
    import reed_solomon_leopard
except ImportError:  # it has no wheel for Python 3.13 (see pyproject.toml): then CODES does not contain this code
    reed_solomon_leopard = None

Symbols = npt.NDArray[np.uint8]

INSTALLED = reed_solomon_leopard is not None


@dataclass(frozen=True)
class LeopardCode:
    """Code words of at most 32,768 symbols of even length. Any k of the n symbols are enough.

    FEC_A_B makes one group of a whole tensor, or groups of `group` datagrams if given.
    """

    group: int | None = None

    id = 2
    name = "leopard"
    max_n = 32_768  # up to this, the library supports every k and n - k
    word_bytes = 2

    def group_n(self, parity_share: float) -> int:
        """Return `group` if given, otherwise `max_n`: a whole tensor is then one code word."""
        return self.max_n if self.group is None else self.group

    def encode(self, data: Symbols, n: int) -> Symbols:
        """Compute the (n - k, length) parity symbols of (k, length) data symbols; ValueError for a bad (n, k)."""
        k, length = data.shape
        self._check(k, n, length)
        if n == k:
            return np.empty((0, length), np.uint8)
        parity = reed_solomon_leopard.encode(as_bytes(data), n - k)
        return as_matrix(parity, length)

    def decode(self, symbols: Symbols, indices: npt.NDArray[np.intp], k: int, n: int) -> Symbols:
        """Recover the (k, length) data symbols from (m, length) symbols at distinct `indices` below n, m >= k.

        Raises ValueError for any other input.
        """
        self._check(k, n, symbols.shape[-1])
        data, places = in_rows(symbols, indices, k, n)
        if (places >= k).any():
            known = [*zip(places.tolist(), as_bytes(data), strict=True)]
            original = {index: symbol for index, symbol in known if index < k}
            recovery = {index - k: symbol for index, symbol in known if index >= k}
            recovered = reed_solomon_leopard.decode(k, n - k, original, recovery)
            data[[*recovered]] = as_matrix([*recovered.values()], data.shape[1])
        return data

    def _check(self, k: int, n: int, length: int) -> None:
        if not 1 <= k <= n <= self.max_n or length < 1 or length % self.word_bytes:
            raise ValueError(
                f"leopard cannot code k = {k}, n = {n}, {length} bytes a symbol: it needs 1 <= k <= n <= {self.max_n} "
                "and an even number of bytes, at least 2"
            )


def as_matrix(symbols: list[bytes], length: int) -> Symbols:
    """Return m symbols of bytes as (m, length)."""
    return np.frombuffer(b"".join(symbols), np.uint8).reshape(len(symbols), length)


def as_bytes(symbols: Symbols) -> list[bytes]:
    """Return (m, length) symbols as m bytes objects, the only type that the library takes."""
    rows = np.ascontiguousarray(symbols).view(f"V{symbols.shape[1]}")  # (m, length) -> (m, 1) opaque items
    as_list: list[bytes] = rows[:, 0].tolist()
    return as_list
