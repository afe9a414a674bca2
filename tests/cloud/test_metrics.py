"""The cloud's metrics: each moves, all values of their labels are there from the start, and edges come and go."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.exported import CLOUD_MOVES, Cloud, Move, families

from gradfec_cloud.metrics import FATES, LEASE_ENDINGS, LIMITS, STAGES, TENSOR_FATES
from gradfec_common.session import cloud as core

SESSION = Path(core.__file__).parent


@pytest.mark.parametrize("move", CLOUD_MOVES, ids=lambda move: move.sample)
def test_each_metric_moves(move: Move[Cloud]) -> None:
    cloud = Cloud()
    before = cloud.registry.get_sample_value(f"gradfec_cloud_{move.sample}", dict(move.labels))
    move.do(cloud)
    after = cloud.registry.get_sample_value(f"gradfec_cloud_{move.sample}", dict(move.labels))
    assert None is not before != after is not None


def test_there_is_no_metric_but_those_that_are_known_to_move() -> None:
    moving = {re.sub(r"_(bucket|sum)$", "", f"gradfec_cloud_{move.sample}") for move in CLOUD_MOVES}
    assert {*families(Cloud().registry)} == {*moving, "gradfec_build_info"}


@pytest.mark.parametrize(
    ("name", "label", "values"),
    [
        ("datagrams_received_total", "fate", FATES),
        ("tensors_total", "fate", TENSOR_FATES),
        ("leases_total", "fate", LEASE_ENDINGS),
        ("workers_lost_total", "reason", ("died", "hung", "gone")),
        ("batches_released_total", "reason", ("died", "hung", "gone")),
        ("fills_given_up_total", "reason", ("out_of_time", "no_answer")),
        ("limits_reached_total", "limit", LIMITS),
        ("stage_seconds_count", "stage", STAGES),
        ("tensor_datagrams_total", "fate", ("received", "lost")),
        ("packets_total", "fate", ("arrived", "recovered", "missing", "dropped_by_plan")),
        ("sessions_ended_total", "reason", ("idle", "bye", "leaving", "key_removed")),
        ("key_readings_total", "outcome", ("read", "refused")),
    ],
)
def test_every_value_of_a_label_is_there_before_its_first_event(name: str, label: str, values: tuple[str, ...]) -> None:
    cloud = Cloud()
    for value in values:
        assert cloud.registry.get_sample_value(f"gradfec_cloud_{name}", {label: value}) == 0


def test_the_limits_are_all_that_the_core_counts() -> None:
    source = "".join(path.read_text() for path in SESSION.glob("*.py"))
    counted = {*re.findall(r'(?:bites\[|Bite\()"(\w+)"', source)}
    assert {*LIMITS} == counted | {"hellos_per_s", "hellos_per_s_and_address"}  # these two stand in a loop's table


def fates(cloud: Cloud, name: str) -> dict[str, float]:
    return {sample.labels["fate"]: sample.value for sample in families(cloud.registry)[name].samples}


def test_what_became_of_packets_and_datagrams_adds_up_to_all_of_them() -> None:
    cloud = Cloud()
    cloud.finish()
    packets = {"arrived": 65, "recovered": 10, "missing": 5, "dropped_by_plan": 20}
    assert fates(cloud, "gradfec_cloud_packets_total") == packets
    assert fates(cloud, "gradfec_cloud_tensor_datagrams_total") == {"received": 35, "lost": 20}
    assert cloud.registry.get_sample_value("gradfec_cloud_parity_datagrams_total") == 15


def of_edge(cloud: Cloud, edge: str) -> dict[str, float]:
    return {
        f"{sample.name} {' '.join(sample.labels.values())}": sample.value
        for family in cloud.registry.collect()
        for sample in family.samples
        if sample.labels.get("edge") == edge
    }


def test_an_edges_own_counts_begin_at_0_with_its_first_session_and_disappear_with_its_last() -> None:
    cloud = Cloud()
    assert of_edge(cloud, "garden") == {}
    cloud.metrics.session_opened("garden")
    assert len(of_edge(cloud, "garden")) == 2 + 2 + 4 + 2 + 1
    assert set(of_edge(cloud, "garden").values()) == {0}
    cloud.metrics.session_opened("garden")
    cloud.metrics.session_ended("garden", "idle")
    assert of_edge(cloud, "garden")
    cloud.metrics.session_ended("garden", "key removed")
    assert of_edge(cloud, "garden") == {}
    assert of_edge(cloud, "kitchen")
    assert cloud.registry.get_sample_value("gradfec_cloud_sessions_ended_total", {"reason": "key_removed"}) == 1


def test_an_edge_that_comes_again_counts_from_0() -> None:
    cloud = Cloud()
    cloud.finish()
    assert any(of_edge(cloud, "kitchen").values())
    cloud.metrics.session_ended("kitchen", "bye")
    cloud.metrics.session_opened("kitchen")
    assert not any(of_edge(cloud, "kitchen").values())
    assert cloud.registry.get_sample_value("gradfec_cloud_packets_total", {"fate": "missing"}) == 5  # of all edges
