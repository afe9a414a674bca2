"""The local quantisers err by half a level of the packet's own range at most, whatever other packets reach to."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradfec_common.packets import PacketGrid, alike_packets
from gradfec_common.quantisers.local import Local
from gradfec_common.quantisers.uniform import Uniform

SHAPE = (4, 3, 5)
GRID = PacketGrid(SHAPE, 2)
TENSORS = hnp.arrays(np.float32, SHAPE, elements=st.floats(-(2.0**126), 2.0**126, width=32))
BITS = pytest.mark.parametrize("bits", [8, 7, 6, 5, 4])


def there_and_back(quantiser, values):
    coded = quantiser.encode(values, GRID)
    return quantiser.decode(coded.packets, coded.parameters, GRID)


@BITS
@settings(max_examples=20)
@given(TENSORS)
@pytest.mark.filterwarnings("error")
def test_the_error_is_half_a_level_of_the_packets_range_at_most(bits, values):
    before = GRID.split(values).astype(np.float64)
    after = GRID.split(there_and_back(Local(bits), values).tensor).astype(np.float64)
    spans = np.ptp(before, axis=1, keepdims=True)
    slack = 1e-6 * np.abs(before).max(axis=1, keepdims=True) + 1e-36
    assert (np.abs(after - before) <= spans / Local(bits).highest / 2 * (1 + 1e-5) + slack).all()


@BITS
def test_both_ends_of_each_packet_come_back(bits):
    values = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    before, after = GRID.split(values), GRID.split(there_and_back(Local(bits), values).tensor)
    np.testing.assert_array_equal(after.min(axis=1), before.min(axis=1))
    np.testing.assert_allclose(after.max(axis=1), before.max(axis=1), rtol=1e-6)


def test_a_channel_that_reaches_far_costs_the_others_nothing():
    values = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    values[..., 0] *= 1000
    others = values[..., 1:]
    errors = {q.name: np.abs(there_and_back(q, values).tensor[..., 1:] - others).max() for q in (Local(6), Uniform(8))}
    assert errors["local6"] < 0.05
    assert errors["uniform8"] > 1


@pytest.mark.parametrize(
    "ends", [(np.nan, 1), (0, np.inf), (-np.inf, 0), (1, 0), (-3e38, 3e38)], ids=lambda ends: f"{ends[0]} to {ends[1]}"
)
@pytest.mark.filterwarnings("error")
def test_a_packet_without_a_range_is_not_there_and_harms_no_other(ends):
    quantiser, values = Local(6), np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    coded = quantiser.encode(values, GRID)
    rows = coded.packets.matrix(int(quantiser.sizes(GRID)[0])).copy()
    rows[4, :8] = np.frombuffer(struct.pack(">ff", *ends), np.uint8)
    back = quantiser.decode(alike_packets(np.arange(GRID.count), rows), b"", GRID)
    assert np.flatnonzero(~back.there).tolist() == [4]
    whole = there_and_back(quantiser, values)
    np.testing.assert_array_equal(GRID.split(back.tensor)[back.there], GRID.split(whole.tensor)[back.there])
    assert np.isfinite(back.tensor).all()


def test_a_packet_that_spans_more_than_float32_is_refused():
    values = np.zeros(SHAPE, np.float32)
    values[0, 0, 0], values[0, 1, 0] = -3e38, 3e38
    with pytest.raises(ValueError, match="spans more than float32 holds"):
        Local(8).encode(values, GRID)
