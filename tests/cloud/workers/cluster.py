"""A gateway with 16 edges and a real Ray cluster on this machine, a head and two machines besides, each of processes.

python -m tests.cloud.workers.cluster latency      what workers elsewhere cost a frame
python -m tests.cloud.workers.cluster throughput   frames a second with 1, 2 and 4 of them
python -m tests.cloud.workers.cluster accidents    workers, machines and heads that die or hang, under load
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import uvloop

from gradfec_cli.daemons import Daemon, daemon, free_port
from gradfec_cloud.workers.pool import Lost
from gradfec_common.keys import INSECURE_KEY
from gradfec_common.protect import UNKNOWN_LINK
from gradfec_common.session.edge import Answered, Closed, EdgeSession, Event, new_hello
from gradfec_common.session.handshake import HandshakeKey
from gradfec_edge.link import Link
from gradfec_host.console import Endpoint
from gradfec_host.processor import preferred_cipher

from .stub import coding

ROOT = Path(__file__).resolve().parents[3]
EDGES, WORKERS = 16, 4
STORE_BYTES = 80 * 2**20
PATIENCE_S = 90.0
LATE_S = 0.5  # a frame that took longer was held up


# --- the cluster ---


class Machines:
    """A head without room for workers, and machines that have some."""

    def __init__(self, machines: int, cpus: int) -> None:
        """Start them."""
        from ray.cluster_utils import Cluster

        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._machines, self._cpus = machines, cpus
        self._of = lambda **head: Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES, **head}
        )
        self.cluster = self._of()
        self.address = str(self.cluster.address)
        self.machines = [self.add() for _ in range(machines)]

    def add(self) -> Any:
        """Add a machine."""
        return self.cluster.add_node(num_cpus=self._cpus, object_store_memory=STORE_BYTES)

    def kill(self, machine: Any) -> None:
        """Kill a machine's processes; its workers end when they notice."""
        self.cluster.remove_node(machine, allow_graceful=False)

    def restart(self) -> None:
        """Start a head at the same address, and the machines again, as their supervisors would."""
        for machine in self.machines:
            self.kill(machine)
        self.cluster = self._of(gcs_server_port=int(self.address.rsplit(":", 1)[1]))
        self.machines = [self.add() for _ in range(self._machines)]


@contextmanager
def machines(count: int = 2, cpus: int = 2) -> Iterator[Machines]:
    """Run a cluster."""
    made = Machines(count, cpus)
    try:
        yield made
    finally:
        made.cluster.shutdown()


# --- the edges ---


@dataclass
class Frame:
    """A frame that was sent."""

    at: float
    took_s: float | None = None  # None while, or because, it has no answer
    stages_ms: Mapping[str, float] = field(default_factory=dict)  # at the gateway, by name
    closed: bool = False


@dataclass
class Frames:
    """All frames of all edges."""

    all: list[Frame] = field(default_factory=list)

    def since(self, start: float) -> list[Frame]:
        """Return those that were sent since a time."""
        return [frame for frame in self.all if frame.at >= start]


class Camera:
    """An edge that sends one prepared frame again and again: so many a second, or `at_once` at any time."""

    def __init__(self, name: str, cloud: Endpoint, frames: Frames, a_second: float | None, at_once: int = 1) -> None:
        self._coding = coding()
        rng = np.random.default_rng(0)
        features = rng.laplace(0, 1, self._coding.cut.shape).astype(np.float32)
        scores = np.arange(self._coding.grid.count, dtype=np.float32)
        self._encoded = self._coding.encode(features, scores, None, UNKNOWN_LINK, map)
        hello = new_hello(self._coding.cut, self._coding.grid.rows, name, preferred_cipher())
        key = HandshakeKey(INSECURE_KEY)
        session = EdgeSession(hello, self._coding.cut.network.head, key, os.urandom, time.monotonic())
        self.link = Link(cloud, session, self._on_event)
        self._frames, self._a_second = frames, a_second
        self._open: dict[int, Frame] = {}
        self._room = asyncio.Semaphore(at_once if a_second is None else 1000)

    async def run(self) -> None:
        """Send for ever."""
        await self.link.open()
        start = time.monotonic() + np.random.default_rng().random() / (self._a_second or 1)
        for number in itertools.count():
            await self._room.acquire()
            if self._a_second is not None:
                await asyncio.sleep(max(start + number / self._a_second - time.monotonic(), 0))
            while (tensor := self.link.open_tensor(replace_of(self._encoded), 0.0)) is None:
                await asyncio.sleep(0.01)
            self._open[tensor.number] = frame = Frame(time.monotonic())
            self._frames.all.append(frame)
            await self.link.send(tensor)

    def _on_event(self, event: Event) -> None:
        match event:
            case Answered():
                frame = self._open[event.tensor]
                frame.took_s, frame.stages_ms = time.monotonic() - frame.at, event.result.stages_ms
                self._room.release()
            case Closed():
                frame = self._open.pop(event.tensor)
                frame.closed = True
                if frame.took_s is None:
                    self._room.release()


