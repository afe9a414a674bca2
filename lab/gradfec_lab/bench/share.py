"""`gradfec bench share`: edges beside each other, and beside a bulk TCP stream, on one full link.

All are real: the daemons, and the kernel's TCP. Their packets meet in the injector's channel, which has one rate
and one queue.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress

from gradfec_cli.channel import HEADER_BYTES
from gradfec_cli.daemons import MODULES, daemon
from gradfec_common.errors import GradfecError
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_lab.bench.measure import in_words, machine
from gradfec_lab.bench.rivals import namespaces
from gradfec_lab.bench.rivals.jpeg_tcp import TUNNEL
from gradfec_lab.bench.rivals.tunnel import READY
from gradfec_lab.sweep.report import Grid, Report

CLOUD_PORT, STREAM_PORT = 9000, 9001
PACKET_BYTES = 1500  # for which the queue has room
CHUNK_BYTES = 16_384
CONNECT_S = 30.0


@click.command(context_settings=CONTEXT)
@click.option(
    "--images",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of images, which edges repeat.",
)
@click.option("--edges", default=2, type=click.IntRange(1, 8), help="How many edges.")
@click.option("--fps", default=5.0, type=click.FloatRange(0, min_open=True), help="Frames a second, at most.")
@click.option("--streams", default=1, type=click.IntRange(0, 1), help="How many TCP streams.")
@click.option("--congestion", default="cubic", metavar="NAME", help="Congestion control of TCP, of the kernel's.")
@click.option("--rate", default=0.5, type=click.FloatRange(0, min_open=True), metavar="MBIT/S", help="Of the link.")
@click.option("--queue-kb", default=100, type=click.IntRange(2), metavar="KB", help="What may wait for the link.")
@click.option("--delay", default=20.0, type=click.FloatRange(0), metavar="MS", help="Each way.")
@click.option("--seconds", default=60.0, type=click.FloatRange(5), help="For how long, after a tenth of it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def share(
    images: Path,
    edges: int,
    fps: float,
    streams: int,
    congestion: str,
    rate: float,
    queue_kb: int,
    delay: float,
    seconds: float,
    as_json: bool,
) -> None:
    """Let edges and a TCP stream fill one link for a while, and say what each of them got.

    kbit/s are those of the second nine tenths of the time, headers of IP, UDP and TCP included; a TCP stream's are what
    arrived. Jain's index of n flows is 1 if all have the same, 1 / n if one has everything. Needs root, on Linux.
    """
    if reason := namespaces.why_not():
        raise GradfecError(reason)
    described = machine()
    with TemporaryDirectory(prefix="gradfec-share-") as folder:
        files = [Path(folder) / f"{number}.jsonl" for number in range(edges)]
        with Progress(console=Console(stderr=True), transient=True) as progress, ExitStack() as stack:
            near, far = stack.enter_context(namespaces.two_ends())
            tuns = (near.tun, far.tun)
            queue = max(round(1000 * queue_kb / PACKET_BYTES), 1)
            link = ("--rate", rate, "--queue", queue, "--delay", delay, "--back-delay", delay)
            stack.enter_context(daemon("tunnel", *tuns, *link, ready=READY, program=TUNNEL, pass_fds=tuns))
            listen = ("--listen", f"{namespaces.FAR}:{CLOUD_PORT}", "--insecure")
            inside(stack, "gradfec-cloud", far, *listen, ready="listening on")
            stream = Stream(near.socket, far.socket, congestion) if streams else None
            for number, file in enumerate(files):
                to = ("--cloud", f"{namespaces.FAR}:{CLOUD_PORT}", "--insecure", "--name", f"edge {number + 1}")
                asked = ("--camera", images, "--loop", "--fps", fps, "--results", file)
                inside(stack, "gradfec-edge", near, *to, *asked, ready="connected")
            if stream:
                stream.start()
            for _ in progress.track(range(round(1.1 * seconds)), description="sharing"):
                time.sleep(1)
            end = time.time()
            streamed = stream.kbit_s(end - seconds, end) if stream else None
        records = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    rows = [row_of(f"edge {number + 1}", of, end - seconds, seconds) for number, of in enumerate(records)]
    if streamed is not None:
        rows.append({"flow": f"TCP, {congestion}", "kbit_s": streamed})
    found = {"machine": described, "flows": rows, "jain": jain([row["kbit_s"] for row in rows])}
    Report(found, [table(rows, described)]).show(as_json)


def inside(stack: ExitStack, name: str, end: namespaces.End, *arguments: object, ready: str) -> None:
    """Run a daemon in the namespace of an end until the stack unwinds."""
    program = (*end.enter, sys.executable, "-m", MODULES[name])
    stack.enter_context(daemon(name, *map(str, arguments), ready=ready, program=program, pass_fds=(end.namespace,)))


class Stream:
    """A bulk transfer over TCP: as many bytes as the link takes."""

    def __init__(self, near: socket.socket, far: socket.socket, congestion: str) -> None:
        """Connect; GradfecError if the kernel lacks that congestion control."""
        far.bind((namespaces.FAR, STREAM_PORT))
        far.listen()
        try:
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        except OSError as error:
            raise GradfecError(f"--congestion {congestion}: {error}; modprobe tcp_{congestion} may help") from None
        near.settimeout(CONNECT_S)
        near.connect((namespaces.FAR, STREAM_PORT))
        self._near, (self._far, _) = near, far.accept()
        self._arrived: list[tuple[float, int]] = []  # when, and how many bytes

    def start(self) -> None:
        """Send until the sockets are closed."""
        for work in (self._send, self._receive):
            threading.Thread(target=work, daemon=True).start()

    def kbit_s(self, since: float, until: float) -> float:
        """Return what arrived between two times of the day."""
        arrived = sum(size for when, size in [*self._arrived] if since <= when < until)
        return 8 * arrived / 1000 / (until - since)

    def _send(self) -> None:
        self._near.settimeout(None)
        with suppress(OSError):  # closed: the time is over
            while True:
                self._near.sendall(bytes(CHUNK_BYTES))

    def _receive(self) -> None:
        with suppress(OSError):
            while data := self._far.recv(CHUNK_BYTES):
                self._arrived.append((time.time(), len(data)))


def row_of(flow: str, records: Sequence[dict[str, Any]], since: float, seconds: float) -> dict[str, Any]:
    """Return an edge's row, from its records of the frames that ended in the time."""
    mine = [one for one in records if datetime.fromisoformat(one["time"].replace("Z", "+00:00")).timestamp() >= since]
    answered = [one for one in mine if one["latency_ms"] is not None]
    queues = [one["link"]["queue_ms"] for one in mine if "queue_ms" in one.get("link", {})]
    size = sum(one["bytes"] + HEADER_BYTES * one["datagrams"]["sent"] for one in mine)
    return {
        "flow": flow,
        "kbit_s": 8 * size / 1000 / seconds,
        "frames": len(mine),
        "answered": len(answered) / max(len(mine), 1),
        "latency_ms": percentiles([one["latency_ms"] for one in answered]),
        "queue_ms": percentiles(queues),
    }


