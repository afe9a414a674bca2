"""The cloud's Prometheus metrics. Some count events as they happen, the others are read from a snapshot at each scrape.

docs/reference/metrics.md says what each of them means, and what to do when it moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry, Histogram, Summary
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gradfec_cloud.counts import Snapshot
from gradfec_cloud.filling import NO_ANSWER, OUT_OF_TIME
from gradfec_cloud.outward import SINKS
from gradfec_cloud.outward.outbox import FATES as OUTWARD_FATES
from gradfec_cloud.workers.leases import Ending
from gradfec_cloud.workers.pool import Lost
from gradfec_common.session.events import Finished
from gradfec_common.wire import Drop
from gradfec_host.results import DATAGRAM_FATES, PACKET_FATES, datagram_fates, packet_fates
from gradfec_web.monitor import LATENCY_BUCKETS, STAGE_BUCKETS

# All values that each label can have. A counter is exported as 0 before its first event, or rate() would not see that.
FATES = ("collected", "surplus", "hello", "ping", "ack", "sketch", "bye", *(reason.value for reason in Drop))
OUTCOMES = ("complete", "partial")
TENSOR_FATES = (*OUTCOMES, "overloaded", "failed", "abandoned")
LIMITS = (
    *("sessions", "sessions_per_key", "greetings", "hellos_per_s", "hellos_per_s_and_address", "addresses"),
    *("tensors_per_s", "tensors_per_session", "pending_tensors", "reassembly_bytes", "answers_per_session"),
    *("credit", "sketch_bytes", "request_rounds"),
)
STAGES = ("collect", "queue", "decode", "back_end")
LOST = tuple(reason.value for reason in Lost)
LEASE_ENDINGS = tuple(ending.value for ending in Ending)
HTTP = "http"  # the page's API, among the sinks
INFER_OUTCOMES = ("answered", "refused", "busy", "failed")
ENDINGS = ("idle", "bye", "leaving", "key removed")


class CloudMetrics(Collector):
    """All metrics of the cloud, in a registry.

    A metric with the label `edge` is exported while that edge has a session: the sessions' limit bounds their number.
    """

    def __init__(self, registry: CollectorRegistry, snapshot: Callable[[], Snapshot]) -> None:
        """Call `snapshot` at each scrape, in another thread."""
        self._snapshot = snapshot
        self._sessions: Counter[str] = Counter()  # open ones, by edge
        registry.register(self)

        def counter(name: str, text: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(f"gradfec_cloud_{name}", text, labels, registry=registry)

        self._answer = Histogram(
            "gradfec_cloud_answer_seconds",
            "From a tensor's first datagram to its answer.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._stage = Histogram(
            "gradfec_cloud_stage_seconds",
            "The time that each stage of an answered tensor took.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._datagrams = counter("tensor_datagrams", "Datagrams of answered tensors, by what became of them.", "fate")
        self._parity = counter("parity_datagrams", "Of these, those that carry nothing but parity.")
        self._bytes = counter("tensor_bytes", "Bytes of UDP payload received for answered tensors.")
        self._packets = counter("packets", "Packets of answered tensors, by what became of them.", "fate")
        self._opened = counter("sessions_opened", "Sessions that an edge began to use.")
        self._ended = counter("sessions_ended", "Sessions that ended, by reason.", "reason")
        self._moved = counter("sessions_moved", "Times that an edge had another address than before.")
        self._key_readings = counter("key_readings", "Readings of the keys on SIGHUP.", "outcome")
        self._edge_tensors = counter("edge_tensors", "Answered tensors of an edge.", "edge", "outcome")
        self._edge_datagrams = counter("edge_datagrams", "An edge's datagrams, as tensor_datagrams.", "edge", "fate")
        self._edge_packets = counter("edge_packets", "An edge's packets, as packets.", "edge", "fate")
        self._edge_bytes = counter("edge_bytes", "An edge's bytes, as tensor_bytes.", "edge")
        self._edge_answer = Summary(
            "gradfec_cloud_edge_answer_seconds",
            "From first datagram to answer, of an edge's tensors.",
            ["edge"],
            registry=registry,
        )
        for family, values in (
            (self._stage, STAGES),
            (self._datagrams, DATAGRAM_FATES),
            (self._packets, PACKET_FATES),
            (self._ended, map(as_label, ENDINGS)),
            (self._key_readings, ("read", "refused")),
        ):
            for value in values:
                family.labels(value)

    # --- what happens ---

    def finished(self, tensor: Finished) -> None:
        """Count an answered tensor, of an edge that has a session."""
        edge = tensor.edge
        self._answer.observe(tensor.latency_s)
        self._edge_answer.labels(edge).observe(tensor.latency_s)
        for stage, milliseconds in tensor.result.stages_ms.items():
            self._stage.labels(stage).observe(milliseconds / 1000)
        self._parity.inc(tensor.datagrams["parity"])
        self._bytes.inc(tensor.received_bytes)
        self._edge_bytes.labels(edge).inc(tensor.received_bytes)
        self._edge_tensors.labels(edge, tensor.result.outcome).inc()
        for fate, count in datagram_fates(tensor.datagrams).items():
            self._datagrams.labels(fate).inc(count)
            self._edge_datagrams.labels(edge, fate).inc(count)
        for fate, count in packet_fates(tensor.packets).items():
            self._packets.labels(fate).inc(count)
            self._edge_packets.labels(edge, fate).inc(count)

    def session_opened(self, edge: str) -> None:
        """Count a session, and begin an edge's own counts if it has no other."""
        self._opened.inc()
        self._sessions[edge] += 1
        self._edge_answer.labels(edge)
        self._edge_bytes.labels(edge)
        for family, values in self._of_edges():
            for value in values:
                family.labels(edge, value)

    def session_ended(self, edge: str, reason: str) -> None:
        """Count the end of a session, and forget an edge that has no other."""
        self._ended.labels(as_label(reason)).inc()
        self._sessions[edge] -= 1
        if self._sessions[edge]:
            return
        del self._sessions[edge]
        self._edge_answer.remove(edge)
        self._edge_bytes.remove(edge)
        for family, values in self._of_edges():
            for value in values:
                family.remove(edge, value)

    def session_moved(self) -> None:
        """Count an edge's change of address."""
        self._moved.inc()

    def keys_read(self, *, well: bool) -> None:
        """Count a reading of the keys on SIGHUP."""
        self._key_readings.labels("read" if well else "refused").inc()

    def _of_edges(self) -> tuple[tuple[prometheus.Counter, tuple[str, ...]], ...]:
        """Return the counters of each edge, with all values of their second label."""
        return (
            (self._edge_tensors, OUTCOMES),
            (self._edge_datagrams, DATAGRAM_FATES),
            (self._edge_packets, PACKET_FATES),
        )

    # --- what is read ---

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of a snapshot; TimeoutError if the daemon does not give one."""
        now = self._snapshot()
        yield from _of_datagrams(now)
        yield from _of_workers(now)
        yield from _of_sinks_and_requests(now)
        yield from _of_the_moment(now)


def as_label(reason: str) -> str:
    """Return words as a label's value."""
    return reason.replace(" ", "_")


