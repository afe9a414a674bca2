"""Entropy decoding: any bytes are as many levels as asked for, of one table, or none; all decoders agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tests.common.second_encoder import range_decoded
from tests.fuzz.reader import MOST_BYTES, Reader

from gradfec_common import entropy

MOST_LEVELS = 120
INSTALLED = entropy.constriction is not None
DECODERS = [entropy.decode_in_numpy, *([entropy.decode_by_library] if INSTALLED else [])]
ENCODERS = [entropy.encode_in_numpy, *([entropy.encode_by_library] if INSTALLED else [])]


def target(data: bytes) -> None:
    """Decode bytes; code what they mean, and decode that."""
    reader = Reader(data)
    length = 1 + reader.below(MOST_LEVELS)
    untrusted = reader.take(MOST_BYTES)
    expected = range_decoded(untrusted, length) if untrusted else None
    for decode in DECODERS:
        (levels,), (there,) = decode([untrusted], length)
        assert levels.shape == (length,) and levels.dtype == np.int32
        assert (levels.tolist() if there else None) == expected
        if there:
            assert np.abs(levels).max() <= entropy.LARGEST[-1]
            both_ways(levels[np.newaxis], decode)


def both_ways(run: entropy.Levels, decode: Callable[[Sequence[bytes], int], entropy.Decoded]) -> None:
    """Code a run (1, length) with every encoder, and decode that."""
    coded = [encode(run, entropy.costs(run).table) for encode in ENCODERS]
    assert coded == coded[:1] * len(coded)
    again = decode(coded[0], run.shape[1])
    assert again.there.all() and (again.levels == run).all()