def replace_of(encoded: Any) -> Any:
    """Return a copy into which an edge writes its own numbers."""
    return replace(encoded, unnumbered=encoded.unnumbered.copy())


@asynccontextmanager
async def cameras(port: int, a_second: float | None, at_once: int = 1) -> AsyncIterator[Frames]:
    """Run 16 edges; at the end, wait until each of their frames has its fate."""
    frames = Frames()
    made = [Camera(f"edge {n}", Endpoint("127.0.0.1", port), frames, a_second, at_once) for n in range(EDGES)]
    tasks = [asyncio.create_task(one.run()) for one in made]
    try:
        yield frames
    finally:
        for task in tasks:
            task.cancel()
        for one in made:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(one.link.until_all_closed(), 10)
            await one.link.close()


# --- the gateway ---


@dataclass
class Gateway:
    """The daemon, and its metrics."""

    process: Daemon
    port: int
    metrics: int

    def read(self, name: str) -> float:
        """Return a metric."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        found = re.search(rf"^gradfec_cloud_{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    @property
    def workers(self) -> float:
        """How many can work."""
        return self.read('workers{state="ready"}')

    def why_not_ready(self) -> str:
        """Return what /readyz says, or nothing if it is ready."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/readyz", timeout=5):
                return ""
        except urllib.error.HTTPError as error:
            return error.read().decode().strip()


@contextmanager
def gateway(workers: int, address: str | None, takes_ms: float, *options: str) -> Iterator[Gateway]:
    """Run a gateway with so many workers of a cluster, or a local one."""
    port, metrics = free_port(), free_port()
    given = ["--workers", "ray", "--ray-address", address, "--min-workers", workers] if address else []
    program = (sys.executable, "-m", "tests.cloud.workers.gateway")
    words = [*map(str, given), *options]
    with daemon(
        "gradfec-cloud", port, metrics, "--takes-ms", takes_ms, *words, ready="listening on", program=program
    ) as process:
        made = Gateway(process, port, metrics)
        until(lambda: made.workers >= workers, PATIENCE_S)
        yield made


def until(so: Callable[[], object], within_s: float) -> float:
    """Wait until something is so; return how long that took."""
    start = time.monotonic()
    while not so():
        if time.monotonic() > start + within_s:
            raise click.ClickException("it does not happen")
        time.sleep(0.05)
    return time.monotonic() - start


def ms(frames: list[Frame], share: float) -> float:
    """Return a quantile of what frames took, in milliseconds."""
    return 1000 * float(np.quantile([frame.took_s for frame in frames if frame.took_s is not None], share))


