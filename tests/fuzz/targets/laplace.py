"""Entropy decoding: any bytes are as many levels as asked for, of one table, or none; the second decoder agrees."""

from __future__ import annotations

import numpy as np
from tests.common.second_encoder import range_decoded
from tests.fuzz.reader import MOST_BYTES, Reader

from gradfec_common import entropy

MOST_LEVELS = 120


def target(data: bytes) -> None:
    """Decode bytes; code what they mean, and decode that."""
    reader = Reader(data)
    length = 1 + reader.below(MOST_LEVELS)
    untrusted = reader.take(MOST_BYTES)
    levels = entropy.decode(untrusted, length)
    if not untrusted:
        assert levels is None
        return
    assert (None if levels is None else levels.tolist()) == range_decoded(untrusted, length)
    if levels is None:
        return
    assert levels.shape == (length,) and levels.dtype == np.int32
    assert np.abs(levels).max() <= entropy.LARGEST[-1]
    (best,) = entropy.encode(levels[np.newaxis], entropy.costs(levels[np.newaxis]).table)
    again = entropy.decode(best, length)
    assert again is not None and again.tolist() == levels.tolist()
