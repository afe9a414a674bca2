"""A network with a bottleneck is a network of its own: with its layers, its name, its digest, and a cut inside."""

import numpy as np
from tests.common.bottlenecks import toy
from tests.common.bottlenecks.toy import CUT, NETWORK, halve

from gradfec_common.bottlenecks import WithBottleneck, with_bottleneck
from gradfec_common.conceal import make_concealment
from gradfec_common.packets import PacketGrid

DIGEST = bytes(range(32))


def inserted(joins="", digest=DIGEST):
    bottleneck = halve(CUT, joins)
    return with_bottleneck(bottleneck, toy.trained(bottleneck), digest)


def test_it_has_the_networks_layers_the_encoder_a_mask_the_decoder_and_the_rest():
    network = inserted().network
    assert [layer.name for layer in network.layers] == [
        "picture", "stem", "encoder", "latents", "decoder",
        "stem_relu", "block", "block_add", "block_out", "last", "pool", "classes",
    ]  # fmt: skip
    assert network.by_name["latents"].kind == "Masked"
    assert network.by_name["latents"].inbound == ("encoder",)
    assert (network.head, network.preprocess) == (NETWORK.head, NETWORK.preprocess)


def test_layers_after_the_one_that_the_decoder_stands_for_take_its_output():
    assert inserted().network.by_name["stem_relu"].inbound == ("decoder",)
    later = inserted("block_add").network
    assert [layer.name for layer in later.layers[4:]] == ["decoder", "block_out", "last", "pool", "classes"]
    assert later.by_name["block_out"].inbound == ("decoder",)
    assert later.by_name["last"].inbound == ("block_out",), "the others are as they were"


def test_it_knows_the_network_that_it_is_in_and_what_was_trained():
    network = inserted().network
    assert isinstance(network, WithBottleneck)
    assert network.base is NETWORK
    assert set(network.trained) >= {"encoder", "decoder"}


def test_the_cut_at_the_latents_is_masked_and_the_back_end_begins_behind_the_mask():
    cut = inserted().network.cut("encoder")
    assert (cut.shape, cut.received.name, cut.received.shape) == ((8, 8, 2), "latents", (8, 8, 4))
    assert [layer.name for layer in cut.front_layers] == ["stem", "encoder"]
    assert [layer.name for layer in cut.back_layers][:2] == ["decoder", "stem_relu"]


def test_at_any_other_cut_the_back_end_receives_the_cuts_own_tensor():
    for cut in (*NETWORK.cuts, inserted().network.cut("stem"), inserted().network.cut("decoder")):
        assert not cut.masked
        assert cut.received.name == cut.name and cut.received.shape == cut.shape


def test_what_the_mask_makes_of_latents_is_what_the_back_end_takes():
    cut = inserted()
    grid = PacketGrid(cut.shape, 4)
    filled = make_concealment("mask", cut, {})(np.ones(cut.shape, np.float32), np.ones(grid.count, bool), grid)
    assert filled.shape == cut.received.shape


def test_the_digest_tells_trainings_places_and_the_network_without_it_apart():
    digests = [
        inserted().network.digest,
        inserted(digest=bytes(32)).network.digest,
        inserted("block_add").network.digest,
        NETWORK.digest,
    ]
    assert len({*digests}) == len(digests)
    assert inserted().network.digest == digests[0], "made again, it is the same"


def test_the_name_says_what_is_in_it():
    network = inserted().network
    assert network.name == "blocks+halve-00010203"
    assert network.title == "Blocks with the bottleneck halve"
