"""Checks of a decoder's input, because native code may trust whatever index or length it gets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Symbols = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.intp]


def in_rows(symbols: Symbols, indices: Indices, k: int, n: int) -> tuple[Symbols, Indices]:
    """Put the k symbols of the lowest indices into rows: copies of them (k, length), and the index (k,) of each row.

    Each data symbol is in its own row. Parity symbols, with indices from k on, are in the rows of missing data
    symbols, and no more of them are taken than are needed. `symbols` is (m, length), and `indices` (m,) are distinct
    and in 0 .. n-1, with m >= k. Raises ValueError for any other input.
    """
    places = np.asarray(indices)
    if symbols.ndim != 2 or symbols.dtype != np.uint8:
        raise ValueError(f"symbols of shape {symbols.shape}, {symbols.dtype}: they must be (m, length) uint8")
    if places.ndim != 1 or places.dtype.kind not in "iu":
        raise ValueError(f"indices of shape {places.shape}, {places.dtype}: they must be (m,) integers")
    if len(places) != len(symbols) or len(places) < k:
        raise ValueError(f"{len(symbols)} symbols at {len(places)} indices: at least k = {k} of each are needed")
    if places.min() < 0 or places.max() >= n or len(np.unique(places)) != len(places):
        raise ValueError(f"indices must be distinct and in 0 .. {n - 1}")
    chosen = np.argsort(places, kind="stable")[:k]
    is_data = places[chosen] < k
    rows = np.full(k, -1)
    rows[places[chosen[is_data]]] = chosen[is_data]
    rows[rows < 0] = chosen[~is_data]
    return symbols[rows], places[rows].astype(np.intp)
