"""Sketches: what is written is read; bytes that are no sketch are told from one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.common.small_tensors import alone

from gradfec_common import wire
from gradfec_common.codes import BARE, ZFEC
from gradfec_common.protect import Group, Plan
from gradfec_common.session.events import CloudLimits
from gradfec_common.sketch import (
    MAX_PHOTOGRAPH_BYTES,
    Fate,
    Sketch,
    importance_levels,
    plan_fates,
    read_sketch,
    sketch_bytes,
    sketch_parts,
)

from . import second_encoder

PHOTOGRAPH = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 9


def drawn(seed, count, photograph=b""):
    rng = np.random.default_rng(seed)
    fates, importance = rng.integers(0, 3, count), rng.integers(0, 16, count)
    return Sketch(fates.astype(np.uint8), importance.astype(np.uint8), photograph)


def same(one, other):
    return one is not None and all(map(np.array_equal, one, other))


@given(st.integers(0, 2**32), st.integers(1, 3000), st.sampled_from([b"", PHOTOGRAPH]))
def test_a_sketch_comes_back_from_its_parts(seed, count, photograph):
    sketch = drawn(seed, count, photograph)
    parts = sketch_parts(7, sketch_bytes(sketch))
    assert [(part.tensor, part.part, part.parts) for part in parts] == [(7, i, len(parts)) for i in range(len(parts))]
    assert same(read_sketch(b"".join(part.data for part in parts), count), sketch)


@given(st.integers(0, 2**32), st.integers(1, 3000), st.sampled_from([b"", PHOTOGRAPH]))
def test_the_second_encoder_makes_the_same_sketch(seed, count, photograph):
    sketch = drawn(seed, count, photograph)
    theirs = second_encoder.sketch(sketch.fates.tolist(), sketch.importance.tolist(), photograph)
    assert sketch_bytes(sketch) == theirs


@pytest.mark.parametrize("size", [1, 1023, 1024, 1025, 2049])
def test_the_second_encoder_makes_the_same_parts(size):
    whole = np.random.default_rng(size).bytes(size)
    assert [vars(part) for part in sketch_parts(3, whole)] == second_encoder.in_parts(3, whole)


def test_every_part_of_the_largest_sketch_fits_a_datagram():
    largest = sketch_bytes(drawn(1, 65_536, PHOTOGRAPH[:4] + bytes(MAX_PHOTOGRAPH_BYTES - 4)))
    parts = sketch_parts(2**32 - 1, largest)
    assert max(len(wire.message_body(part)) for part in parts) + wire.SEAL_BYTES <= wire.MAX_DATAGRAM_BYTES
    assert len(largest) <= CloudLimits().sketch_bytes
    assert all(not isinstance(wire.read_message(wire.message_body(part)), wire.Drop) for part in parts)


def test_with_the_default_split_and_rows_there_are_two_parts_and_ten_with_the_largest_photograph():
    for photograph, count in ((b"", 2), (PHOTOGRAPH[:4] + bytes(MAX_PHOTOGRAPH_BYTES - 4), 10)):
        assert len(sketch_parts(0, sketch_bytes(drawn(1, 2048, photograph)))) == count


GOOD = sketch_bytes(drawn(3, 8, PHOTOGRAPH))  # 2 bytes, 4, the length, the photograph


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        GOOD[:7],
        GOOD[:-1],
        GOOD + b"\0",
        b"\xc0" + GOOD[1:],  # a fate that there is not
        GOOD[:8] + b"GIF89a" + GOOD[14:],
        GOOD[:6] + (MAX_PHOTOGRAPH_BYTES + 1).to_bytes(2, "big") + PHOTOGRAPH.ljust(MAX_PHOTOGRAPH_BYTES + 1, b"\0"),
    ],
    ids=["empty", "no length", "cut", "more than one", "fate", "no JPEG", "too long"],
)
def test_what_is_no_sketch_is_none(bad):
    assert read_sketch(bad, 8) is None


@given(st.binary(max_size=80), st.integers(1, 64))
def test_any_bytes_are_a_sketch_or_none(untrusted, count):
    sketch = read_sketch(untrusted, count)
    if sketch is not None:
        assert sketch.fates.shape == sketch.importance.shape == (count,)
        assert set(sketch.fates.tolist()) <= {*Fate} and max(sketch.importance) < 16


def test_importance_is_told_by_rank_in_equal_shares():
    scores = np.array([3.0, 1e9, -4.0, 5.0, 0.0, 4.0, 2.0, 1.0], np.float32)
    assert importance_levels(scores, 4).tolist() == [2, 3, 0, 3, 0, 2, 1, 1]
    many = importance_levels(np.random.default_rng(0).random(2048).astype(np.float32), 256)
    assert np.bincount(many).tolist() == [8] * 256


def test_a_plan_s_fates_are_by_place():
    plan = Plan(6, np.array([0, 3]), (Group(3, (alone([4, 1], ZFEC),)), Group(2, (alone([5, 2], BARE),))))
    dropped, bare, protected = Fate.DROPPED, Fate.BARE, Fate.PROTECTED
    assert plan_fates(plan).tolist() == [dropped, protected, bare, dropped, protected, bare]
