"""The cloud's Prometheus metrics: what happens is counted as it does, the rest read from a snapshot at each scrape.

docs/METRICS.md says of each what it means, and what to do when it moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry, Histogram, Summary
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gradfec_common.session.events import Finished
from gradfec_common.wire import Drop
from gradfec_host.results import PACKET_FATES, SYMBOL_FATES, packet_fates, symbol_fates
from gradfec_web.monitor import LATENCY_BUCKETS, STAGE_BUCKETS

# All values that a label can have: a counter is there, as 0, before its first event, which rate() would not see else.
FATES = ("collected", "surplus", "hello", "ping", "ack", "sketch", "bye", *(reason.value for reason in Drop))
OUTCOMES = ("complete", "partial")
TENSOR_FATES = (*OUTCOMES, "overloaded", "failed", "abandoned")
LIMITS = (
    *("sessions", "sessions_per_key", "greetings", "hellos_per_s", "hellos_per_s_and_address", "addresses"),
    *("tensors_per_s", "tensors_per_session", "pending_tensors", "reassembly_bytes", "answers_per_session"),
    *("credit", "sketch_bytes"),
)
STAGES = ("collect", "queue", "decode", "back_end")
ENDINGS = ("idle", "bye", "leaving", "key removed")


@dataclass(frozen=True)
class Snapshot:
    """The daemon's counts and states at one moment."""

    datagrams: Mapping[str, int]  # received, by fate
    kernel_drops: int
    datagrams_sent: int
    send_failures: int
    tensors: Mapping[str, int]  # by fate, and `opened`
    limits: Mapping[str, int]  # how often each bit, by name
    sessions: int
    open_tensors: int
    held_bytes: int
    unacknowledged: int
    receive_buffer_bytes: int
    keys: int
    insecure: bool
    ready: bool


class CloudMetrics(Collector):
    """All that the cloud exports, in a registry.

    What has the label `edge` is there while that edge has a session: there are no more of them than sessions.
    """

    def __init__(self, registry: CollectorRegistry, snapshot: Callable[[], Snapshot]) -> None:
        """Ask `snapshot` at each scrape, in another thread."""
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
            "What each stage of an answered tensor took.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._symbols = counter("symbols", "Symbols of answered tensors, by what became of them.", "fate")
        self._parity = counter("parity_symbols", "Symbols of answered tensors that were sent extra: parity.")
        self._packets = counter("packets", "Packets of answered tensors, by what became of them.", "fate")
        self._opened = counter("sessions_opened", "Sessions that an edge began to use.")
        self._ended = counter("sessions_ended", "Sessions that were over, by why.", "reason")
        self._moved = counter("sessions_moved", "Edges that had another address than before.")
        self._key_readings = counter("key_readings", "Readings of the keys on SIGHUP.", "outcome")
        self._edge_tensors = counter("edge_tensors", "Answered tensors of an edge.", "edge", "outcome")
        self._edge_symbols = counter("edge_symbols", "The symbols of an edge, as all symbols.", "edge", "fate")
        self._edge_packets = counter("edge_packets", "The packets of an edge, as all packets.", "edge", "fate")
        self._edge_answer = Summary(
            "gradfec_cloud_edge_answer_seconds",
            "From first datagram to answer, of an edge's tensors.",
            ["edge"],
            registry=registry,
        )
        for family, values in (
            (self._stage, STAGES),
            (self._symbols, SYMBOL_FATES),
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
        self._parity.inc(tensor.packets["parity"])
        self._edge_tensors.labels(edge, tensor.result.outcome).inc()
        for fate, count in symbol_fates(tensor.packets).items():
            self._symbols.labels(fate).inc(count)
            self._edge_symbols.labels(edge, fate).inc(count)
        for fate, count in packet_fates(tensor.packets).items():
            self._packets.labels(fate).inc(count)
            self._edge_packets.labels(edge, fate).inc(count)

    def session_opened(self, edge: str) -> None:
        """Count a session, and begin an edge's own counts with its first."""
        self._opened.inc()
        self._sessions[edge] += 1
        self._edge_answer.labels(edge)
        for family, values in self._of_edges():
            for value in values:
                family.labels(edge, value)

    def session_ended(self, edge: str, reason: str) -> None:
        """Count the end of a session, and forget an edge with its last."""
        self._ended.labels(as_label(reason)).inc()
        self._sessions[edge] -= 1
        if self._sessions[edge]:
            return
        del self._sessions[edge]
        self._edge_answer.remove(edge)
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
        """Return what counts for each edge, with all values of its second label."""
        return (
            (self._edge_tensors, OUTCOMES),
            (self._edge_symbols, SYMBOL_FATES),
            (self._edge_packets, PACKET_FATES),
        )

    # --- what is read ---

    def collect(self) -> Iterator[Metric]:
        """Yield what a snapshot tells; TimeoutError where there is none to be had."""
        now = self._snapshot()
        tensors = {fate: now.tensors.get(fate, 0) for fate in TENSOR_FATES}
        datagrams = dict.fromkeys(FATES, 0) | dict(now.datagrams)
        limits = dict.fromkeys(LIMITS, 0) | dict(now.limits)
        yield _counters("datagrams_received", "Datagrams received, each under one fate.", "fate", datagrams)
        yield _counter("datagrams_dropped_by_kernel", "Lost to a full receive buffer: SO_RXQ_OVFL.", now.kernel_drops)
        yield _counter("datagrams_sent", "Datagrams sent to edges.", now.datagrams_sent)
        yield _counter("datagram_send_failures", "Datagrams that the kernel did not take.", now.send_failures)
        yield _counter("tensors_opened", "Tensors that began to arrive.", now.tensors.get("opened", 0))
        yield _counters("tensors", "Tensors that are done with, by their fate.", "fate", tensors)
        yield _counters("limits_reached", "How often each limit bit, by its name.", "limit", limits)
        yield _gauge("sessions", "Edges that have an open session.", now.sessions)
        yield _gauge("open_tensors", "Tensors that are being collected, decoded or counted.", now.open_tensors)
        yield _gauge("held_bytes", "Bytes of symbols held for tensors that are collected.", now.held_bytes)
        yield _gauge("unacknowledged_answers", "Results and reports being repeated.", now.unacknowledged)
        yield _gauge("receive_buffer_bytes", "The receive buffer that the kernel granted.", now.receive_buffer_bytes)
        yield _gauge("keys", "Keys that let an edge in.", now.keys)
        yield _gauge("insecure", "1 where everybody may come in, with --insecure or its key, else 0.", now.insecure)
        yield _gauge("ready", "1 where /readyz says so: back-end loaded, and not leaving.", now.ready)


def as_label(reason: str) -> str:
    """Return words as a label's value."""
    return reason.replace(" ", "_")


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"gradfec_cloud_{name}", text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"gradfec_cloud_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"gradfec_cloud_{name}", text, value=float(value))