def _of_datagrams(now: Snapshot) -> Iterator[Metric]:
    tensors = {fate: now.tensors.get(fate, 0) for fate in TENSOR_FATES}
    datagrams = dict.fromkeys(FATES, 0) | dict(now.datagrams)
    yield _counters("datagrams_received", "Datagrams received, each under one fate.", "fate", datagrams)
    yield _counter("datagrams_dropped_by_kernel", "Lost to a full receive buffer: SO_RXQ_OVFL.", now.kernel_drops)
    yield _counter("datagrams_sent", "Datagrams sent to edges.", now.datagrams_sent)
    yield _counter("datagram_send_failures", "Datagrams that the kernel refused to send.", now.send_failures)
    yield _counter("tensors_opened", "Tensors that began to arrive.", now.tensors.get("opened", 0))
    yield _counters("tensors", "Tensors that are finished, by their fate.", "fate", tensors)
    limits = dict.fromkeys(LIMITS, 0) | dict(now.limits)
    yield _counters("limits_reached", "How often each limit was reached, by its name.", "limit", limits)


def _of_workers(now: Snapshot) -> Iterator[Metric]:
    leases = {ending: now.leases.get(ending, 0) for ending in LEASE_ENDINGS}
    yield _counters("leases", "Batches that the workers had, by how that ended.", "fate", leases)
    yield _gauge("open_leases", "Batches that the workers have.", now.leases.get("open", 0))
    ignored = now.leases.get("ignored", 0)
    yield _counter("lease_returns_ignored", "Batches that workers gave back after they had been given up.", ignored)
    workers = {"ready": now.crew.ready, "wanted": now.crew.wanted}
    yield _gauges("workers", "Workers that can take a batch, and how many there should be.", "state", workers)
    lost = dict.fromkeys(LOST, 0) | dict(now.crew.lost)
    yield _counters("workers_lost", "Workers that stopped to answer, by the reason.", "reason", lost)
    released = dict.fromkeys(LOST, 0) | dict(now.crew.released)
    yield _counters("batches_released", "Batches that were leased to another worker.", "reason", released)
    yield _gauge("fallback", "1 if this process does the workers' work, else 0.", now.crew.fallback)
    fills = dict.fromkeys((OUT_OF_TIME, NO_ANSWER), 0) | dict(now.fills_given_up)
    yield _counters("fills_given_up", "Tensors whose --fill was given up, by the reason.", "reason", fills)


