"""Runs of the real system on loopback: images -> edge -> loss injector -> cloud, with every datagram counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradfec_cli.daemons import Daemon, daemon, free_port
from gradfec_cli.loss_models import gilbert_elliott_transitions

Record = dict[str, Any]  # one line of the edge's results file
PACKET_NAMES = ("total", "dropped_by_plan", "recovered", "missing")
DATAGRAM_NAMES = ("sent", "parity", "received", "lost")


@dataclass(frozen=True)
class Link:
    """The bad link: mean loss as a share, mean length of a burst (None: independent losses), seed."""

    loss: float
    burst: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError for values that the injector would refuse."""
        if self._bursts:
            gilbert_elliott_transitions(self.loss, self.burst or 0.0)

    @property
    def _bursts(self) -> bool:
        return self.burst is not None and self.loss > 0

    def options(self) -> list[str]:
        """Return the injector's options."""
        burst = ["--burst", str(self.burst)] if self._bursts else []
        return ["--loss", str(self.loss), *burst, "--seed", str(self.seed)]


@dataclass(frozen=True)
class Run:
    """The outcome of one run: a record for each frame, and the totals of edge and injector."""

    records: list[Record]
    edge: Mapping[str, Any]
    injector: Mapping[str, Any]

    def agreement(self, reference: Mapping[str, int]) -> float:
        """Return the share of frames with the same answer as `reference`, by source; no answer does not agree."""
        return float(np.mean([top1(record) == reference[record["source"]] for record in self.records]))

    def frame_bytes(self) -> float:
        """Return the mean bytes of UDP payload of a frame."""
        return float(np.mean([record["bytes"] for record in self.records])) if self.records else 0.0

    def packets(self) -> dict[str, int]:
        """Return the counts of packets, summed over the frames; unknown counts are 0."""
        return {name: sum(record["packets"][name] or 0 for record in self.records) for name in PACKET_NAMES}

    def datagrams(self) -> dict[str, int]:
        """Return the counts of datagrams, summed over the frames; unknown counts are 0."""
        return {name: sum(record["datagrams"][name] or 0 for record in self.records) for name in DATAGRAM_NAMES}

    def latency_ms(self) -> dict[str, float]:
        """Return percentiles of the answered frames' latency."""
        times = [record["latency_ms"] for record in self.records if record["latency_ms"] is not None]
        return {f"p{q}": round(float(np.percentile(times, q)), 1) for q in (50, 95)} if times else {}


def top1(record: Record) -> int | None:
    """Return the class of a record's best answer, or None."""
    return int(record["top5"][0]["class_index"]) if record.get("top5") else None


def coding_options(protect: str, fec: str, codec: str, packets_a_datagram: int | None) -> list[str]:
    """Return the edge's options for a coding; None means as many packets as fit a datagram.

    With a fixed number of packets, all other options are those of the paper.
    """
    paper = [] if packets_a_datagram is None else ["--mode", "paper", "--packets-per-datagram", str(packets_a_datagram)]
    return [*paper, "--codec", codec, "--protect", protect, "--fec", fec]


def run_over_link(
    images: Path,
    link: Link,
    cloud_port: int,
    edge_options: list[str],
    on_record: Callable[[Record], None] = lambda record: None,
) -> Run:
    """Send a folder of images from a real edge through a real injector to the cloud on `cloud_port`."""
    with injector(link, cloud_port) as (relay, port):
        records, totals = _send(images, port, edge_options, on_record)
        return Run(records, totals, relay.totals())


def run_with_own_cloud(
    images: Path,
    link: Link,
    edge_options: list[str],
    on_record: Callable[[Record], None] = lambda record: None,
    fill: str = "zero",
) -> tuple[Run, Mapping[str, Any]]:
    """Do the same with a cloud that serves only this run, and fills gaps by `fill`; also return the cloud's totals.

    Edge, cloud and injector stop in this order, because the cloud may still repeat an unacknowledged answer.
    """
    cloud_port = free_port()
    options = ["--listen", f"127.0.0.1:{cloud_port}", "--fill", fill, "--json"]
    with (
        daemon("gradfec-cloud", *options, ready="listening on") as cloud,
        injector(link, cloud_port) as (relay, port),
    ):
        records, totals = _send(images, port, edge_options, on_record)
        of_cloud = cloud.totals()
        return Run(records, totals, relay.totals()), of_cloud


@contextmanager
def injector(link: Link, cloud_port: int) -> Iterator[tuple[Daemon, int]]:
    """Run a loss injector in front of the cloud; yield it with its port."""
    port = free_port()
    options = ["--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{cloud_port}", "--json", *link.options()]
    with daemon("gradfec-netem", *options, ready="listening on") as relay:
        yield relay, port


def _send(
    images: Path, port: int, edge_options: list[str], on_record: Callable[[Record], None]
) -> tuple[list[Record], Mapping[str, Any]]:
    """Run an edge over the images; return its records and its totals."""
    records: list[Record] = []
    totals: Mapping[str, Any] | None = None
    options = ["--camera", str(images), "--cloud", f"127.0.0.1:{port}", *edge_options, "--results", "-", "--json"]
    with daemon("gradfec-edge", *options) as edge:
        for line in edge.lines():
            parsed = json.loads(line)
            if "frame" in parsed:
                records.append(parsed)
                on_record(parsed)
            else:
                totals = parsed
        if totals is None:
            raise edge.failure()
    return records, totals


def unaccounted(run: Run, cloud: Mapping[str, Any]) -> dict[str, int]:
    """Return, for each step of the way, how many datagrams no counter accounts for: 0 if every fate is known.

    `cloud` holds the totals of a cloud that served only this run. Way up: edge, injector, cloud; way back: the reverse.
    (If an acknowledgement is lost, the cloud may repeat an answer to an edge that has ended. Nobody receives it.)
    """
    up, back = run.injector["up"], run.injector["back"]
    edge_sent, edge_received = run.edge["datagrams_sent"], run.edge["datagrams_received"]
    cloud_received = sum(cloud["datagrams_received"].values()) + cloud["datagrams_dropped_by_kernel"]["kernel"]
    arrived = cloud["datagrams_received"].get("collected", 0) + cloud["datagrams_received"].get("surplus", 0)
    datagrams = run.datagrams()
    return {
        "edge to injector": edge_sent["symbol"] + edge_sent["control"] - up["received"],
        "through injector, up": _inside(up),
        "injector to cloud": up["delivered"] - cloud_received,
        "symbols that the edge's records call sent": edge_sent["symbol"] - datagrams["sent"],
        "symbols that the edge's records call received": datagrams["received"] - arrived,
        "cloud to injector": cloud["datagrams_sent"]["control"] - back["received"],
        "through injector, back": _inside(back),
        "injector to edge": back["delivered"] - sum(edge_received.values()),
    }


def _inside(way: Mapping[str, int]) -> int:
    dropped = sum(count for name, count in way.items() if name.startswith("dropped_"))
    return way["received"] + way["duplicated"] - way["delivered"] - dropped - way["in_flight"]
