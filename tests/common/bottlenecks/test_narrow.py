"""`narrow` halves sides down to about 14, and decodes to where the least travels."""

from __future__ import annotations

import pytest
from tests.common.bottlenecks import toy

from gradfec_common.bottlenecks.narrow import LATENTS, doublings_to, latent_sides, narrow
from gradfec_common.errors import UsageError
from gradfec_common.networks import named_cut


@pytest.mark.parametrize(
    ("sides", "latents"),
    [((56, 56), (14, 14)), ((28, 28), (14, 14)), ((14, 14), (14, 14)), ((128, 96), (32, 24)), ((57, 56), (57, 56)),
     ((22, 40), (11, 20)), ((256, 256), (64, 64))],
)  # fmt: skip
def test_sides_are_halved_twice_at_most_while_they_are_even_and_long(sides, latents):
    assert latent_sides((*sides, 8)) == latents


@pytest.mark.parametrize(
    ("target", "doublings"),
    [((14, 14), 0), ((28, 28), 1), ((112, 112), 3), ((7, 7), None), ((42, 42), None), ((28, 14), None)],
)
def test_the_decoder_doubles_sides_as_often_as_the_target_needs(target, doublings):
    assert doublings_to((14, 14, 64), (*target, 3)) == doublings


def test_it_stands_by_default_for_the_layers_up_to_the_last_of_the_narrowest_cuts_that_fit():
    bottleneck = narrow(named_cut("conv3_block1_out"))
    assert (bottleneck.shape, bottleneck.joins) == ((14, 14, LATENTS), "conv4_block3_add")
    assert bottleneck.decoder[-1].shape == (14, 14, 1024) and bottleneck.decoder[-1].is_relu
    at = narrow(named_cut("conv3_block1_out"), "conv3_block4_out")
    assert at.decoder[-1].shape == (28, 28, 512)


def test_what_cannot_be_decoded_to_is_refused():
    with pytest.raises(UsageError, match="narrow needs a tensor whose sides are 14 x 14, or 2, 4, 8 times as long, to"):
        narrow(named_cut("conv3_block1_out"), "conv5_block1_out")


def test_where_a_relu_follows_the_cut_the_encoder_begins_with_it():
    assert toy.CUT.rectified and narrow(toy.CUT).encoder[0].is_relu