def _of_sinks_and_requests(now: Snapshot) -> Iterator[Metric]:
    outward = CounterMetricFamily(
        "gradfec_cloud_outward_answers", "Answers for a sink, by what became of them.", labels=["sink", "fate"]
    )
    waiting = GaugeMetricFamily(
        "gradfec_cloud_outward_waiting", "Answers that wait for a sink, or are with it.", labels=["sink"]
    )
    for sink in (*SINKS, HTTP):
        counts = now.outward.get(sink, {})
        waiting.add_metric([sink], counts.get("waiting", 0))
        for fate in OUTWARD_FATES:
            outward.add_metric([sink, fate], counts.get(fate, 0))
    yield outward
    yield waiting
    requests = {outcome: now.infer.get(outcome, 0) for outcome in INFER_OUTCOMES}
    yield _counters("infer_requests", "Inference requests for whole pictures, by outcome.", "outcome", requests)


def _of_the_moment(now: Snapshot) -> Iterator[Metric]:
    yield _gauge("sessions", "Edges that have an open session.", now.sessions)
    yield _gauge("open_tensors", "Tensors that are being collected, decoded or counted.", now.open_tensors)
    yield _gauge("held_bytes", "Bytes of symbols held for tensors that are collected.", now.held_bytes)
    yield _gauge("unacknowledged_answers", "Results and reports being repeated.", now.unacknowledged)
    yield _gauge("receive_buffer_bytes", "The receive buffer that the kernel granted.", now.receive_buffer_bytes)
    yield _gauge("keys", "Keys that let an edge in.", now.keys)
    yield _gauge("insecure", "1 if everybody is admitted, by --insecure or by its key, else 0.", now.insecure)
    yield _gauge("ready", "1 if /readyz says so: back-end loaded, and not shutting down.", not now.not_ready)


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"gradfec_cloud_{name}", text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _gauges(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(f"gradfec_cloud_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"gradfec_cloud_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"gradfec_cloud_{name}", text, value=float(value))
