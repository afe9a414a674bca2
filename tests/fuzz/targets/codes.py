"""The doors to the erasure codes: the right data, or ValueError; never a hang, a crash or wrong data."""

from __future__ import annotations

import numpy as np
from tests.fuzz.reader import Reader

from gradfec_common.codes import CODES, FEC

MOST_SYMBOLS = 160
DOORS = [code for code in FEC.values() if code.id in CODES]  # those whose library is installed
DTYPES = (np.intp, np.uint8, np.uint16, np.int8, np.int64, np.float64, np.bool_)


def target(data: bytes) -> None:
    """Decode a true code word with any of its symbols, or with indices and sizes that nobody has checked."""
    reader = Reader(data)
    code = DOORS[reader.below(len(DOORS))]
    (honest if reader.below(2) else wild)(code, reader)


def honest(code, reader: Reader) -> None:
    """Encode a block, take some of its symbols in any order, and see that they give the data back."""
    k = 1 + reader.below(MOST_SYMBOLS if reader.below(8) == 0 else 12)
    n = min(k + reader.below(MOST_SYMBOLS if reader.below(8) == 0 else 12), code.max_n)
    length = code.word_bytes * (1 + reader.below(40))
    rng = np.random.default_rng(reader.number())
    symbols = rng.integers(0, 256, (k, length), np.uint8)
    symbols = np.concatenate([symbols, code.encode(symbols, n)])
    order = rng.permutation(n)[: max(k, reader.below(n + 1))]
    for _ in range(reader.below(4)):  # swapped, so that it is not only the generator's choice
        i, j = reader.below(len(order)), reader.below(len(order))
        order[[i, j]] = order[[j, i]]
    before = symbols.copy()
    assert np.array_equal(code.decode(symbols[order], order, k, n), symbols[:k])
    assert np.array_equal(symbols, before)


def wild(code, reader: Reader) -> None:
    """Decode what nobody has encoded: ValueError unless it could be a block's symbols."""
    k, n = reader.number(2), reader.number(2)
    if reader.below(2):
        k, n = k % 20, n % 40
    length = reader.below(70)
    count = reader.below(MOST_SYMBOLS)
    signed = reader.below(2)
    indices = [reader.number(2 if n > 256 else 1) - (3 if signed else 0) for _ in range(count)]
    dtype = DTYPES[reader.below(len(DTYPES))] if reader.below(8) == 0 else np.intp
    with np.errstate(all="ignore"):
        places = np.array(indices, np.int64).astype(dtype)
    symbols = np.resize(np.arange(1, 252, dtype=np.uint8), (max(count - reader.below(2), 0), length))
    possible = (
        1 <= k <= n <= code.max_n
        and length > 0
        and length % code.word_bytes == 0
        and len(symbols) == len(places) >= k
        and places.dtype.kind in "iu"
        and len({*places.tolist()}) == count
        and places.min(initial=0) >= 0
        and places.max(initial=0) < n
    )
    try:
        decoded = code.decode(symbols, places, k, n)
    except ValueError:
        assert not possible, "symbols of a block refused"
        return
    assert possible, "symbols of no block taken"
    assert decoded.shape == (k, length)
    rows = {place: symbol for place, symbol in zip(places.tolist(), symbols, strict=True) if place < k}
    assert all(np.array_equal(decoded[place], symbol) for place, symbol in rows.items())
    if n <= 256:
        chosen = np.argsort(places)[:k]
        encoded = np.concatenate([decoded, code.encode(decoded, n)])
        assert np.array_equal(encoded[places[chosen]], symbols[chosen])
