"""A feature tensor is cut into packets and put back together, element by element; coded packets have any lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_common.errors import UsageError
from gradfec_common.networks import NETWORKS
from gradfec_common.packets import (
    MAX_PACKETS,
    PacketGrid,
    Packets,
    alike_packets,
    join_packets,
    select_packets,
    spans,
)

CUTS = [cut for network in NETWORKS.values() for cut in network.cuts]
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.lists(st.integers(0, 9), max_size=12) | st.builds(lambda n, m: [n] * m, st.integers(1, 9), st.integers(0, 9))


@st.composite
def grids(draw):
    rows, groups = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    return PacketGrid((rows * groups, draw(st.integers(1, 9)), draw(st.integers(1, 9))), rows)


@given(grids(), st.sampled_from([np.uint8, np.float32, np.int64]))
def test_a_tensor_that_is_split_and_joined_is_the_same(grid, dtype):
    tensor = np.arange(np.prod(grid.shape)).astype(dtype).reshape(grid.shape)
    packets = grid.split(tensor)
    assert packets.shape == (grid.count, grid.size)
    assert packets.dtype == tensor.dtype
    np.testing.assert_array_equal(grid.join(packets), tensor)


@given(grids(), st.sampled_from([np.uint8, np.float32, np.int64]))
def test_packet_c_times_g_plus_g_holds_rows_of_row_group_g_of_channel_c_in_order(grid, dtype):
    tensor = np.arange(np.prod(grid.shape)).astype(dtype).reshape(grid.shape)
    packets = grid.split(tensor)
    for c in range(grid.shape[2]):
        for g in range(grid.groups):
            of_channel = tensor[g * grid.rows : (g + 1) * grid.rows, :, c]
            np.testing.assert_array_equal(packets[c * grid.groups + g], of_channel.reshape(-1))


def test_the_default_cut_has_2048_packets_of_392_elements():
    grid = PacketGrid((56, 56, 256))
    assert (grid.groups, grid.count, grid.size) == (8, 2048, 392)


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.name)
def test_every_cut_has_a_grid_for_each_number_of_rows_that_divides_its_height(cut):
    height, width, channels = cut.shape
    for rows in range(1, height + 1):
        if height % rows == 0:
            grid = PacketGrid(cut.shape, rows)
            assert grid.count * grid.size == height * width * channels


@pytest.mark.parametrize("rows", [0, -7, 3, 57, 256, 112])
def test_rows_that_do_not_divide_the_height_are_refused_with_those_that_do(rows):
    with pytest.raises(UsageError, match=rf"{rows} rows .* the 56 rows .* 1, 2, 4, 7, 8, 14, 28, 56"):
        PacketGrid((56, 56, 256), rows)
    with pytest.raises(UsageError, match=r"1 rows of a 1x1 channel: use --rows 1$"):
        PacketGrid((1, 1, 8), 5)


def test_more_packets_than_a_tensor_may_have_are_refused():
    assert PacketGrid((255, 1, 256), 1).count == MAX_PACKETS
    with pytest.raises(UsageError, match="65536 packets, more than 65280: use larger --rows"):
        PacketGrid((256, 1, 256), 1)


def test_tensors_and_packets_of_another_shape_are_refused():
    grid = PacketGrid((14, 4, 6))
    with pytest.raises(ValueError, match=r"\(14, 6, 4\), expected \(14, 4, 6\)"):
        grid.split(np.zeros((14, 6, 4)))
    with pytest.raises(ValueError, match=r"\(28, 12\), expected \(12, 28\)"):
        grid.join(np.zeros((28, 12)))


def test_a_packet_is_as_many_tiles_long_as_squares_of_its_rows_fit_its_width():
    assert PacketGrid((56, 56, 256)).tiles == 8
    assert PacketGrid((7, 7, 2048)).tiles == 1
    assert PacketGrid((14, 4, 6)).tiles == 1  # none fits


# --- coded packets ---


def coded(sizes, seed=0):
    """Packets of these sizes at drawn places."""
    rng = np.random.default_rng(seed)
    return Packets(
        rng.integers(0, 65_536, len(sizes)), np.cumsum([0, *sizes]), rng.integers(0, 256, sum(sizes), np.uint8)
    )


def as_list(packets):
    """(place, bytes) of each packet."""
    ends = zip(packets.places.tolist(), packets.offsets[:-1], packets.offsets[1:], strict=True)
    return [(place, packets.data[start:end].tobytes()) for place, start, end in ends]


@given(SIZES)
def test_packets_know_their_sizes_and_whether_they_are_alike(sizes):
    packets = coded(sizes)
    assert packets.sizes.tolist() == sizes
    assert packets.common_size == (sizes[0] if len({*sizes}) == 1 else None)


@given(SIZES, SEEDS)
def test_some_packets_are_taken_in_any_order_and_more_than_once(sizes, seed):
    packets = coded(sizes, seed)
    chosen = np.random.default_rng(seed).integers(0, len(sizes), 5 if sizes else 0)
    assert as_list(select_packets(packets, chosen)) == [as_list(packets)[number] for number in chosen]


@given(st.lists(SIZES, min_size=1, max_size=4))
def test_packets_are_put_one_after_the_other(parts):
    packets = [coded(sizes, seed) for seed, sizes in enumerate(parts)]
    assert as_list(join_packets(packets)) == [entry for part in packets for entry in as_list(part)]


def test_packets_of_one_size_are_rows_of_a_matrix_that_nobody_copies():
    matrix = np.arange(12, dtype=np.uint8).reshape(3, 4)
    packets = alike_packets(np.array([5, 3, 9]), matrix)
    assert as_list(packets) == [(5, b"\0\1\2\3"), (3, b"\4\5\6\7"), (9, b"\x08\x09\x0a\x0b")]
    assert np.shares_memory(packets.data, matrix)
    assert np.shares_memory(packets.matrix(4), matrix)
    np.testing.assert_array_equal(packets.matrix(4), matrix)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=10))
def test_spans_are_counted_up_one_after_the_other(pairs):
    starts, sizes = np.array(pairs, np.intp).reshape(-1, 2).T
    expected = [at for start, size in pairs for at in range(start, start + size)]
    assert spans(starts, sizes).tolist() == expected
