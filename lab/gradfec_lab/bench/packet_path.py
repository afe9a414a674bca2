"""`gradfec bench packet-path`: what one tensor costs between the two networks, stage by stage, on both sides."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import click
import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gradfec_common import wire
from gradfec_common.codes import BARE, CODES, Each, ErasureCode
from gradfec_common.console import Number, plain_errors
from gradfec_common.network import DEFAULT_SPLIT, split_point
from gradfec_common.packets import DEFAULT_ROWS
from gradfec_common.plan import UnequalProtection
from gradfec_common.quantise import quantise
from gradfec_common.reassembly import decode_tensor
from gradfec_common.runtimes import choose_runtime, cores
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.events import Decided, SessionOpened
from gradfec_common.transmit import encode_packets, packet_grid
from gradfec_common.weights import ensure_weights
from gradfec_common.weights.progress import show_progress
from gradfec_edge.importance.free import FREE
from gradfec_lab.bench.measure import in_words, machine
from gradfec_lab.bench.models import fastest_ms
from gradfec_lab.bench.udp import Loopback, loopback

CONTEXT = {"show_default": True, "help_option_names": ["-h", "--help"]}
LIBRARIES = ("numpy", "zfec", "reed-solomon-leopard")
DEADLINE_S = 0.25  # of the cloud's core, to which each tensor comes within no time
EDGE = ("quantise", "score by activation", "plan", "encode", "headers, checksums", "send")
CLOUD = ("receive", "regroup", "decode, dequantise, fill")

Seconds = npt.NDArray[np.float64]  # (2,): of the clock, and of CPU time, all threads together


class Stages(dict[str, Seconds]):
    """What each stage of one tensor took."""

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add what a block of code takes to a stage."""
        start = now()
        yield
        self[stage] = self.get(stage, np.zeros(2)) + now() - start


def now() -> Seconds:
    """Return time of the clock and CPU time of this process."""
    return np.array([time.perf_counter(), time.process_time()])


class PacketPath:
    """Both sides of the packet path for one code, joined by the loopback interface."""

    def __init__(self, code: ErasureCode, drop_percent: float, loss: float, way: Loopback, each: Each) -> None:
        """Protect by FEC_A_B with A = `drop_percent`; lose the share `loss` of each tensor's datagrams.

        `each` codes the blocks.
        """
        self.split = split_point(DEFAULT_SPLIT)
        self.grid = packet_grid(self.split, DEFAULT_ROWS)
        self.scheme = UnequalProtection(drop_percent, code)
        self.loss, self.way, self.each = loss, way, each
        self.rng = np.random.default_rng(0)
        self.chi = self.rng.normal(size=self.split.shape).astype(np.float32)
        self.image = np.zeros((224, 224, 3), np.uint8)  # which activation does not look at
        self.activation = FREE["activation"](self.split, self.grid, self.rng)
        self.cloud = CloudSessions(self.split, DEADLINE_S, self.rng)
        self.session = self._connect()
        self.tensors = 0

    def _connect(self) -> int:
        """Open a session for the address that the datagrams will come from, and return its number."""
        hello = wire.control_datagram(0, wire.Hello(1, self.split.id, DEFAULT_ROWS, "bench"))
        self.way.send(np.frombuffer(hello, np.uint8)[None])
        for batch in self.way.receive(1):
            self.cloud.receive(batch, 0.0)
        opened = self.cloud.next_event()
        assert isinstance(opened, SessionOpened)  # noqa: S101
        return opened.session

    def run(self) -> Stages:
        """Take one tensor from features to features; return what each stage took."""
        stages = Stages()
        datagrams = self._encode(stages)
        for part in self._parts(datagrams):
            with stages.time("send"):
                self.way.send(part)
            for _ in self.way.receive(len(part)):
                pass
        for part in self._parts(datagrams[self.rng.random(len(datagrams)) >= self.loss]):
            self.way.send(part)
            self._take(len(part), stages)
        self._decode(stages)
        self.tensors += 1
        return stages

    def _parts(self, datagrams: wire.Bytes) -> Iterator[wire.Bytes]:
        """Cut up what the receive buffer may not have room for."""
        for at in range(0, len(datagrams), self.way.room):
            yield datagrams[at : at + self.way.room]

    def _encode(self, stages: Stages) -> wire.Bytes:
        with stages.time("quantise"):
            quantised = quantise(self.chi)
            packets = quantised._replace(levels=self.grid.split(quantised.levels))
        with stages.time("score by activation"):
            scores = self.activation(self.image, self.chi)
        with stages.time("plan"):
            plan = self.scheme.plan(scores)
        with stages.time("encode"):
            encoded = encode_packets(packets, plan, self.grid, self.split, self.each)
        with stages.time("headers, checksums"):
            return encoded.datagrams(self.session, self.tensors)

    def _take(self, count: int, stages: Stages) -> None:
        batches = self.way.receive(count)
        while True:
            with stages.time("receive"):
                batch = next(batches, None)
            if batch is None:
                return
            with stages.time("regroup"):
                self.cloud.receive(batch, self.tensors)  # one a second

    def _decode(self, stages: Stages) -> None:
        """Decode the tensor, whole or not: let the deadline pass."""
        self.cloud.handle_timer(self.tensors + DEADLINE_S)
        self.cloud.datagrams_to_send()  # reports, for nobody
        while (event := self.cloud.next_event()) is not None:
            if isinstance(event, Decided):
                with stages.time("decode, dequantise, fill"):
                    decode_tensor(event.arrived, each=self.each)
                self.cloud.fail(event)  # no back-end, no answer


