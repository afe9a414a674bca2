"""`gradfec bench packet-path`: what one tensor costs between the two networks, stage by stage, on both sides."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import click
import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from gradfec_common import wire
from gradfec_common.codes import BARE, CODES, Each, ErasureCode
from gradfec_common.keys import INSECURE_KEY
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.packets import DEFAULT_ROWS
from gradfec_common.plan import UnequalProtection
from gradfec_common.quantise import quantise
from gradfec_common.reassembly import decode_tensor
from gradfec_common.replay import Verdicts
from gradfec_common.seal import Opener
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import EdgeLimits, EdgeSession, new_hello
from gradfec_common.session.events import Decided
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.transmit import encode_packets, packet_grid
from gradfec_edge.importance.free import FREE
from gradfec_host.console import Number, plain_errors
from gradfec_host.processor import preferred_cipher
from gradfec_host.runtimes import choose_runtime, cores
from gradfec_host.weights import ensure_weights
from gradfec_host.weights.progress import show_progress
from gradfec_lab.bench.measure import in_words, machine
from gradfec_lab.bench.models import Run, fastest_runtime, part_of
from gradfec_lab.bench.udp import Loopback, loopback

CONTEXT = {"show_default": True, "help_option_names": ["-h", "--help"]}
LIBRARIES = ("numpy", "zfec", "reed-solomon-leopard", "cryptography")
UNHURRIED = EdgeLimits(lost_after_s=math.inf)  # nobody answers the edge
DEADLINE_S = 0.25  # of the cloud's core, to which each tensor comes within no time
EDGE = ("quantise", "score by activation", "plan", "encode", "headers", "send")
HALVES = ("front-end", "back-end")
CLOUD = ("receive", "regroup", "decode, dequantise, fill")
SEAL, OPEN = "seal", "open"  # what it costs that nobody can read, forge or repeat: told apart from the rest

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

    def __init__(
        self, code: ErasureCode, drop_percent: float, loss: float, way: Loopback, each: Each, rows: int = DEFAULT_ROWS
    ) -> None:
        """Protect by FEC_A_B with A = `drop_percent`; lose the share `loss` of each tensor's datagrams.

        `each` codes the blocks; a packet has `rows` rows.
        """
        self.cut = named_cut(DEFAULT_CUT)
        self.grid = packet_grid(self.cut, rows)
        self.scheme = UnequalProtection(drop_percent, code)
        self.loss, self.way, self.each = loss, way, each
        self.rng = np.random.default_rng(0)
        self.chi = self.rng.normal(size=self.cut.shape).astype(np.float32)
        self.image = np.zeros(self.cut.network.input.shape, np.uint8)  # which activation does not look at
        self.activation = FREE["activation"](self.cut, self.grid, self.rng)
        key, now_s = HandshakeKey(INSECURE_KEY), 0.0
        self.cloud = CloudSessions(self.cut, DEADLINE_S, {key.id: key}, os.urandom)
        hello = new_hello(self.cut.id, rows, "bench", preferred_cipher())
        self.edge = EdgeSession(hello, self.cut.network.head, key, os.urandom, now_s, UNHURRIED)
        self.tensors = 0
        self._connect()

    def _connect(self) -> None:
        """Open a session for the address that the datagrams will come from."""
        self.edge.handle_timer(0.0)
        for _ in range(2):  # hello and welcome, then the question that shows that the edge has heard it
            for datagram in self.edge.datagrams_to_send():
                self.way.send(np.frombuffer(datagram, np.uint8)[None])
                for batch in self.way.receive(1):
                    self.cloud.receive(batch, 0.0)
            answers = [datagram for datagram, _ in self.cloud.datagrams_to_send()]
            self.edge.receive(wire.batch_of(answers, [None] * len(answers)), 0.0)
        assert self.edge.connected  # noqa: S101

    def run(self) -> Stages:
        """Take one tensor from features to features; return what each stage took."""
        stages = Stages()
        sent = self._encode(stages)
        for part in self._parts(sent):
            with stages.time("send"):
                self.way.send(part)
            for _ in self.way.receive(len(part)):
                pass
        for part in self._parts(sent[self.rng.random(len(sent)) >= self.loss]):
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
            encoded = encode_packets(packets, plan, self.grid, self.cut, self.each)
        with stages.time("headers"):
            number, bodies = self.edge.open_tensor(encoded, float(self.tensors))
        with stages.time(SEAL):
            datagrams = self.edge.seal(number, bodies)
        assert datagrams is not None  # noqa: S101
        return datagrams

    def _take(self, count: int, stages: Stages) -> None:
        batches = self.way.receive(count)
        while True:
            with stages.time("receive"):
                batch = next(batches, None)
            if batch is None:
                return
            before = stages.get(OPEN, np.zeros(2))
            with timed_opening(stages), stages.time("regroup"):
                self.cloud.receive(batch, self.tensors)  # one a second
            stages["regroup"] = stages["regroup"] - stages[OPEN] + before

    def _decode(self, stages: Stages) -> None:
        """Decode the tensor, whole or not: let the deadline pass."""
        self.cloud.handle_timer(self.tensors + DEADLINE_S)
        self.cloud.datagrams_to_send()  # reports, for nobody
        self.edge.handle_timer(self.tensors + DEADLINE_S)
        while (event := self.cloud.next_event()) is not None:
            if isinstance(event, Decided):
                with stages.time("decode, dequantise, fill"):
                    decode_tensor(event.arrived, each=self.each)
                self.cloud.fail(event)  # no back-end, no answer


@contextmanager
def timed_opening(stages: Stages) -> Iterator[None]:
    """Tell the opening of datagrams apart from what the cloud does with them."""
    opening = Opener.open

    def timed(self: Opener, datagrams: wire.Bytes) -> tuple[wire.Bytes, Verdicts]:
        with stages.time(OPEN):
            return opening(self, datagrams)

    Opener.open = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        Opener.open = opening  # type: ignore[method-assign]


@click.command(context_settings=CONTEXT)
@click.option("--drop", default=50.0, type=Number(1, 99), help="A of FEC_A_B, in percent.")
@click.option("--loss", default=30.0, type=Number(0, 99), help="Datagrams that are lost, in percent.")
@click.option("--rows", default=DEFAULT_ROWS, type=click.IntRange(1, 255), help="Rows of a channel in one packet.")
@click.option("--runs", default=15, type=click.IntRange(1), help="Runs after the warm-up; the median counts.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def packet_path(drop: float, loss: float, rows: int, runs: int, as_json: bool) -> None:
    """Time each stage between front-end and back-end, for one tensor, by default of 2,048 packets.

    Blocks are coded in one thread for each core, as in the daemons; CPU time is that of all threads. The codes and the
    two halves of the network take turns at each run, so that they meet the same machine. All datagrams are sent for the
    time of the edge, and those that are not lost for the cloud's. Beside them, what sealing and opening take.
    """
    described = machine(*LIBRARIES)
    choose_runtime()  # fail now where there is none
    cut = named_cut(DEFAULT_CUT)
    packet_grid(cut, rows)  # fail now
    with show_progress() as progress:
        weights = ensure_weights(cut.network, None, progress)
    runtimes = {part: fastest_runtime(part, weights) for part in HALVES}
    halves = {part: part_of(part, runtime, weights) for part, runtime in runtimes.items()}
    found, ms = measure(drop, loss / 100, runs, halves, rows)
    sides = {name: both_sides(stages) for name, stages in found.items()}
    ratios = {f"edge_path_{name}": side["edge"]["sum"]["ms"] / ms["front-end"] for name, side in sides.items()}
    ratios["cloud_path"] = min(side["cloud"]["sum"]["ms"] for side in sides.values()) / ms["back-end"]
    if as_json:
        said = {"machine": described, "drop_percent": drop, "loss_percent": loss, "rows": rows, "runs": runs}
        said["packet_path"] = sides
        said["fastest_ms"] = {part: {"ms": ms[part], "runtime": runtime} for part, runtime in runtimes.items()}
        click.echo(json.dumps({**said, "ratios": ratios}))
        return
    out = Console(highlight=False)
    out.print(in_words(described), style="dim", soft_wrap=True)
    out.print(
        table(found, f"one tensor, FEC_{drop:g}_{100 - drop:g}, {loss:g} % lost, {rows} rows, median of {runs} runs")
    )
    for part, runtime in runtimes.items():
        out.print(f"{part}, one image: {ms[part]:.1f} ms by {runtime}")
    for name, ratio in ratios.items():
        out.print(f"{name}: {ratio:.2f} of the {'back-end' if name == 'cloud_path' else 'front-end'}'s time")


def measure(
    drop_percent: float, loss: float, runs: int, halves: Mapping[str, Run], rows: int
) -> tuple[dict[str, Stages], dict[str, float]]:
    """Run every erasure code's packet path, and the halves of the network, `runs` times in turn after a warm-up.

    Return the median of each stage, by code, and those of the halves in milliseconds.
    """
    codes = [code for code in CODES.values() if code is not BARE]
    each: dict[str, list[Stages]] = {code.name: [] for code in codes}
    taken: dict[str, list[float]] = {part: [] for part in halves}
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1, user_api="blas"))  # as in the edge
        ways = [stack.enter_context(loopback(batched=True)) for _ in codes]
        each_block = stack.enter_context(ThreadPoolExecutor(cores(), "coder")).map
        paths = [
            PacketPath(code, drop_percent, loss, way, each_block, rows) for code, way in zip(codes, ways, strict=True)
        ]
        for _ in range(1 + runs):
            for code, path in zip(codes, paths, strict=True):
                each[code.name].append(path.run())
            for part, half in halves.items():
                start = time.perf_counter()
                half()
                taken[part].append(1000 * (time.perf_counter() - start))
    medians = {
        name: Stages({stage: np.median([run[stage] for run in of_code[1:]], axis=0) for stage in of_code[0]})
        for name, of_code in each.items()
    }
    return medians, {part: float(np.median(ms[1:])) for part, ms in taken.items()}


def both_sides(stages: Stages) -> dict[str, dict[str, dict[str, float]]]:
    """Return the stages of each side with their sum, and beside it what sealing takes, or opening."""
    return {
        "edge": as_ms(stages, EDGE) | as_ms(stages, [SEAL], summed=False),
        "cloud": as_ms(stages, CLOUD) | as_ms(stages, [OPEN], summed=False),
    }


def as_ms(stages: Stages, names: Sequence[str], *, summed: bool = True) -> dict[str, dict[str, float]]:
    """Return stages and their sum, in milliseconds of the clock and of CPU time."""
    both = {name: stages[name] for name in names}
    if summed:
        both["sum"] = np.sum([*both.values()], axis=0)
    return {name: {"ms": 1000 * clock, "cpu_ms": 1000 * cpu} for name, (clock, cpu) in both.items()}


def table(found: dict[str, Stages], title: str) -> Table:
    """Lay out what each stage takes with each code."""
    laid = Table(title=title, box=SIMPLE_HEAD)
    laid.add_column("stage")
    for code in found:
        laid.add_column(f"{code}, ms", justify="right")
        laid.add_column("CPU ms", justify="right")
    columns = [both_sides(stages) for stages in found.values()]
    for side in ("edge", "cloud"):
        for stage in columns[0][side]:
            cells = [f"{column[side][stage][unit]:.2f}" for column in columns for unit in ("ms", "cpu_ms")]
            last = stage in (SEAL, OPEN)
            laid.add_row(f"{side}: {stage}{', not in the sum' if last else ''}", *cells, end_section=last)
    return laid
