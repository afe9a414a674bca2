"""The examples in CONTRIBUTING.md keep the contracts of their registries."""

from __future__ import annotations

import json
import re
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cloud.outward import test_every_sink as sinks
from tests.cloud.outward.test_outward import ANSWERED
from tests.cloud.workers import test_contract as workers
from tests.common.bottlenecks import test_every_bottleneck as bottlenecks
from tests.common.codes import test_codes as codes
from tests.common.conceal import test_every_concealment as concealments
from tests.common.networks import test_every_network as networks
from tests.common.protect import test_every_policy as policies
from tests.common.quantisers import test_every_quantiser as quantisers

from gradfec_cloud.outward import SINKS, open_sinks
from gradfec_cloud.outward.outward import Outward
from gradfec_cloud.workers import WORKERS
from gradfec_common.bottlenecks import BOTTLENECKS
from gradfec_common.codes import CODES
from gradfec_common.conceal import CONCEALMENTS
from gradfec_common.networks import NETWORKS
from gradfec_common.protect import POLICIES
from gradfec_common.quantisers import QUANTISERS
from gradfec_host.console import Endpoint
from gradfec_host.logs import Log

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"^`\w+/([\w/]+)\.py`:\n\n((?:(?:    .*)?\n)+)", TEXT, re.MULTILINE))  # by path
REGISTRY_LINES = re.findall(r"^    ([A-Z]+): .* = ", TEXT, re.MULTILINE)


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The examples as modules, each with its entry in its registry."""
    found = types.SimpleNamespace()
    for path, text in FILES.items():
        module = types.ModuleType(path.replace("/", "."))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(re.sub("^    ", "", text, flags=re.MULTILINE), module.__dict__)
        setattr(found, path.rpartition("/")[2], module)
    monkeypatch.setitem(CONCEALMENTS, "average", found.average.Average)
    monkeypatch.setitem(POLICIES, "best:P", found.best.read_policy)
    monkeypatch.setitem(QUANTISERS, "float32", found.float32.Float32())
    monkeypatch.setitem(CODES, found.twin.TwinCode.id, found.twin.TwinCode())
    monkeypatch.setitem(NETWORKS, "finder", found.finder.FINDER)
    monkeypatch.setitem(BOTTLENECKS, found.halve.NAME, found.halve.halve)
    monkeypatch.setitem(WORKERS, "threads", found.threads.THREADS)
    monkeypatch.setitem(SINKS, "datagram", found.datagram.DATAGRAM)
    yield found


def test_there_is_an_example_for_each_registry_and_it_is_short() -> None:
    assert [path.split("/")[1] for path in FILES] == [
        "conceal", "protect", "quantisers", "codes", "heads", "networks", "bottlenecks", "workers", "outward",
    ]  # fmt: skip
    assert REGISTRY_LINES == [
        "CONCEALMENTS", "POLICIES", "QUANTISERS", "CODES", "NETWORKS", "BOTTLENECKS", "WORKERS", "SINKS",
    ]  # fmt: skip
    assert all(text.count("\n") <= 60 for text in FILES.values())


def test_the_concealment() -> None:
    concealments.test_packets_that_are_there_are_untouched_and_all_others_are_filled_with_something_finite("average")
    concealments.test_what_the_gaps_held_before_does_not_matter("average")
    concealments.test_a_tensor_in_any_order_of_memory_is_filled_alike("average")
    concealments.test_threads_may_fill_at_once("average")


def test_the_policy() -> None:
    policies.test_every_packet_is_dropped_or_in_exactly_one_stripe_that_its_code_has("best:P")
    policies.test_all_datagrams_have_one_length_and_fit("best:P")
    policies.test_a_policys_name_reads_as_the_policy("best:P")
    policies.test_one_policy_alone_reads_a_text("best:P")


def test_the_quantiser() -> None:
    quantisers.test_any_packets_in_any_order_decode_to_the_same_values_at_their_places("float32")
    quantisers.test_packets_of_any_bytes_never_raise_and_what_they_decode_to_is_finite("float32")
    quantisers.test_packets_that_are_too_short_or_too_long_are_not_there_and_harm_no_other("float32")
    quantisers.test_names_and_numbers_on_the_wire_are_distinct_and_found_again()


def test_the_code(examples: Any) -> None:
    code = examples.twin.TwinCode()
    codes.test_any_k_of_n_symbols_give_the_data_back(code)
    with pytest.raises(ValueError, match="twin cannot code k = 3, n = 3"):
        code.encode(np.zeros((3, 1), np.uint8), 3)


def test_the_network_and_its_head(examples: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = examples.finder.FINDER
    assert [cut.name for cut in network.cuts] == ["image", "conv", "relu", "pool"]
    networks.test_every_cut_is_found_by_its_name_and_by_its_number_and_its_tensor_makes_packets(network)
    networks.test_both_halves_are_the_whole_and_the_back_half_needs_nothing_but_the_tensor(network)
    networks.test_the_digest_names_the_manifest(network, monkeypatch)
    networks.test_its_answers_travel_in_a_result_and_say_nothing_where_there_is_none(network)
    answer = network.head.answer(np.array([0.25, 0.75], np.float32), [])
    assert network.head.read(answer.packed()) == answer
    assert answer.lines() == [("at 0.25, 0.75", 1.0)]
    for untrusted in (None, [1, 2], [0.5], ["x", 0.5], [float("nan"), 0.5]):
        with pytest.raises(ValueError, match="not a position"):
            network.head.read(untrusted)


def test_the_bottleneck() -> None:
    bottlenecks.test_a_cut_that_it_does_not_fit_is_refused_with_its_name_and_the_reason("halve")
    bottlenecks.test_the_encoder_begins_at_the_cut_and_each_layer_with_what_is_there("halve")
    bottlenecks.test_no_layer_has_the_name_of_another_or_of_one_of_the_network("halve")
    bottlenecks.test_layers_are_of_kinds_that_all_runtimes_have_and_their_shapes_follow_from_their_sources("halve")
    bottlenecks.test_the_decoder_takes_the_latents_and_a_mask_and_gives_what_the_layer_that_it_stands_for_gave("halve")
    bottlenecks.test_a_network_with_it_is_one_that_can_be_cut_at_the_latents("halve")


def test_the_worker_pool() -> None:
    with workers.opened("threads") as pool:
        workers.test_a_batch_comes_back_once_with_a_row_for_each_tensor_in_its_order(pool)
        workers.test_each_batch_passes_through_its_own_back_end_however_many_there_are(pool)
        workers.test_an_error_comes_back_as_such_and_the_pool_goes_on(pool)


def test_the_sink() -> None:
    sinks.test_it_is_off_unless_it_is_asked_for("datagram")
    sinks.test_its_options_are_its_own_and_each_says_what_it_does("datagram")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(60)
        given = sinks.nothing() | {"datagram": Endpoint(*receiver.getsockname())}
        outward = Outward(open_sinks(given, frozenset()), Log("gradfec-cloud"))
        outward.start()
        outward.tell(ANSWERED)
        assert json.loads(receiver.recv(2000)) == ANSWERED.record
        outward.close()
