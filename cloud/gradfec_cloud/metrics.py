"""Prometheus metrics: a collector that reads one snapshot of the daemon at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gradfec_common.console import Endpoint
from gradfec_common.errors import GradfecError


@dataclass(frozen=True)
class Snapshot:
    """The daemon's counts at one moment."""

    datagrams: Mapping[str, int]  # received, by fate
    kernel_drops: int
    tensors: Mapping[str, int]  # by fate, `opened` first
    packets: Mapping[str, int]  # of finished tensors
    answer_seconds: float  # summed over finished tensors
    datagrams_sent: int
    send_failures: int
    sessions: int
    open_tensors: int
    held_bytes: int
    unacknowledged: int
    limits: Mapping[str, int]  # how often each bit, by name
    insecure: bool


class CloudCollector(Collector):
    """Turns snapshots into metrics."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        """Ask `snapshot` at each scrape."""
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        now = self._snapshot()
        yield _counters("gradfec_datagrams_received", "Datagrams received, each under one fate.", "fate", now.datagrams)
        yield _counter(
            "gradfec_datagrams_dropped_by_kernel", "Lost to a full receive buffer: SO_RXQ_OVFL.", now.kernel_drops
        )
        yield _counter("gradfec_datagrams_sent", "Datagrams sent to edges.", now.datagrams_sent)
        yield _counter("gradfec_datagrams_send_failures", "Datagrams that the kernel did not take.", now.send_failures)
        yield _counters("gradfec_tensors", "Tensors, opened and by fate.", "fate", now.tensors)
        yield _counters("gradfec_packets", "Packets of answered tensors, by what became of them.", "kind", now.packets)
        yield _counter("gradfec_answer_seconds", "Seconds from first datagram to answer, summed.", now.answer_seconds)
        yield _gauge("gradfec_sessions", "Edges that have an open session.", now.sessions)
        yield _gauge("gradfec_open_tensors", "Tensors that are being collected, decoded or counted.", now.open_tensors)
        yield _gauge("gradfec_held_bytes", "Bytes of symbols held for tensors that are collected.", now.held_bytes)
        yield _gauge("gradfec_unacknowledged_answers", "Results and reports being repeated.", now.unacknowledged)
        yield _counters("gradfec_limits_reached", "How often each limit bit, by its name.", "limit", now.limits)
        yield _gauge("gradfec_insecure", "1 where the cloud runs with --insecure, else 0.", int(now.insecure))


def serve_metrics(endpoint: Endpoint, snapshot: Callable[[], Snapshot]) -> WSGIServer:
    """Serve /metrics; GradfecError if the port cannot be had."""
    registry = CollectorRegistry()
    registry.register(CloudCollector(snapshot))
    try:
        server, _ = start_http_server(endpoint.port, endpoint.host or "0.0.0.0", registry)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GradfecError(f"cannot serve metrics on {endpoint}: {reason}; choose another --metrics") from None
    return server


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
