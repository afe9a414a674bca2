"""`gradfec bench cloud-scale`: many synthetic edges against one cloud whose back-end answers at once."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import uvloop
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gradfec_cli.daemons import Daemon, daemon, free_port
from gradfec_common.codes import fec_named
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.keys import INSECURE_KEY
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.packets import DEFAULT_ROWS
from gradfec_common.plan import parse_scheme
from gradfec_common.session.edge import Answered, Closed, EdgeSession, Event, new_hello
from gradfec_common.session.events import CloudLimits
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.transmit import EncodedTensor, encode_tensor, packet_grid
from gradfec_edge.condition import Condition
from gradfec_edge.link import Link
from gradfec_host.console import Endpoint, Number, plain_errors
from gradfec_host.processor import preferred_cipher
from gradfec_lab.bench.end_to_end import FASTEST, cpu_s
from gradfec_lab.bench.measure import in_words, machine

CONTEXT = {"show_default": True, "help_option_names": ["-h", "--help"]}
CUT = named_cut(DEFAULT_CUT)
GRID = packet_grid(CUT, DEFAULT_ROWS)  # 2,048 packets
WARM_UP_S = 1.0
PATIENCE_S = 30.0
STUB = "gradfec_lab.bench.stub_cloud"


@dataclass(frozen=True)
class Load:
    """What a number of edges asked of a cloud on one core, and what it took."""

    edges: int
    packets_per_s: float  # that came and were reported, by the clock
    cpu_us_a_packet: float  # of the cloud's process, kernel and program
    lost_share: float  # of the datagrams sent: no room for them in the receive buffer
    tensors: int
    memory_mb: float  # resident, of the cloud


@dataclass
class Counts:
    """What has been reported to the edges so far."""

    tensors: int = 0
    sent: int = 0
    received: int = 0

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.tensors - other.tensors, self.sent - other.sent, self.received - other.received)


@click.command(context_settings=CONTEXT)
@click.option("--edges", default="1,2,4,8,16", metavar="NUMBERS", help="How many edges; a run for each number.")
@click.option("--seconds", default=5.0, type=Number(0.1, 600), help="Length of a run, after a warm-up.")
@click.option("--protect", default="none", metavar="SCHEME", help="Protection scheme.")
@click.option("--fec", default=FASTEST, metavar="CODE", help="Erasure code of FEC_A_B: zfec, leopard, zfec:256.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def cloud_scale(edges: str, seconds: float, protect: str, fec: str, as_json: bool) -> None:
    """Let edges send ready tensors as fast as a cloud on one core takes them, whose back-end is a stub.

    Each edge sends its next tensor once the last is answered. The cloud does all else that it does: regroups, decodes,
    dequantises, answers. The edges have the other cores.
    """
    described = machine("numpy", "uvloop")
    loads = [measure(number, seconds, protect, fec) for number in numbers(edges)]
    most = max(load.packets_per_s for load in loads)  # few edges leave the cloud idle between their tensors
    if as_json:
        said = {"machine": described, "seconds": seconds, "protect": protect, "fec": fec}
        runs = [asdict(load) for load in loads]
        click.echo(json.dumps({**said, "cloud_scale": runs, "packets_per_s": {"cloud_one_core": most}}))
        return
    out = Console(highlight=False)
    out.print(in_words(described), style="dim", soft_wrap=True)
    out.print(table(loads, f"tensors of {GRID.count:,} packets, {protect}, one core, {seconds:g} s each"))
    out.print(f"cloud_one_core: {most:,.0f} packets a second at the most")


def numbers(text: str) -> list[int]:
    """Read the numbers of edges; UsageError for what is none."""
    parts = [part.strip() for part in text.split(",")]
    most = CloudLimits().sessions
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= most for part in parts):
        raise UsageError(f"--edges {text!r}: use numbers from 1 to {most}, for example 1,4,16")
    return [int(part) for part in parts]


def measure(edges: int, seconds: float, protect: str, fec: str) -> Load:
    """Run so many edges against a cloud of their own."""
    features = np.random.default_rng(0).normal(size=CUT.shape).astype(np.float32)
    plan = parse_scheme(protect, fec_named(fec)).plan(np.arange(GRID.count, dtype=np.float32))
    encoded = encode_tensor(features, plan, GRID, CUT)
    port = free_port()
    program = (sys.executable, "-m", STUB)
    with daemon("gradfec-cloud", port, ready="listening on", program=program) as cloud, other_cores():
        load: Load = uvloop.run(flood(edges, Endpoint("127.0.0.1", port), encoded, seconds, cloud))
        return load


async def flood(edges: int, cloud: Endpoint, encoded: EncodedTensor, seconds: float, process: Daemon) -> Load:
    """Send from so many edges for some seconds after a warm-up; return what was measured in between."""
    counts = Counts()
    senders = [SyntheticEdge(f"edge {n}", cloud, encoded, counts) for n in range(edges)]
    connected, late = await asyncio.wait(
        [asyncio.ensure_future(sender.start()) for sender in senders], timeout=PATIENCE_S
    )
    for started in connected:
        started.result()
    if late:
        raise GradfecError(f"{len(late)} of {edges} edges found no cloud within {PATIENCE_S:g} s")
    await asyncio.sleep(WARM_UP_S)
    first, cpu, clock = Counts(**asdict(counts)), cpu_s(process), time.perf_counter()
    await asyncio.sleep(seconds)
    done, cpu, clock = counts - first, cpu_s(process) - cpu, time.perf_counter() - clock
    memory = resident_mb(process)
    await asyncio.gather(*(sender.stop() for sender in senders))
    packets = max(done.received, 1)
    lost = 1 - done.received / max(done.sent, 1)
    return Load(edges, done.received / clock, 1e6 * cpu / packets, lost, done.tensors, memory)


class SyntheticEdge:
    """An edge that sends one ready tensor again and again: the next when the last is answered, or given up."""

    def __init__(self, name: str, cloud: Endpoint, encoded: EncodedTensor, counts: Counts) -> None:
        """Prepare; add to `counts` what the cloud reports."""
        hello = new_hello(CUT.id, GRID.rows, name, preferred_cipher())
        session = EdgeSession(hello, CUT.network.head, HandshakeKey(INSECURE_KEY), os.urandom, time.monotonic())
        self._link = Link(cloud, session, self._on_event)
        self._encoded, self._counts = encoded, counts
        self._changed = Condition()  # connected, or not waiting any more
        self._waiting: int | None = None  # the tensor without which the next does not go
        self._sending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and begin to send."""
        await self._link.open()
        await self._changed.wait_for(lambda: self._link.session.connected)
        self._sending = asyncio.get_running_loop().create_task(self._send())

    async def stop(self) -> None:
        """Send no more, and say goodbye."""
        if self._sending:
            self._sending.cancel()
        await self._link.close()

    async def _send(self) -> None:
        while True:
            await self._changed.wait_for(lambda: self._waiting is None and self._link.session.connected)
            if (tensor := self._link.open_tensor(self._encoded, 0.0)) is not None:
                self._waiting = tensor.number
                await self._link.send(tensor)

    def _on_event(self, event: Event) -> None:
        match event:
            case Answered() | Closed() if event.tensor == self._waiting:
                self._waiting = None
        if isinstance(event, Closed):
            self._counts.tensors += 1
            self._counts.sent += self._encoded.plan.sent
            self._counts.received += event.report.received if event.report else 0
        self._changed.notify()


@contextmanager
def other_cores() -> Iterator[None]:
    """Leave the last core to the cloud for a while, where there is more than one."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores - {max(cores)} or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def resident_mb(process: Daemon) -> float:
    """Return a daemon's resident memory; 0 where the system has no /proc."""
    try:
        pages = int(Path(f"/proc/{process.process.pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def table(loads: list[Load], title: str) -> Table:
    """Lay out what each number of edges takes."""
    laid = Table(title=title, box=SIMPLE_HEAD)
    for heading in ("edges", "packets/s", "CPU us a packet", "lost", "tensors", "memory, MB"):
        laid.add_column(heading, justify="right")
    for load in loads:
        laid.add_row(
            str(load.edges),
            f"{load.packets_per_s:,.0f}",
            f"{load.cpu_us_a_packet:.2f}",
            f"{load.lost_share:.2%}",
            f"{load.tensors:,}",
            f"{load.memory_mb:.0f}",
        )
    return laid
