"""The edge's metrics: each moves, all values of their labels are there from the start, and losses are weighed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from prometheus_client import generate_latest
from tests.exported import DOOR, EDGE_MOVES, Edge, Move, families, frame

from gradfec_edge.metrics import FATES, LINK, OUTCOMES, STAGES

IMPORTANCE = "gradfec_edge_importance_total"


@pytest.mark.parametrize("move", EDGE_MOVES, ids=lambda move: move.sample)
def test_each_metric_moves(move: Move[Edge]) -> None:
    edge = Edge()
    before = edge.registry.get_sample_value(f"gradfec_edge_{move.sample}", dict(move.labels))
    move.do(edge)
    after = edge.registry.get_sample_value(f"gradfec_edge_{move.sample}", dict(move.labels))
    assert None is not before != after is not None


def test_there_is_no_metric_but_those_that_are_known_to_move() -> None:
    moving = {re.sub(r"_(bucket|count)$", "", f"gradfec_edge_{move.sample}") for move in EDGE_MOVES}
    assert {*families(Edge().registry)} == {*moving, "gradfec_build_info"}


@pytest.mark.parametrize(
    ("name", "label", "values"),
    [
        ("frames_total", "outcome", OUTCOMES),
        ("stage_seconds_count", "stage", STAGES),
        ("datagrams_received_total", "fate", FATES),
        ("datagrams_sent_total", "kind", ("symbol", "control")),
        ("sent_bytes_total", "kind", ("symbol", "control")),
        ("datagram_send_failures_total", "kind", ("symbol", "control")),
        ("tensor_datagrams_total", "fate", ("received", "lost", "unknown")),
        ("packets_total", "fate", ("arrived", "recovered", "missing", "dropped_by_plan", "unknown")),
        ("importance_total", "fate", ("delivered", "missing", "dropped_by_plan", "unknown")),
        ("link_losses_total", "reason", ("silent", "leaving")),
        ("warning", "warning", ("congestion", "partial")),
        ("replies_total", "outcome", ("answered", "late", "unanswered", "busy", "refused")),
        ("refusals_total", "reason", ("leaving", "full", "other")),
    ],
)
def test_every_value_of_a_label_is_there_before_its_first_event(name: str, label: str, values: tuple[str, ...]) -> None:
    edge = Edge()
    for value in values:
        assert edge.registry.get_sample_value(f"gradfec_edge_{name}", {"camera": "door", label: value}) == 0


def fates(edge: Edge, name: str) -> dict[str, float]:
    return {sample.labels["fate"]: sample.value for sample in families(edge.registry)[name].samples if sample.value}


def test_what_became_of_packets_and_datagrams_adds_up_to_all_of_them() -> None:
    edge = Edge()
    edge.end()
    packets = {"arrived": 65, "recovered": 10, "missing": 5, "dropped_by_plan": 20}
    assert fates(edge, "gradfec_edge_packets_total") == packets
    assert fates(edge, "gradfec_edge_tensor_datagrams_total") == {"received": 35, "lost": 15}


def test_of_a_frame_without_an_answer_only_what_the_plan_dropped_is_known() -> None:
    edge = Edge()
    edge.end(answered=False)
    assert fates(edge, "gradfec_edge_packets_total") == {"unknown": 80, "dropped_by_plan": 20}
    assert fates(edge, "gradfec_edge_tensor_datagrams_total") == {"unknown": 50}
    assert fates(edge, IMPORTANCE).keys() == {"unknown", "dropped_by_plan"}
    assert edge.registry.get_sample_value("gradfec_edge_latency_seconds_count", DOOR) == 0


@pytest.mark.parametrize(("missing", "fate"), [(0, "delivered"), (5, "unknown")])
def test_what_the_plan_drops_weighs_less_than_its_count(missing: int, fate: str) -> None:
    edge = Edge()
    edge.end(missing=missing)
    dropped = sum(range(20)) / sum(range(100))  # the least important 20 of 100, by their scores
    assert fates(edge, IMPORTANCE) == {"dropped_by_plan": pytest.approx(dropped), fate: pytest.approx(1 - dropped)}


def test_a_frame_that_was_never_sent_is_counted_and_nothing_else() -> None:
    edge = Edge()
    edge.camera.ended(edge.journal.unsent(frame()))
    moved = {
        sample.name: sample.value
        for family in families(edge.registry).values()
        for sample in family.samples
        if sample.value and "camera" in sample.labels
    }
    assert moved == {"gradfec_edge_frames_total": 1}


def test_what_is_known_of_the_link_is_in_seconds_and_bytes_and_what_is_not_known_is_absent() -> None:
    edge = Edge()
    edge.now = replace(edge.now, link={"round_trip_ms": 40.0, "budget_kbit_s": 900.0, "loss": 0.2})
    values = {name: edge.registry.get_sample_value(f"gradfec_edge_{name}", DOOR) for name, _, _ in LINK.values()}
    assert {name: value for name, value in values.items() if value is not None} == {
        "link_round_trip_seconds": pytest.approx(0.04),
        "budget_bytes_per_second": 112_500,
        "link_loss_ratio": 0.2,
    }


def test_a_clouds_words_add_no_label_and_lower_no_count() -> None:
    edge = Edge()
    edge.camera.refused("whatever\nit likes")
    assert edge.registry.get_sample_value("gradfec_edge_refusals_total", {**DOOR, "reason": "other"}) == 1
    edge.end(missing=4000)  # more than there are
    assert fates(edge, "gradfec_edge_packets_total")["missing"] == 4000


def test_a_file_name_that_is_no_text_still_makes_a_label() -> None:
    edge = Edge()
    edge.metrics.camera("caf\udce9/")
    assert b'gradfec_edge_connections_total{camera="caf\\\\udce9/"} 0.0' in generate_latest(edge.registry)
