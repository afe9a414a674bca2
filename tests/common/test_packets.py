"""A feature tensor is cut into packets and put back together, element by element."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_common.errors import UsageError
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import MAX_PACKETS, PacketGrid


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


def test_the_default_split_has_2048_packets_of_392_elements():
    grid = PacketGrid((56, 56, 256))
    assert (grid.groups, grid.count, grid.size) == (8, 2048, 392)


@pytest.mark.parametrize("split", RESNET50.cuts, ids=lambda split: split.name)
def test_every_split_point_has_a_grid_for_each_number_of_rows_that_divides_its_height(split):
    height, width, channels = split.shape
    for rows in range(1, height + 1):
        if height % rows == 0:
            grid = PacketGrid(split.shape, rows)
            assert grid.count * grid.size == height * width * channels


@pytest.mark.parametrize("rows", [0, -7, 3, 57, 256, 112])
def test_rows_that_do_not_divide_the_height_are_refused_with_those_that_do(rows):
    with pytest.raises(UsageError, match=rf"{rows} rows .* the 56 rows .* 1, 2, 4, 7, 8, 14, 28, 56"):
        PacketGrid((56, 56, 256), rows)


def test_more_packets_than_a_place_can_name_are_refused():
    assert PacketGrid((256, 1, 256), 1).count == MAX_PACKETS
    with pytest.raises(UsageError, match="65792 packets, more than 65536: use larger --rows"):
        PacketGrid((257, 1, 256), 1)


def test_tensors_and_packets_of_another_shape_are_refused():
    grid = PacketGrid((14, 4, 6))
    with pytest.raises(ValueError, match=r"\(14, 6, 4\), expected \(14, 4, 6\)"):
        grid.split(np.zeros((14, 6, 4)))
    with pytest.raises(ValueError, match=r"\(28, 12\), expected \(12, 28\)"):
        grid.join(np.zeros((28, 12)))
