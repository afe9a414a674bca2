"""Every metric of the two daemons, and what makes it move."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from tests.common.answers import HEAD, TIGER_CAT

from gradfec_cloud.counts import Snapshot
from gradfec_cloud.metrics import CloudMetrics
from gradfec_cloud.workers.pool import Crew
from gradfec_common.protect import UNKNOWN_LINK, read_policy
from gradfec_common.session.edge import Answered, Closed
from gradfec_common.session.events import Finished
from gradfec_common.transmit import room_for
from gradfec_common.wire import Report, Result
from gradfec_edge import metrics as of_edge
from gradfec_edge.frames import Frame
from gradfec_edge.journal import Journal
from gradfec_edge.losses import ImportanceShares
from gradfec_edge.story import Sent
from gradfec_web.monitor import new_registry

NOT_OURS = "process_"  # prometheus_client's own


def nothing_counted() -> Snapshot:
    """What a cloud has counted at its start."""
    zeros: dict[str, int] = {}
    return Snapshot(
        zeros,
        0,
        0,
        0,
        zeros,
        zeros,
        zeros,
        zeros,
        Crew(0, 0),
        zeros,
        zeros,
        0,
        0,
        0,
        0,
        0,
        0,
        insecure=False,
        not_ready="it is shutting down",
        outward={},
        infer={},
    )


class Cloud:
    """The metrics of a cloud with one session, and the snapshot that they read, which a test may change."""

    def __init__(self) -> None:
        self.now = nothing_counted()
        self.registry = new_registry("cloud", runtime="litert")
        self.metrics = CloudMetrics(self.registry, lambda: self.now)
        self.metrics.session_opened("kitchen")

    def finish(self) -> None:
        """Answer a tensor of 100 packets, of which some have each fate."""
        packets = {"total": 100, "dropped_by_plan": 20, "recovered": 10, "missing": 5}
        datagrams = {"sent": 55, "parity": 15, "received": 35, "lost": 20}
        result = Result(0, "partial", [], 10, 5, {"decode": 3.0})
        self.metrics.finished(Finished("kitchen", 1, 0, packets, datagrams, result, TIGER_CAT, 0.12, 9, 5000, 1.0))


class Edge:
    """The metrics of an edge with one camera, and the snapshot that they read, which a test may change."""

    def __init__(self) -> None:
        self.now = of_edge.Snapshot(False, False, 0.0, 0, 0, {}, {}, {}, dict.fromkeys(of_edge.LINK, 0.0), {})
        self.registry = new_registry("edge", runtime="litert")
        self.metrics = of_edge.EdgeMetrics(self.registry, lambda: {"door": self.now}, insecure=False)
        self.camera = self.metrics.camera("door")
        self.journal = Journal(None, HEAD, lambda story: None)

    def end(self, *, answered: bool = True, missing: int = 5) -> None:
        """End the story of a frame: of its 100 packets, 20 are dropped, 10 recovered, and some missing.

        Four of its datagrams are sent because the cloud asks for them.
        """
        scores = np.arange(100, dtype=np.float32)
        plan = read_policy("FEC_20_80").plan(scores, np.full(100, 30), UNKNOWN_LINK, room_for(8, 2))
        plan = replace(plan, reserve=4)
        sent = Sent(7, 0, plan, 100, ImportanceShares(plan, scores / scores.sum()))
        self.journal.sent(frame(), sent, {"encode": 3.0})
        result = Result(0, "partial" if missing else "complete", [], 10, missing, {}) if answered else None
        if result:
            self.journal.answered(Answered(0, result, TIGER_CAT))
        report = Report(0, 50, 35, 9) if answered else None
        self.camera.ended(self.journal.closed(Closed(0, result, report, 50)))

    def look_again(self) -> None:
        """End the story of a frame whose second answer is the same as the first."""
        plan = read_policy("none").plan(np.zeros(4, np.float32), np.full(4, 30), UNKNOWN_LINK, room_for(8, 2))
        result, story = Result(0, "complete", [], 0, 0, {}), None
        for tensor, first in ((0, None), (1, 0)):
            self.journal.sent(frame(), Sent(7, tensor, plan, 100), {}, first)
            self.journal.answered(Answered(tensor, result, TIGER_CAT), unsure=first is None)
            story = self.journal.closed(Closed(tensor, result, Report(tensor, 2, 2, 0), 2))
        assert story
        self.camera.ended(story)


def frame() -> Frame:
    return Frame(0, "cat.jpg", np.zeros((4, 4, 3), np.uint8), time.monotonic())


Daemon = TypeVar("Daemon", Cloud, Edge)


@dataclass(frozen=True)
class Move(Generic[Daemon]):
    """A sample, and what makes it move."""

    sample: str  # without the prefix gradfec_cloud_ or gradfec_edge_
    labels: Mapping[str, str]
    do: Callable[[Daemon], object]


def becomes(**changes: object) -> Callable[[Cloud | Edge], object]:
    """Change the next snapshot."""

    def do(daemon: Cloud | Edge) -> None:
        daemon.now = replace(daemon.now, **changes)  # type: ignore[type-var, arg-type]

    return do


CLOUD_MOVES: list[Move[Cloud]] = [
    Move("datagrams_received_total", {"fate": "forged"}, becomes(datagrams={"forged": 1})),
    Move("datagrams_dropped_by_kernel_total", {}, becomes(kernel_drops=3)),
    Move("datagrams_sent_total", {}, becomes(datagrams_sent=1)),
    Move("datagram_send_failures_total", {}, becomes(send_failures=1)),
    Move("tensors_opened_total", {}, becomes(tensors={"opened": 1})),
    Move("tensors_total", {"fate": "overloaded"}, becomes(tensors={"opened": 1, "overloaded": 1})),
    Move("leases_total", {"fate": "given_up"}, becomes(leases={"opened": 1, "given_up": 1})),
    Move("open_leases", {}, becomes(leases={"opened": 1, "open": 1})),
    Move("lease_returns_ignored_total", {}, becomes(leases={"opened": 1, "ignored": 1})),
    Move("workers", {"state": "ready"}, becomes(crew=Crew(1, 2))),
    Move("workers_lost_total", {"reason": "died"}, becomes(crew=Crew(1, 2, {"died": 1}))),
    Move("batches_released_total", {"reason": "hung"}, becomes(crew=Crew(1, 2, {}, {"hung": 1}))),
    Move("fallback", {}, becomes(crew=Crew(0, 2, fallback=True))),
    Move("fills_given_up_total", {"reason": "out_of_time"}, becomes(fills_given_up={"out_of_time": 1})),
    Move("limits_reached_total", {"limit": "credit"}, becomes(limits={"credit": 1})),
    Move("outward_answers_total", {"sink": "webhook", "fate": "dropped"}, becomes(outward={"webhook": {"dropped": 1}})),
    Move("outward_waiting", {"sink": "webhook"}, becomes(outward={"webhook": {"waiting": 3}})),
    Move("infer_requests_total", {"outcome": "busy"}, becomes(infer={"busy": 1})),
    Move("sessions", {}, becomes(sessions=1)),
    Move("open_tensors", {}, becomes(open_tensors=1)),
    Move("held_bytes", {}, becomes(held_bytes=800_000)),
    Move("unacknowledged_answers", {}, becomes(unacknowledged=1)),
    Move("receive_buffer_bytes", {}, becomes(receive_buffer_bytes=212_992)),
    Move("keys", {}, becomes(keys=2)),
    Move("insecure", {}, becomes(insecure=True)),
    Move("ready", {}, becomes(not_ready="")),
    Move("answer_seconds_bucket", {"le": "0.15"}, Cloud.finish),
    Move("stage_seconds_bucket", {"stage": "decode", "le": "0.005"}, Cloud.finish),
    Move("tensor_datagrams_total", {"fate": "lost"}, Cloud.finish),
    Move("parity_datagrams_total", {}, Cloud.finish),
    Move("packets_total", {"fate": "recovered"}, Cloud.finish),
    Move("tensor_bytes_total", {}, Cloud.finish),
    Move("sessions_opened_total", {}, lambda cloud: cloud.metrics.session_opened("garden")),
    Move("sessions_ended_total", {"reason": "idle"}, lambda cloud: cloud.metrics.session_ended("kitchen", "idle")),
    Move("sessions_moved_total", {}, lambda cloud: cloud.metrics.session_moved()),
    Move("key_readings_total", {"outcome": "refused"}, lambda cloud: cloud.metrics.keys_read(well=False)),
    Move("edge_tensors_total", {"edge": "kitchen", "outcome": "partial"}, Cloud.finish),
    Move("edge_datagrams_total", {"edge": "kitchen", "fate": "lost"}, Cloud.finish),
    Move("edge_packets_total", {"edge": "kitchen", "fate": "missing"}, Cloud.finish),
    Move("edge_bytes_total", {"edge": "kitchen"}, Cloud.finish),
    Move("edge_answer_seconds_sum", {"edge": "kitchen"}, Cloud.finish),
]
DOOR = {"camera": "door"}
EDGE_MOVES: list[Move[Edge]] = [
    Move("connected", DOOR, becomes(connected=True)),
    Move("camera_delivering", DOOR, becomes(delivering=True)),
    Move("frame_age_seconds", DOOR, becomes(frame_age_s=2.5)),
    Move("frames_skipped_total", DOOR, becomes(frames_skipped=1)),
    Move("open_tensors", DOOR, becomes(open_tensors=1)),
    Move("datagrams_sent_total", {**DOOR, "kind": "symbol"}, becomes(datagrams_sent={"symbol": 1})),
    Move("datagram_send_failures_total", {**DOOR, "kind": "symbol"}, becomes(datagrams_sent={"symbol_failed": 1})),
    Move("sent_bytes_total", {**DOOR, "kind": "symbol"}, becomes(bytes_sent={"symbol": 1200})),
    Move("frame_bytes", DOOR, Edge.end),
    Move("datagrams_received_total", {**DOOR, "fate": "pong"}, becomes(datagrams_received={"pong": 1})),
    Move("link_loss_ratio", DOOR, becomes(link={"loss": 0.2})),
    Move("link_burst_datagrams", DOOR, becomes(link={"burst": 6.0})),
    Move("link_round_trip_seconds", DOOR, becomes(link={"round_trip_ms": 40.0})),
    Move("link_queueing_seconds", DOOR, becomes(link={"queue_ms": 15.0})),
    Move("budget_bytes_per_second", DOOR, becomes(link={"budget_kbit_s": 900.0})),
    Move("expected_agreement_ratio", DOOR, becomes(link={"expected": 0.96})),
    Move("insecure", {}, lambda edge: edge.metrics.insecure.set(1)),
    Move("frames_total", {**DOOR, "outcome": "unsent"}, lambda edge: edge.camera.ended(edge.journal.unsent(frame()))),
    Move("second_looks_total", {**DOOR, "answer": "confirmed"}, Edge.look_again),
    Move("latency_seconds_count", DOOR, Edge.end),
    Move("stage_seconds_bucket", {**DOOR, "stage": "encode", "le": "0.005"}, Edge.end),
    Move("tensor_datagrams_total", {**DOOR, "fate": "lost"}, Edge.end),
    Move("parity_datagrams_total", DOOR, Edge.end),
    Move("asked_datagrams_total", DOOR, Edge.end),
    Move("packets_total", {**DOOR, "fate": "missing"}, Edge.end),
    Move("importance_total", {**DOOR, "fate": "dropped_by_plan"}, Edge.end),
    Move("connections_total", DOOR, lambda edge: edge.camera.connected()),
    Move("link_losses_total", {**DOOR, "reason": "silent"}, lambda edge: edge.camera.link_lost(leaving=False)),
    Move("warning", {**DOOR, "warning": "congestion"}, lambda edge: edge.camera.warns("congestion", holds=True)),
    Move("refusals_total", {**DOOR, "reason": "full"}, lambda edge: edge.camera.refused("full")),
    Move("replies_total", {**DOOR, "outcome": "late"}, becomes(replies={"late": 1})),
]


def families(registry: CollectorRegistry) -> dict[str, Metric]:
    """Return our own metrics of a registry, by the names that queries use, without _bucket, _count and _sum."""
    found = {}
    for family in registry.collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        if not name.startswith(NOT_OURS):
            found[name] = family
    return found


def labels(family: Metric) -> tuple[str, ...]:
    """Return the names of a family's labels, in order, without a histogram's own."""
    return tuple(name for name in family.samples[0].labels if name != "le")