@click.command(context_settings=CONTEXT)
@click.option("--drop", default=50.0, type=Number(1, 99), help="A of FEC_A_B, in percent.")
@click.option("--loss", default=30.0, type=Number(0, 99), help="Datagrams that are lost, in percent.")
@click.option("--runs", default=15, type=click.IntRange(1), help="Runs after the warm-up; the median counts.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def packet_path(drop: float, loss: float, runs: int, as_json: bool) -> None:
    """Time each stage between front-end and back-end, for one tensor of 2,048 packets.

    Blocks are coded in one thread for each core, as in the daemons; CPU time is that of all threads. The codes take
    turns at each run, so that they meet the same machine. All datagrams are sent for the time of the edge, and those
    that are not lost for the cloud's. Beside them, the time of either half of the network.
    """
    described = machine(*LIBRARIES)
    choose_runtime()  # fail now where there is none
    with show_progress() as progress:
        weights = ensure_weights(None, progress)
    found = measure(drop, loss / 100, runs)
    halves = {part: fastest_ms(part, weights, runs) for part in ("front-end", "back-end")}
    sides = {name: {"edge": as_ms(found[name], EDGE), "cloud": as_ms(found[name], CLOUD)} for name in found}
    ratios = {f"edge_path_{name}": side["edge"]["sum"]["ms"] / halves["front-end"][0] for name, side in sides.items()}
    fastest = min(side["cloud"]["sum"]["ms"] for side in sides.values())
    ratios["cloud_path"] = fastest / halves["back-end"][0]
    if as_json:
        said = {"machine": described, "drop_percent": drop, "loss_percent": loss, "runs": runs, "packet_path": sides}
        said["fastest_ms"] = {part: {"ms": ms, "runtime": runtime} for part, (ms, runtime) in halves.items()}
        click.echo(json.dumps({**said, "ratios": ratios}))
        return
    out = Console(highlight=False)
    out.print(in_words(described), style="dim", soft_wrap=True)
    out.print(table(found, f"one tensor, FEC_{drop:g}_{100 - drop:g}, {loss:g} % lost, median of {runs} runs"))
    for part, (ms, runtime) in halves.items():
        out.print(f"{part}, one image: {ms:.1f} ms by {runtime}")
    for name, ratio in ratios.items():
        out.print(f"{name}: {ratio:.2f} of the {'back-end' if name == 'cloud_path' else 'front-end'}'s time")


def measure(drop_percent: float, loss: float, runs: int) -> dict[str, Stages]:
    """Run every erasure code's packet path `runs` times after a warm-up; return the median of each stage, by code."""
    codes = [code for code in CODES.values() if code is not BARE]
    each: dict[str, list[Stages]] = {code.name: [] for code in codes}
    with ExitStack() as stack:
        ways = [stack.enter_context(loopback(batched=True)) for _ in codes]
        each_block = stack.enter_context(ThreadPoolExecutor(cores(), "coder")).map
        paths = [PacketPath(code, drop_percent, loss, way, each_block) for code, way in zip(codes, ways, strict=True)]
        for _ in range(1 + runs):
            for code, path in zip(codes, paths, strict=True):
                each[code.name].append(path.run())
    return {
        name: Stages({stage: np.median([run[stage] for run in of_code[1:]], axis=0) for stage in (*EDGE, *CLOUD)})
        for name, of_code in each.items()
    }


def as_ms(stages: Stages, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the stages of a side and their sum, in milliseconds of the clock and of CPU time."""
    both = {name: stages[name] for name in names}
    both["sum"] = np.sum([*both.values()], axis=0)
    return {name: {"ms": 1000 * clock, "cpu_ms": 1000 * cpu} for name, (clock, cpu) in both.items()}


def table(found: dict[str, Stages], title: str) -> Table:
    """Lay out what each stage takes with each code."""
    laid = Table(title=title, box=SIMPLE_HEAD)
    laid.add_column("stage")
    for code in found:
        laid.add_column(f"{code}, ms", justify="right")
        laid.add_column("CPU ms", justify="right")
    for side, names in (("edge", EDGE), ("cloud", CLOUD)):
        columns = [as_ms(stages, names) for stages in found.values()]
        for stage in (*names, "sum"):
            cells = [f"{column[stage][unit]:.2f}" for column in columns for unit in ("ms", "cpu_ms")]
            laid.add_row(f"{side}: {stage}", *cells, end_section=stage == "sum")
    return laid