@contextmanager
def in_background(port: int, fps: float) -> Iterator[Frames]:
    """Run the edges on a thread: Ray's clusters must be changed on the main one."""
    going: list[tuple[Frames, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def go() -> None:
        async with cameras(port, fps) as frames:
            going.append((frames, asyncio.get_running_loop(), asyncio.Event()))
            await going[0][2].wait()

    thread = threading.Thread(target=asyncio.run, args=[go()])
    thread.start()
    until(lambda: going, PATIENCE_S)
    frames, loop, end = going[0]
    try:
        yield frames
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()


def a_worker(made: Gateway) -> int:
    """Return the process of the worker that was ready last."""
    (line,) = [line for line in made.process.said if "is ready" in line][-1:]
    return int(re.findall(r"process (\d+)", line)[0])


def released(made: Gateway) -> int:
    """Return how many batches were leased again so far."""
    return round(sum(made.read(f'batches_released_total{{reason="{one.value}"}}') for one in Lost))


def undergo(frames: Frames, made: Gateway, name: str, act: Callable[[], object], after: Callable[[], object]) -> None:
    """Let something happen, see to it after 10 s, and wait until all is well again."""
    click.echo(f"--- {name}")
    start, before = time.monotonic(), released(made)
    act()
    time.sleep(10)
    said = made.why_not_ready()
    after()
    try:
        until(lambda: made.workers >= WORKERS, PATIENCE_S)
    except click.ClickException:
        click.echo("\n".join(made.process.said))
        raise
    well_s = time.monotonic() - start
    time.sleep(3)
    sent = [frame for frame in frames.since(start) if frame.at < time.monotonic() - 2.5]
    missing = [frame for frame in sent if frame.took_s is None]
    late = [frame for frame in sent if frame.took_s is None or frame.took_s > LATE_S]
    last = max((frame.at + (frame.took_s or 2.0) - start for frame in late), default=0.0)
    click.echo(f"{len(sent)} frames, {len(missing)} without an answer, {len(late)} of them or late, until {last:.1f} s")
    click.echo(
        f"p50 {ms(sent, 0.5):.1f} ms, p99 {ms(sent, 0.99):.1f} ms; {released(made) - before} batches leased again"
    )
    click.echo(f"/readyz after 10 s: {said or 'ready'}; all workers ready after {well_s:.1f} s")


def stages(frames: list[Frame]) -> str:
    """Return the medians of the gateway's stages; what is not in them is the edge's, and on the way."""
    names = [*frames[0].stages_ms]
    medians = (np.median([frame.stages_ms[name] for frame in frames]) for name in names)
    return ", ".join(f"{name} {median:.2f}" for name, median in zip(names, medians, strict=True))


# --- the commands ---


@click.group()
def main() -> None:
    """Measure, and break things."""


@main.command()
@click.option("--seconds", default=30.0)
@click.option("--fps", default=2.0, help="Of each edge.")
@click.option("--rounds", default=3)
def latency(seconds: float, fps: float, rounds: int) -> None:
    """Compare two workers of a cluster with local ones; the back-end takes no time."""

    async def measure(port: int) -> list[Frame]:
        async with cameras(port, fps) as frames:
            await asyncio.sleep(3)
            start = time.monotonic()
            await asyncio.sleep(seconds)
        return frames.since(start)

    with machines() as here:
        for _ in range(rounds):
            floor = [sys.executable, "-m", "tests.cloud.workers.floor", here.address]
            click.echo(f"Ray alone: {subprocess.run(floor, capture_output=True, text=True, check=True).stdout.strip()}")
            for name, address in (("local", None), ("ray", here.address)):
                with gateway(1 if address is None else 2, address, 0.0) as made:
                    found = uvloop.run(measure(made.port))
                    made.process.totals()
                answered = [frame for frame in found if frame.took_s is not None]
                click.echo(
                    f"{name:6} {len(found)} frames, {len(found) - len(answered)} without an answer: "
                    f"p50 {ms(answered, 0.5):.2f} ms, p99 {ms(answered, 0.99):.2f} ms ({stages(answered)})"
                )


@main.command()
@click.option("--seconds", default=15.0)
@click.option("--counts", default="1,2,4")
def throughput(seconds: float, counts: str) -> None:
    """Count frames a second with so many workers, whose back-end takes 20 ms for a frame; 16 edges, 2 frames each."""

    async def measure(port: int) -> float:
        async with cameras(port, None, at_once=2) as frames:
            await asyncio.sleep(3)
            start = time.monotonic()
            await asyncio.sleep(seconds)
            end = time.monotonic()
        done = [frame.at + frame.took_s for frame in frames.all if frame.took_s is not None]
        return sum(start <= at < end for at in done) / (end - start)

    with machines() as here:
        base = 0.0
        for count in map(int, counts.split(",")):
            with gateway(count, here.address, 20.0) as made:
                found = uvloop.run(measure(made.port))
                made.process.totals()
            base = base or found / count
            click.echo(f"{count} workers: {found:.1f} frames a second, {found / (base * count):.2f} of linear")


@main.command()
@click.option("--fps", default=1.0, help="Of each edge.")
@click.option("--fallback/--no-fallback", default=False)
@click.option("--only", default="nothing,killed,stopped,machine,head")
def accidents(fps: float, fallback: bool, only: str) -> None:
    """Let things happen to four workers of 20 ms, and say what became of the frames."""
    with machines() as here, gateway(WORKERS, here.address, 20.0, *["--local-fallback"] * fallback) as made:
        pid = 0

        def stop() -> None:
            nonlocal pid
            os.kill(pid := a_worker(made), signal.SIGSTOP)

        stories: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "nothing": (lambda: None, lambda: None),
            "killed": (lambda: os.kill(a_worker(made), signal.SIGKILL), lambda: None),
            "stopped": (stop, lambda: os.kill(pid, signal.SIGCONT)),
            "machine": (lambda: here.kill(here.machines.pop()), lambda: here.machines.append(here.add())),
            "head": (lambda: here.kill(here.cluster.head_node), here.restart),
        }
        with in_background(made.port, fps) as frames:
            time.sleep(5)
            for name in only.split(","):
                undergo(frames, made, name, *stories[name])
        tensors = made.process.totals()["tensors"]
        fates = {fate: count for fate, count in tensors.items() if count and fate != "opened"}
        click.echo(f"fates at the gateway: {fates}, of {tensors['opened']} opened")
        if sum(fates.values()) != tensors["opened"]:
            raise click.ClickException("a frame without a fate, or with two")


if __name__ == "__main__":
    main()
