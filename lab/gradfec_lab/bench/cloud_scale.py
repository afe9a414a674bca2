"""`gradfec bench cloud-scale`: many synthetic edges and one cloud whose back-end answers at once."""

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
from gradfec_common.network import DEFAULT_SPLIT, split_point
from gradfec_common.packets import DEFAULT_ROWS
from gradfec_common.plan import parse_scheme
from gradfec_common.session.edge import Answered, Closed, Connected, EdgeSession, Event, new_hello
from gradfec_common.session.events import CloudLimits
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.transmit import EncodedTensor, encode_tensor, packet_grid
from gradfec_edge.link import Link
from gradfec_host.console import Endpoint, Number, plain_errors
from gradfec_host.processor import preferred_cipher
from gradfec_lab.bench.end_to_end import FASTEST, cpu_s
from gradfec_lab.bench.measure import in_words, machine

CONTEXT = {"show_default": True, "help_option_names": ["-h", "--help"]}
SPLIT = split_point(DEFAULT_SPLIT)
GRID = packet_grid(SPLIT, DEFAULT_ROWS)  # 2,048 packets
WARM_UP_S = 1.0
PATIENCE_S = 30.0
STUB = "gradfec_lab.bench.stub_cloud"


@dataclass(frozen=True)
class Load:
    """The load of a number of edges on a cloud on one core, and its cost."""

    edges: int
    packets_per_s: float  # received and reported, by wall-clock time
    cpu_us_a_packet: float  # of the cloud's process, kernel and program together
    lost_share: float  # of the datagrams sent, for lack of room in the receive buffer
    tensors: int
    memory_mb: float  # the cloud's resident memory


@dataclass
class Counts:
    """What has been reported to the edges so far."""

    tensors: int = 0
    sent: int = 0
    received: int = 0

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.tensors - other.tensors, self.sent - other.sent, self.received - other.received)


@click.command(context_settings=CONTEXT)
@click.option("--edges", default="1,2,4,8,16", metavar="NUMBERS", help="Numbers of edges; one run for each.")
@click.option("--seconds", default=5.0, type=Number(0.1, 600), help="Length of a run, after a warm-up.")
@click.option("--protect", default="none", metavar="SCHEME", help="Protection: none, or FEC_A_B.")
@click.option("--fec", default=FASTEST, metavar="CODE", help="Erasure code for FEC_A_B: zfec, leopard, zfec:256.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def cloud_scale(edges: str, seconds: float, protect: str, fec: str, as_json: bool) -> None:
    """Let edges send prepared tensors as fast as a cloud on one core takes them; its back-end is a stub.

    Each edge sends its next tensor when the last one is answered. The cloud does everything else: it regroups, decodes,
    dequantises and answers. The edges run on the other cores.
    """
    described = machine("numpy", "uvloop")
    loads = [measure(number, seconds, protect, fec) for number in numbers(edges)]
    most = max(load.packets_per_s for load in loads)  # with few edges, the cloud is idle between their tensors
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
    """Read the numbers of edges; UsageError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    most = CloudLimits().sessions
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= most for part in parts):
        raise UsageError(f"--edges {text!r}: use numbers from 1 to {most}, for example 1,4,16")
    return [int(part) for part in parts]


def measure(edges: int, seconds: float, protect: str, fec: str) -> Load:
    """Run `edges` edges with their own cloud."""
    features = np.random.default_rng(0).normal(size=SPLIT.shape).astype(np.float32)
    plan = parse_scheme(protect, fec_named(fec)).plan(np.arange(GRID.count, dtype=np.float32))
    encoded = encode_tensor(features, plan, GRID, SPLIT)
    port = free_port()
    program = (sys.executable, "-m", STUB)
    with daemon("gradfec-cloud", port, ready="listening on", program=program) as cloud, other_cores():
        load: Load = uvloop.run(flood(edges, Endpoint("127.0.0.1", port), encoded, seconds, cloud))
        return load


async def flood(edges: int, cloud: Endpoint, encoded: EncodedTensor, seconds: float, process: Daemon) -> Load:
    """Send from `edges` edges for some seconds after a warm-up; return the measurements of these seconds."""
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
    """An edge that sends one prepared tensor again and again, as soon as the last one is answered or given up."""

    def __init__(self, name: str, cloud: Endpoint, encoded: EncodedTensor, counts: Counts) -> None:
        """Add to `counts` what the cloud reports."""
        hello = new_hello(SPLIT.id, GRID.rows, name, preferred_cipher())
        session = EdgeSession(hello, HandshakeKey(INSECURE_KEY), os.urandom, time.monotonic())
        self._link = Link(cloud, session, self._on_event)
        self._encoded, self._counts = encoded, counts
        self._may_send = asyncio.Event()
        self._waiting: int | None = None  # the tensor that must be answered before the next one
        self._sending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and start to send."""
        await self._link.open()
        await self._may_send.wait()
        self._sending = asyncio.get_running_loop().create_task(self._send())

    async def stop(self) -> None:
        """Stop sending, and say goodbye."""
        if self._sending:
            self._sending.cancel()
        await self._link.close()

    async def _send(self) -> None:
        while True:
            await self._may_send.wait()
            self._may_send.clear()
            await self._link.send_tensor(self._encoded, 0.0, self._opened)

    def _opened(self, tensor: int) -> None:
        self._waiting = tensor

    def _on_event(self, event: Event) -> None:
        match event:
            case Connected():
                self._may_send.set()
            case Answered() | Closed() if event.tensor == self._waiting:
                self._waiting = None
                self._may_send.set()
        if isinstance(event, Closed):
            self._counts.tensors += 1
            self._counts.sent += self._encoded.plan.sent
            self._counts.received += event.report.received if event.report else 0


@contextmanager
def other_cores() -> Iterator[None]:
    """Leave the last core to the cloud for a while, if there are several."""
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
    """Return a daemon's resident memory; 0 if the system has no /proc."""
    try:
        pages = int(Path(f"/proc/{process.process.pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def table(loads: list[Load], title: str) -> Table:
    """Make the table of the loads."""
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
