"""What every bottleneck keeps: its halves fit the cut, each other, and the layer whose place the decoder takes."""

from __future__ import annotations

import math

import pytest
from tests.common.bottlenecks import toy

from gradfec_common.bottlenecks import BOTTLENECKS, Bottleneck, with_bottleneck
from gradfec_common.errors import UsageError
from gradfec_common.networks import NETWORKS, Cut, parameters
from gradfec_common.packets import PacketGrid
from gradfec_common.quantisers.laplace import Laplace

KINDS = {"Conv2D", "Conv2DTranspose", "Activation", "Add", "BatchNormalization"}  # that all runtimes have


@pytest.fixture(scope="module", autouse=True)
def a_strangers_bottleneck():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BOTTLENECKS, toy.NAME, toy.halve)
        yield


def cuts() -> list[Cut]:
    return [cut for network in (*NETWORKS.values(), toy.NETWORK) for cut in network.cuts]


def made(name: str) -> list[Bottleneck]:
    """The bottleneck for each cut that it fits."""
    found = [tried(name, cut) for cut in cuts()]
    fitting = [one for one in found if isinstance(one, Bottleneck)]
    assert fitting, "it fits no cut at all"
    return fitting


def tried(name: str, cut: Cut) -> Bottleneck | UsageError:
    """The bottleneck for a cut, or why there is none."""
    try:
        return BOTTLENECKS[name](cut)
    except UsageError as error:
        return error


EVERY = pytest.mark.parametrize("name", [*BOTTLENECKS, toy.NAME])


@EVERY
def test_a_cut_that_it_does_not_fit_is_refused_with_its_name_and_the_reason(name):
    for cut in cuts():
        found = tried(name, cut)
        assert isinstance(found, Bottleneck) or str(found).startswith(f"{name} needs a tensor"), cut.name


@EVERY
def test_the_encoder_begins_at_the_cut_and_each_layer_with_what_is_there(name):
    for bottleneck in made(name):
        assert (bottleneck.name, bottleneck.encoder[0].inbound) == (name, (bottleneck.cut.name,))
        first = bottleneck.decoder[0]
        assert (first.kind, first.inbound) == ("InputLayer", ())
        for there, layers in (
            ({bottleneck.cut.name}, bottleneck.encoder),
            ({first.name}, bottleneck.decoder[1:]),
        ):
            for layer in layers:
                assert {*layer.inbound} <= there
                there.add(layer.name)


@EVERY
def test_no_layer_has_the_name_of_another_or_of_one_of_the_network(name):
    for bottleneck in made(name):
        names = [layer.name for layer in (*bottleneck.encoder, *bottleneck.decoder)]
        assert len({*names}) == len(names)
        assert not {*names} & {*bottleneck.cut.network.by_name}


@EVERY
def test_layers_are_of_kinds_that_all_runtimes_have_and_their_shapes_follow_from_their_sources(name):
    for bottleneck in made(name):
        shapes = {bottleneck.cut.name: bottleneck.cut.shape}
        for layer in (*bottleneck.encoder, *bottleneck.decoder):
            if layer.inbound:
                assert layer.kind in KINDS
                assert layer.shape == expected_shape(layer, [shapes[source] for source in layer.inbound])
            shapes[layer.name] = layer.shape


def expected_shape(layer, sources):
    (height, width, channels), options = sources[0], layer.options
    if layer.kind == "Conv2D":
        strides, size = options["strides"], options["kernel_size"]
        cut = 0 if options["padding"] == "same" else size - 1
        assert layer.arrays["kernel"] == (size, size, channels, options["filters"])
        return (math.ceil((height - cut) / strides), math.ceil((width - cut) / strides), options["filters"])
    if layer.kind == "Conv2DTranspose":
        assert options["kernel_size"] == options["strides"], "windows overlap, which LiteRT's operation does not"
        assert layer.arrays["kernel"] == (options["strides"], options["strides"], options["filters"], channels)
        return (height * options["strides"], width * options["strides"], options["filters"])
    assert all(source == sources[0] for source in sources)
    return sources[0]


@EVERY
def test_the_decoder_takes_the_latents_and_a_mask_and_gives_what_the_layer_that_it_stands_for_gave(name):
    for bottleneck in made(name):
        height, width, channels = bottleneck.shape
        assert bottleneck.decoder[0].shape == (height, width, 2 * channels)
        joins = bottleneck.cut.network.by_name[bottleneck.joins]
        assert bottleneck.decoder[-1].shape == joins.shape
        assert bottleneck.joins in {cut.name for cut in bottleneck.cut.network.cuts}
        above = {layer.name for layer in bottleneck.cut.network.above(joins.name)}
        assert bottleneck.cut.name in above | {bottleneck.cut.network.input.name}


@EVERY
def test_where_what_is_below_zero_matters_the_decoder_can_say_it(name):
    for bottleneck in made(name):
        joined = bottleneck.cut.network.cut(bottleneck.joins)
        assert joined.rectified or not bottleneck.decoder[-1].is_relu


@EVERY
def test_latents_are_fewer_than_the_tensors_elements_and_make_packets(name):
    for bottleneck in made(name):
        if bottleneck.cut.shape[2] >= 64:  # a cut worth it
            assert math.prod(bottleneck.shape) < bottleneck.cut.elements / 2
        assert PacketGrid(bottleneck.shape, 1).count > 0


@EVERY
def test_a_network_with_it_is_one_that_can_be_cut_at_the_latents(name):
    for bottleneck in made(name):
        cut = with_bottleneck(bottleneck, {}, bytes(32))
        assert (cut.name, cut.shape, cut.masked) == (bottleneck.encoder[-1].name, bottleneck.shape, True)
        assert cut.network.cut_by_id(cut.id) is cut
        assert cut.received.shape == bottleneck.decoder[0].shape
        assert [*cut.front_layers] == [*bottleneck.cut.front_layers, *bottleneck.encoder]
        there = {cut.received.name}
        for layer in cut.back_layers:
            assert {*layer.inbound} <= there
            there.add(layer.name)
        assert cut.network.output.name in there
        assert Laplace().fits(cut)


@EVERY
def test_its_parameters_are_counted_by_halves(name):
    for bottleneck in made(name):
        assert bottleneck.parameters == (parameters(bottleneck.encoder), parameters(bottleneck.decoder))
        assert min(bottleneck.parameters) > 0
