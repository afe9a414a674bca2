"""The edge's Prometheus metrics: frames are counted as they end, the rest is read from a snapshot at each scrape.

All have the label `camera`, but for what is the process's. docs/reference/metrics.md says of each what it means, and
what to do when it moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gradfec_common.wire import Drop
from gradfec_edge.losses import IMPORTANCE_FATES
from gradfec_edge.story import FALLBACK, LOOKS, Story
from gradfec_host.results import DATAGRAM_FATES, PACKET_FATES, UNKNOWN, datagram_fates, packet_fates
from gradfec_web.monitor import LATENCY_BUCKETS, STAGE_BUCKETS

# All values that each label can have. A counter is exported as 0 before its first event, or rate() would not see that.
FATES = ("welcome", "refuse", "result", "report", "pong", "bye", *(reason.value for reason in Drop))
OUTCOMES = ("complete", "partial", "timeout", "unsent", FALLBACK)
STAGES = ("preprocess", "front_end", "importance", "encode", "send", FALLBACK)
KINDS = ("symbol", "control")
REPLIES = ("answered", "late", "unanswered", "busy", "refused")  # to those who ask
LOSSES = ("silent", "leaving")  # of the link
REFUSALS = ("leaving", "full", "other")
# Also the names of their events in the log.
WARNINGS = CONGESTION, PARTIAL, SLOW_CLOUD = ("congestion", "partial", "slow_cloud")
LINK = {  # by the name in a record's `link`: the gauge, what it is, and the unit of the record's number
    "loss": ("link_loss_ratio", "Share of the datagrams that the link is believed to lose.", 1.0),
    "burst": ("link_burst_datagrams", "Believed mean length of a run of losses.", 1.0),
    "round_trip_ms": ("link_round_trip_seconds", "To the cloud and back, without the cloud's own time.", 1e-3),
    "queue_ms": ("link_queueing_seconds", "How much later than possible the newest frame's end arrived.", 1e-3),
    "budget_kbit_s": ("budget_bytes_per_second", "What may be sent, IP and UDP headers included.", 125.0),
    "expected": ("expected_agreement_ratio", "Agreement that the newest frame's plan expects.", 1.0),
}
Family = type[GaugeMetricFamily | CounterMetricFamily]


@dataclass(frozen=True)
class Snapshot:
    """One camera's counts and states at one moment."""

    connected: bool
    delivering: bool  # the camera
    frame_age_s: float  # of the newest frame, or since the start if there was none
    frames_skipped: int
    open_tensors: int
    datagrams_sent: Mapping[str, int]  # by kind, and those that the kernel did not take as `kind_failed`
    datagrams_received: Mapping[str, int]  # by fate
    bytes_sent: Mapping[str, int]  # by kind
    link: Mapping[str, float] = field(default_factory=dict)  # as in a record; empty without a link, or without `auto`
    replies: Mapping[str, int] | None = None  # to those who ask, by outcome; None of a camera that is not an Asker


