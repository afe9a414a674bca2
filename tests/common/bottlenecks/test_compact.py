"""`compact` makes a quarter of both sides, and stands for as many of ResNet-50's layers as it learns."""

import pytest
from tests.common.bottlenecks import toy

from gradfec_common.bottlenecks.compact import LATENTS, compact
from gradfec_common.errors import UsageError
from gradfec_common.networks import DEFAULT_CUT, named_cut


def test_at_the_default_cut_it_has_packets_of_98_elements_and_replaces_the_layers_up_to_conv3():
    bottleneck = compact(named_cut(DEFAULT_CUT))
    assert bottleneck.shape == (14, 14, LATENTS)
    assert bottleneck.joins == "conv3_block4_out"
    assert bottleneck.decoder[-1].shape == (28, 28, 512)
    assert bottleneck.rest[0].name == "conv4_block1_1_conv"


def test_at_another_cut_it_gives_the_cut_itself_back():
    bottleneck = compact(named_cut("conv3_block1_out"))
    assert (bottleneck.shape, bottleneck.joins) == ((7, 7, LATENTS), "conv3_block1_out")


@pytest.mark.parametrize(
    ("cut", "sides"),
    [("conv4_block1_out", "14 x 14"), ("conv5_block1_out", "7 x 7"), ("avg_pool", "1 x 1"), ("pool1_pad", "114 x 114")],
)
def test_sides_that_cannot_be_halved_twice_are_refused(cut, sides):
    with pytest.raises(
        UsageError, match=f"compact needs a tensor whose height and width are multiples of 4, not {sides}$"
    ):
        compact(named_cut(cut))


def test_where_a_relu_follows_the_cut_the_encoder_begins_with_it():
    assert toy.CUT.rectified and compact(toy.CUT).encoder[0].is_relu
    last = toy.NETWORK.cut("last")
    assert not last.rectified and compact(last).encoder[0].kind == "Conv2D"
