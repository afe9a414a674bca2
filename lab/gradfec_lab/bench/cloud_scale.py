"""`gradfec bench cloud-scale`: many synthetic edges and one cloud whose back-end answers at once."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
import uvloop
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gradfec_cli.daemons import Daemon, daemon, free_port
from gradfec_cli.options import FIT, fec_option, packets_option, packets_text
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.keys import INSECURE_KEY
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.protect import UNKNOWN_LINK
from gradfec_common.session.edge import Answered, Closed, EdgeSession, Event, new_hello
from gradfec_common.session.events import CloudLimits
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.transmit import EncodedTensor
from gradfec_edge.coding import BOTTLENECK, Coding, coding_of
from gradfec_edge.condition import Condition
from gradfec_edge.link import Link
from gradfec_host.console import CONTEXT, Endpoint, Number, plain_errors
from gradfec_host.processor import preferred_cipher
from gradfec_lab.bench.end_to_end import FASTEST, cpu_s
from gradfec_lab.bench.measure import in_words, machine

CUT = named_cut(DEFAULT_CUT)
WARM_UP_S = 1.0
PATIENCE_S = 30.0
STUB = "gradfec_lab.bench.stub_cloud"


@dataclass(frozen=True)
class Load:
    """The load of a number of edges on a cloud on one core, and its cost."""

    edges: int
    frames_per_s: float
    datagrams_per_s: float  # received and reported, by wall-clock time
    cpu_us_a_datagram: float  # of the cloud's process, kernel and program together
    lost_share: float  # of the datagrams sent: the receive buffer had no room for them
    tensors: int
    memory_mb: float  # the cloud's resident memory


@dataclass
class Counts:
    """What the cloud has reported to the edges so far, in tensors and in datagrams."""

    tensors: int = 0
    sent: int = 0
    received: int = 0

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.tensors - other.tensors, self.sent - other.sent, self.received - other.received)


@click.command(context_settings=CONTEXT)
@click.option("--edges", default="1,2,4,8,16", metavar="NUMBERS", help="Numbers of edges; one run for each.")
@click.option("--seconds", default=5.0, type=Number(0.1, 600), help="Length of a run, after a warm-up.")
@click.option("--protect", default="none", metavar="POLICY", help="Protection policy.")
@fec_option(FASTEST)
@click.option("--codec", default=BOTTLENECK, metavar="NAME", help="The bottleneck, or a quantiser: uniform8, sqrt4.")
@packets_option(FIT)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def cloud_scale(
    edges: str,
    seconds: float,
    protect: str,
    fec: str,
    codec: str,
    packets_a_datagram: int | None,
    as_json: bool,
) -> None:
    """Let edges send prepared tensors as fast as a cloud on one core takes them; its back-end is a stub.

    Each edge sends its next tensor when the last one is answered. The cloud does everything else as usual: it regroups,
    decodes, dequantises and answers. The edges run on the other cores.
    """
    described = machine("numpy", "uvloop")
    coding = coding_of(CUT, None, codec, protect, fec, packets_a_datagram)
    loads = [measure(number, seconds, coding, codec) for number in numbers(edges)]
    # With few edges, the cloud is idle between their tensors.
    most, frames = max(load.datagrams_per_s for load in loads), max(load.frames_per_s for load in loads)
    packets = packets_text(packets_a_datagram)
    if as_json:
        said = {"machine": described, "seconds": seconds, "protect": protect, "fec": fec, "codec": codec}
        runs = [asdict(load) for load in loads]
        found = {
            "packets_per_datagram": packets,
            "cloud_scale": runs,
            "datagrams_per_s": {"cloud_one_core": most},
            "frames_per_s": {"cloud_one_core": frames},
        }
        click.echo(json.dumps({**said, **found}))
        return
    out = Console(highlight=False)
    out.print(in_words(described), style="dim", soft_wrap=True)
    count = f"tensors of {coding.grid.count:,} packets, {codec}, packets a datagram: {packets}"
    out.print(table(loads, f"{count}, {protect}, one core, {seconds:g} s each"))
    out.print(f"cloud_one_core: {most:,.0f} datagrams and {frames:,.0f} frames a second at the most")


def numbers(text: str) -> list[int]:
    """Read the numbers of edges; UsageError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    most = CloudLimits().sessions
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= most for part in parts):
        raise UsageError(f"--edges {text!r}: use numbers from 1 to {most}, for example 1,4,16")
    return [int(part) for part in parts]


def measure(edges: int, seconds: float, coding: Coding, codec: str) -> Load:
    """Run `edges` edges with their own cloud."""
    features = np.random.default_rng(0).normal(size=coding.cut.shape).astype(np.float32)
    encoded = coding.encode(features, np.arange(coding.grid.count, dtype=np.float32), None, UNKNOWN_LINK, map)
    port = free_port()
    program = (sys.executable, "-m", STUB)
    with daemon("gradfec-cloud", port, codec, ready="listening on", program=program) as cloud, other_cores():
        load: Load = uvloop.run(flood(edges, Endpoint("127.0.0.1", port), coding, encoded, seconds, cloud))
        return load


async def flood(
    edges: int, cloud: Endpoint, coding: Coding, encoded: EncodedTensor, seconds: float, process: Daemon
) -> Load:
    """Send from `edges` edges for some seconds after a warm-up; return the measurements of these seconds.

    GradfecError if an edge finds no cloud.
    """
    counts = Counts()
    senders = [SyntheticEdge(f"edge {n}", cloud, coding, encoded, counts) for n in range(edges)]
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
    lost = 1 - done.received / max(done.sent, 1)
    per_s = done.tensors / clock, done.received / clock
    return Load(edges, *per_s, 1e6 * cpu / max(done.received, 1), lost, done.tensors, memory)


class SyntheticEdge:
    """An edge that sends one prepared tensor again and again, as soon as the last one is answered or given up."""

    def __init__(self, name: str, cloud: Endpoint, coding: Coding, encoded: EncodedTensor, counts: Counts) -> None:
        """Add to `counts` what the cloud reports."""
        hello = new_hello(coding.cut, coding.grid.rows, name, preferred_cipher())
        session = EdgeSession(hello, coding.cut.network.head, HandshakeKey(INSECURE_KEY), os.urandom, time.monotonic())
        self._link = Link(cloud, session, self._on_event)
        # a copy, because each edge writes its own numbers into it
        self._encoded, self._counts = replace(encoded, unnumbered=encoded.unnumbered.copy()), counts
        self._changed = Condition()  # notified at each event
        self._waiting: int | None = None  # the tensor that must be answered before the next is sent
        self._sending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and start sending."""
        await self._link.open()
        await self._changed.wait_for(lambda: self._link.session.connected)
        self._sending = asyncio.get_running_loop().create_task(self._send())

    async def stop(self) -> None:
        """Stop sending, and say goodbye."""
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
    for heading in ("edges", "frames/s", "datagrams/s", "CPU us a datagram", "lost", "tensors", "memory, MB"):
        laid.add_column(heading, justify="right")
    for load in loads:
        laid.add_row(
            str(load.edges),
            f"{load.frames_per_s:,.0f}",
            f"{load.datagrams_per_s:,.0f}",
            f"{load.cpu_us_a_datagram:.2f}",
            f"{load.lost_share:.2%}",
            f"{load.tensors:,}",
            f"{load.memory_mb:.0f}",
        )
    return laid