def percentiles(values: Sequence[float]) -> list[float] | None:
    """Return the median and the 95th percentile; None of nothing."""
    return np.percentile(values, [50, 95]).round(1).tolist() if values else None


def jain(rates: Sequence[float]) -> float:
    """Return Jain's fairness index (Jain, Chiu, Hawe, 1984) of n rates: 1/n to 1."""
    squares = sum(rate**2 for rate in rates)
    return sum(rates) ** 2 / (len(rates) * squares) if squares else 1.0


def table(rows: Sequence[dict[str, Any]], described: dict[str, Any]) -> Grid:
    """Return the flows, one a line."""
    rates = [row["kbit_s"] for row in rows]
    header = ["flow", "kbit/s", "frames", "answered", "latency p50, p95, ms", "queueing p50, p95, ms"]
    lines = [
        [
            row["flow"],
            f"{row['kbit_s']:.0f}",
            str(row.get("frames", "-")),
            f"{100 * row['answered']:.0f} %" if "answered" in row else "-",
            *(" ".join(f"{one:.0f}" for one in row.get(name) or []) or "-" for name in ("latency_ms", "queue_ms")),
        ]
        for row in rows
    ]
    title = f"One link, {sum(rates):.0f} kbit/s in all, Jain's index {jain(rates):.3f}; {in_words(described)}"
    return Grid(title, header, lines)
