"""What holds for every network: its cuts, its digest, and how its head's answers travel."""

import json

import msgpack
import pytest
from tests.common.networks.toy import TOY

from gradfec_common.errors import UsageError
from gradfec_common.networks import NETWORKS, network_of_digest
from gradfec_common.packets import PacketGrid
from gradfec_common.wire import is_answer

every_network = pytest.mark.parametrize("network", [*NETWORKS.values(), TOY], ids=lambda network: network.name)


@every_network
def test_layers_stand_after_those_that_they_need_and_have_names_of_their_own(network):
    seen = set()
    for layer in network.layers:
        assert seen >= {*layer.inbound}
        assert layer.name not in seen
        seen.add(layer.name)
    assert not network.input.inbound
    assert network.input.shape == (*network.preprocess.size, 3)


@every_network
def test_every_cut_is_found_by_its_name_and_by_its_number_and_its_tensor_makes_packets(network):
    assert network.cuts[0].name == network.input.name
    for cut in network.cuts:
        assert network.cut(cut.name) is network.cut_by_id(cut.id) is cut
        assert cut.network is network
        assert 1 <= cut.id < 2**16
        assert PacketGrid(cut.shape, 1).count <= 65_535
    assert len({cut.id for cut in network.cuts}) == len(network.cuts)


@every_network
def test_both_halves_are_the_whole_and_the_back_half_needs_nothing_but_the_tensor(network):
    for cut in network.cuts:
        assert sorted(cut.front_layers + cut.back_layers, key=network.layers.index) == [*network.layers[1:]]
        there = {cut.name}
        for layer in cut.back_layers:
            assert {*layer.inbound} <= there
            there.add(layer.name)
        assert network.output.name in there


@every_network
def test_the_output_and_what_is_no_layer_are_refused(network):
    with pytest.raises(UsageError, match="nothing is left for the back-end"):
        network.cut(network.output.name)
    with pytest.raises(UsageError, match=f"{network.title} has no layer 'no such layer'"):
        network.cut("no such layer")


@every_network
def test_the_digest_names_the_manifest(network, monkeypatch):
    assert json.loads(network.manifest)["head"] == network.head.name
    assert len(network.digest) == 16
    monkeypatch.setitem(NETWORKS, network.name, network)
    assert network_of_digest(network.digest) is network
    assert network_of_digest(bytes(16)) is None
    assert len({other.digest for other in NETWORKS.values()}) == len(NETWORKS)


@every_network
def test_its_answers_travel_in_a_result_and_say_nothing_where_there_is_none(network):
    nothing = network.head.no_answer
    assert is_answer(nothing.packed())
    assert network.head.read(msgpack.unpackb(msgpack.packb(nothing.packed()))) == nothing
    assert nothing.record()["head"] == network.head.name
    assert nothing.lines() == []
