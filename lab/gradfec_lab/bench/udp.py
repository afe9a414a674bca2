"""`gradfec bench udp`: what a datagram costs over loopback, in batches and one a system call."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gradfec_cloud.port import Port
from gradfec_common.errors import GradfecError
from gradfec_common.wire import Batch, Bytes
from gradfec_edge.udp import Sender
from gradfec_host.console import Endpoint, plain_errors
from gradfec_lab.bench.measure import in_words, machine

CONTEXT = {"show_default": True, "help_option_names": ["-h", "--help"]}
KERNEL_BYTES = 2304  # the most receive buffer that Linux charges for a single datagram
LATEST_S = 1.0  # after this, a datagram over loopback is lost
PATHS = {"plain": False, "batched": True}


class Loopback:
    """An edge's sending socket and a cloud's receiving port, connected over loopback."""

    def __init__(self, *, batched: bool) -> None:
        """Open both, on free ports."""
        self.port = Port(Endpoint("127.0.0.1", 0), batched=batched)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.sender = Sender(self._socket, batched=batched)

    def close(self) -> None:
        """Close both."""
        self.port.close()
        self._socket.close()

    @property
    def room(self) -> int:
        """How many datagrams fit into the receive buffer, at least."""
        return max(2 * self.port.receive_buffer_bytes // KERNEL_BYTES, 1)  # Linux grants twice what it reports

    def send(self, datagrams: Bytes) -> None:
        """Send (m, bytes) datagrams, as the edge does."""
        done = 0
        while done < len(datagrams):
            done += self.sender.send(datagrams[done:], self.port.address).datagrams

    def receive(self, count: int) -> Iterator[Batch]:
        """Yield `count` datagrams as batches; GradfecError if some do not arrive."""
        last = time.monotonic() + LATEST_S
        while count > 0:
            batch = self.port.receive()
            if batch is not None:
                count -= len(batch.lengths)
                yield batch
            elif time.monotonic() > last:
                raise GradfecError(
                    f"{count} datagrams were lost over loopback, {self.port.kernel_drops} of them to a full receive "
                    "buffer: try again when the machine is less busy, or raise net.core.rmem_max"
                )


@contextmanager
def loopback(*, batched: bool) -> Iterator[Loopback]:
    """Open a Loopback for a while."""
    opened = Loopback(batched=batched)
    try:
        yield opened
    finally:
        opened.close()


@dataclass(frozen=True)
class Measured:
    """One path's CPU time a datagram, kernel and program together, and its datagrams a second."""

    send_cpu_us: float
    receive_cpu_us: float
    send_per_s: float
    receive_per_s: float


@click.command(context_settings=CONTEXT)
@click.option(
    "--packets", default=2048, type=click.IntRange(1, 2**20), help="Datagrams in a run, a tensor's by default."
)
@click.option("--bytes", "length", default=458, type=click.IntRange(12, 700), help="Bytes in a datagram.")
@click.option("--runs", default=25, type=click.IntRange(1), help="Runs after the warm-up, of which to take the median.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def udp(packets: int, length: int, runs: int, as_json: bool) -> None:
    """Send and receive a tensor's datagrams over loopback, with many a system call and with one.

    Sending and receiving are measured separately: sending into a receive buffer with room, and receiving what waits
    there, up to the matrix of datagrams. CPU time includes kernel and program.
    """
    described = machine("numpy")
    found = measure(packets, length, runs)
    ratios = {
        "udp_send": found["batched"].send_cpu_us / found["plain"].send_cpu_us,
        "udp_receive": found["batched"].receive_cpu_us / found["plain"].receive_cpu_us,
    }
    if as_json:
        said = {"machine": described, "packets": packets, "bytes": length, "runs": runs}
        paths = {path: asdict(measured) for path, measured in found.items()}
        meaning = "CPU time a datagram, batched over plain: 0.125 is 8 times less"
        click.echo(json.dumps({**said, "udp": paths, "ratios": ratios, "ratios_are": meaning}))
        return
    out = Console(highlight=False)
    out.print(in_words(described), style="dim", soft_wrap=True)
    out.print(table(found, f"{packets} datagrams of {length} B over loopback, median of {runs} runs"))
    for name, ratio in ratios.items():
        out.print(f"{name}: batched takes {ratio:.3f} of the CPU time of plain, {1 / ratio:.1f} times less")


def measure(packets: int, length: int, runs: int) -> dict[str, Measured]:
    """Measure both paths in turn in each run, for equal conditions; GradfecError if one is missing."""
    datagrams = np.random.default_rng(0).integers(0, 256, (packets, length), np.uint8)
    with loopback(batched=False) as plain, loopback(batched=True) as batched:
        if not (batched.port.batched and batched.sender.batched):
            raise GradfecError(
                "this kernel has no UDP_SEGMENT or no UDP_GRO, so there is no batched path to measure: use Linux 5.0 "
                "or later"
            )
        ways = {"plain": plain, "batched": batched}
        times: dict[str, list[Any]] = {path: [] for path in ways}
        for _ in range(1 + runs):
            for path, way in ways.items():
                times[path].append(one_run(way, datagrams))
    found = {}
    for path, each in times.items():
        send_cpu, receive_cpu, send, receive = np.median(each[1:], axis=0) / packets  # seconds a datagram
        found[path] = Measured(1e6 * send_cpu, 1e6 * receive_cpu, 1 / send, 1 / receive)
    return found


def one_run(way: Loopback, datagrams: Bytes) -> tuple[float, float, float, float]:
    """Send and receive all datagrams, as many at a time as fit; return CPU and wall-clock seconds of each."""
    sent = received = np.zeros(2)
    for at in range(0, len(datagrams), way.room):
        part = datagrams[at : at + way.room]
        start = now()
        way.send(part)
        half = now()
        for _ in way.receive(len(part)):
            pass
        sent, received = sent + half - start, received + now() - half
    (send_cpu, send), (receive_cpu, receive) = sent, received
    return send_cpu, receive_cpu, send, receive


def now() -> Any:
    """Return this process's CPU time and the wall-clock time, (2,) seconds."""
    return np.array([time.process_time(), time.perf_counter()])


def table(found: dict[str, Measured], title: str) -> Table:
    """Make the table of each path's cost."""
    laid = Table(title=title, box=SIMPLE_HEAD)
    laid.add_column("path")
    for heading in ("send, us CPU", "receive, us CPU", "send, 1/s", "receive, 1/s"):
        laid.add_column(heading, justify="right")
    for path, measured in found.items():
        cpu = (f"{measured.send_cpu_us:.2f}", f"{measured.receive_cpu_us:.2f}")
        laid.add_row(path, *cpu, f"{measured.send_per_s:,.0f}", f"{measured.receive_per_s:,.0f}")
    return laid