class EdgeMetrics(Collector):
    """All that an edge exports, in a registry."""

    def __init__(
        self, registry: CollectorRegistry, snapshots: Callable[[], Mapping[str, Snapshot]], *, insecure: bool
    ) -> None:
        """Ask `snapshots` at each scrape, in another thread, for one of each camera."""
        self.registry, self._snapshots = registry, snapshots
        registry.register(self)

        def counter(name: str, text: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(f"gradfec_edge_{name}", text, ["camera", *labels], registry=registry)

        self.insecure = Gauge("gradfec_edge_insecure", "1 with --insecure, else 0.", registry=registry)
        self.insecure.set(float(insecure))
        self.frames = counter("frames", "Frames, by what became of them.", "outcome")
        self.second_looks = counter(
            "second_looks", "Frames that were sent again, by what became of the answer.", "answer"
        )
        self.latency = Histogram(
            "gradfec_edge_latency_seconds",
            "From the capture of a frame to its answer.",
            ["camera"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.stage = Histogram(
            "gradfec_edge_stage_seconds",
            "What each stage of a frame that was sent took.",
            ["camera", "stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.datagrams = counter("tensor_datagrams", "Datagrams of frames that were sent, by their fate.", "fate")
        self.parity = counter("parity_datagrams", "Of these, those that carry nothing but parity.")
        self.asked = counter("asked_datagrams", "Of these, those that were sent because the cloud asked for them.")
        self.frame_bytes = Gauge(
            "gradfec_edge_frame_bytes",
            "Bytes of UDP payload of the last frame that was sent.",
            ["camera"],
            registry=registry,
        )
        self.packets = counter("packets", "Packets of frames that were sent, by what became of them.", "fate")
        self.importance = counter(
            "importance", "Importance of packets, 1 for each frame that was sent, by what became of them.", "fate"
        )
        self.connections = counter("connections", "Times that the cloud was found, or found again.")
        self.link_losses = counter("link_losses", "Times that the cloud was lost, by reason.", "reason")
        self.warnings = Gauge(
            "gradfec_edge_warning",
            "1 while the edge warns of it, else 0.",
            ["camera", "warning"],
            registry=registry,
        )
        self.refusals = counter("refusals", "Times that the cloud refused this edge, by reason.", "reason")

    def camera(self, name: str) -> CameraMetrics:
        """Begin to count for a camera."""
        return CameraMetrics(self, as_label(name))

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the snapshots; TimeoutError if the daemon gives none."""
        now = {as_label(name): snapshot for name, snapshot in self._snapshots().items()}

        def each(kind: Family, name: str, text: str, value: Callable[[Snapshot], float | None]) -> Metric:
            family = kind(f"gradfec_edge_{name}", text, labels=["camera"])
            for camera, snapshot in now.items():
                if (found := value(snapshot)) is not None:
                    family.add_metric([camera], float(found))
            return family

        def counters(name: str, text: str, label: str, values: Callable[[Snapshot], Mapping[str, int]]) -> Metric:
            family = CounterMetricFamily(f"gradfec_edge_{name}", text, labels=["camera", label])
            for camera, snapshot in now.items():
                for value, count in values(snapshot).items():
                    family.add_metric([camera, value], count)
            return family

        gauge, counter = partial(each, GaugeMetricFamily), partial(each, CounterMetricFamily)
        yield gauge("connected", "1 while the cloud is there, else 0.", lambda of: of.connected)
        yield gauge("camera_delivering", "1 while frames come when they are asked for.", lambda of: of.delivering)
        yield gauge("frame_age_seconds", "Since the newest frame was taken.", lambda of: of.frame_age_s)
        yield gauge("open_tensors", "Frames that were sent and are not done with.", lambda of: of.open_tensors)
        yield counter(
            "frames_skipped", "Frames that were not used, and files that are not images.", lambda of: of.frames_skipped
        )
        yield counters("datagrams_sent", "Datagrams given to the kernel.", "kind", _taken)
        yield counters("sent_bytes", "Bytes of UDP payload given to the kernel.", "kind", _taken_bytes)
        yield counters("datagram_send_failures", "Datagrams that the kernel did not take.", "kind", _not_taken)
        yield counters("datagrams_received", "Datagrams received, each under one fate.", "fate", _received)
        yield counters("replies", "Replies to Frigate's questions, by outcome.", "outcome", _replied)
        for known, (name, text, unit) in LINK.items():
            yield gauge(name, text, partial(_of_link, known, unit))


class CameraMetrics:
    """What happens to one camera's frames and link."""

    def __init__(self, of: EdgeMetrics, camera: str) -> None:
        """Export every counter as 0."""
        self._of, self._camera = of, camera
        of.latency.labels(camera)
        of.frame_bytes.labels(camera)
        of.parity.labels(camera)
        of.asked.labels(camera)
        of.connections.labels(camera)
        for family, values in (
            (of.frames, OUTCOMES),
            (of.second_looks, LOOKS),
            (of.stage, STAGES),
            (of.datagrams, (*DATAGRAM_FATES, UNKNOWN)),
            (of.packets, (*PACKET_FATES, UNKNOWN)),
            (of.importance, IMPORTANCE_FATES),
            (of.link_losses, LOSSES),
            (of.refusals, REFUSALS),
            (of.warnings, WARNINGS),
        ):
            for value in values:
                family.labels(camera, value)

    def ended(self, story: Story) -> None:
        """Count a frame whose story is over."""
        of, camera = self._of, self._camera
        of.frames.labels(camera, story.outcome if story.plan or story.fallback else "unsent").inc()
        if story.second_look:
            of.second_looks.labels(camera, story.second_look).inc()
        for stage, milliseconds in story.stages_ms.items():
            of.stage.labels(camera, stage).observe(milliseconds / 1000)
        if story.result:
            of.latency.labels(camera).observe(story.latency_ms / 1000)
        of.parity.labels(camera).inc(story.datagrams["parity"] or 0)
        of.asked.labels(camera).inc(story.asked)
        if story.bytes:
            of.frame_bytes.labels(camera).set(story.bytes)
        counted: list[tuple[prometheus.Counter, Mapping[str, float]]] = [
            (of.datagrams, datagram_fates(story.datagrams)),
            *((of.packets, packet_fates(one.packets)) for one in story.looks),
            (of.importance, story.importance),
        ]
        for family, counts in counted:
            for fate, count in counts.items():
                family.labels(camera, fate).inc(count)

    def connected(self) -> None:
        """Count that the cloud was found."""
        self._of.connections.labels(self._camera).inc()

    def link_lost(self, *, leaving: bool) -> None:
        """Count that the cloud was lost."""
        self._of.link_losses.labels(self._camera, "leaving" if leaving else "silent").inc()

    def warns(self, warning: str, *, holds: bool) -> None:
        """Note that a warning begins to hold, or is over."""
        self._of.warnings.labels(self._camera, warning).set(float(holds))

    def refused(self, reason: str) -> None:
        """Count a refusal; `reason` is the cloud's word, which may be any."""
        self._of.refusals.labels(self._camera, reason if reason in REFUSALS else "other").inc()


def as_label(name: str) -> str:
    """Return a camera's name as UTF-8 can express it: a file's may be any bytes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _taken(snapshot: Snapshot) -> dict[str, int]:
    return {kind: snapshot.datagrams_sent.get(kind, 0) for kind in KINDS}


def _taken_bytes(snapshot: Snapshot) -> dict[str, int]:
    return {kind: snapshot.bytes_sent.get(kind, 0) for kind in KINDS}


def _replied(snapshot: Snapshot) -> dict[str, int]:
    return {} if snapshot.replies is None else dict.fromkeys(REPLIES, 0) | dict(snapshot.replies)


def _received(snapshot: Snapshot) -> dict[str, int]:
    return dict.fromkeys(FATES, 0) | dict(snapshot.datagrams_received)


def _not_taken(snapshot: Snapshot) -> dict[str, int]:
    return {kind: snapshot.datagrams_sent.get(f"{kind}_failed", 0) for kind in KINDS}


def _of_link(known: str, unit: float, snapshot: Snapshot) -> float | None:
    return unit * snapshot.link[known] if known in snapshot.link else None
