"""`gradfec bench packet-path`: what one tensor costs between front-end and back-end, stage by stage."""

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

from gradfec_cli.options import packets_option, packets_text
from gradfec_common import wire
from gradfec_common.codes import BARE, CODES, Each
from gradfec_common.conceal import make_concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.keys import INSECURE_KEY
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.packets import DEFAULT_ROWS, PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, UnequalProtection
from gradfec_common.quantisers import chosen_quantiser
from gradfec_common.replay import Verdicts
from gradfec_common.seal import Opener
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import EdgeLimits, EdgeSession, new_hello
from gradfec_common.session.events import Decided
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.transmit import encode_tensor
from gradfec_edge.coding import Coding
from gradfec_edge.importance.free import FREE
from gradfec_host.console import CONTEXT, Number, plain_errors
from gradfec_host.processor import preferred_cipher
from gradfec_host.runtimes import choose_runtime, cores
from gradfec_host.weights import ensure_weights
from gradfec_host.weights.progress import show_progress
from gradfec_lab.bench.measure import in_words, machine
from gradfec_lab.bench.models import Run, fastest_runtime, part_of
from gradfec_lab.bench.udp import Loopback, loopback

LIBRARIES = ("numpy", "zfec", "reed-solomon-leopard", "cryptography")
UNHURRIED = EdgeLimits(lost_after_s=math.inf)  # the edge gets no answers
DEADLINE_S = 0.25  # of the cloud's core; each tensor arrives in no time
EDGE = ("quantise", "score by activation", "plan", "encode", "headers", "send")
HALVES = ("front-end", "back-end")
CLOUD = ("receive", "regroup", "decode, dequantise, fill")
SEAL, OPEN = "seal", "open"  # encryption, shown separately

Seconds = npt.NDArray[np.float64]  # (2,): wall-clock time, and CPU time of all threads


class Stages(dict[str, Seconds]):
    """The time of each stage of one tensor."""

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time of a `with` block to a stage."""
        start = now()
        yield
        self[stage] = self.get(stage, np.zeros(2)) + now() - start


def now() -> Seconds:
    """Return the wall-clock time, and this process's CPU time."""
    return np.array([time.perf_counter(), time.process_time()])


class PacketPath:
    """Both sides of the packet path for one coding, connected over loopback."""

    def __init__(self, coding: Coding, loss: float, way: Loopback, each: Each) -> None:
        """Lose the share `loss` of each tensor's datagrams; `each` runs the codes' calls."""
        self.coding, self.loss, self.way, self.each = coding, loss, way, each
        cut, grid = coding.cut, coding.grid
        self.conceal = make_concealment("zero", cut, {})
        self.rng = np.random.default_rng(0)
        self.chi = self.rng.normal(size=cut.shape).astype(np.float32)
        self.image = np.zeros(cut.network.input.shape, np.uint8)  # activation does not use it
        self.activation = FREE["activation"](cut, grid, self.rng)
        key, now_s = HandshakeKey(INSECURE_KEY), 0.0
        self.cloud = CloudSessions([cut], DEADLINE_S, {key.id: key}, os.urandom)
        hello = new_hello(cut, grid.rows, "bench", preferred_cipher())
        self.edge = EdgeSession(hello, cut.network.head, key, os.urandom, now_s, UNHURRIED)
        self.tensors = 0
        self._connect()

    def _connect(self) -> None:
        """Open a session for the address of the sending socket."""
        self.edge.handle_timer(0.0)
        for _ in range(2):  # hello and welcome, then the ping that confirms them
            for datagram in self.edge.datagrams_to_send():
                self.way.send(np.frombuffer(datagram, np.uint8)[None])
                for batch in self.way.receive(1):
                    self.cloud.receive(batch, 0.0)
            answers = [datagram for datagram, _ in self.cloud.datagrams_to_send()]
            self.edge.receive(wire.batch_of(answers, [None] * len(answers)), 0.0)
        assert self.edge.connected  # noqa: S101

    def run(self) -> Stages:
        """Send one tensor through the whole path; return the time of each stage."""
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
        """Split the datagrams into parts that fit into the receive buffer."""
        for at in range(0, len(datagrams), self.way.room):
            yield datagrams[at : at + self.way.room]

    def _encode(self, stages: Stages) -> wire.Bytes:
        quantiser = self.coding.quantiser
        with stages.time("quantise"):
            coded = quantiser.encode(self.chi, self.coding.grid)
        with stages.time("score by activation"):
            scores = self.activation(self.image, self.chi)
        with stages.time("plan"):
            plan = self.coding.policy.plan(scores, coded.packets.sizes, UNKNOWN_LINK, self.coding.room)
        with stages.time("encode"):
            encoded = encode_tensor(coded, quantiser, plan, self.each)
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
        """Let the deadline pass, and decode the tensor, complete or not."""
        self.cloud.handle_timer(self.tensors + DEADLINE_S)
        self.cloud.datagrams_to_send()  # discard the reports
        self.edge.handle_timer(self.tensors + DEADLINE_S)
        while (event := self.cloud.next_event()) is not None:
            if isinstance(event, Decided):
                with stages.time("decode, dequantise, fill"):
                    decode_tensor(event.arrived, self.conceal, self.each)
                self.cloud.fail(event)  # no back-end, no answer


@contextmanager
def timed_opening(stages: Stages) -> Iterator[None]:
    """Measure the opening of datagrams separately."""
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
@click.option("--loss", default=30.0, type=Number(0, 99), help="Share of the datagrams to lose, in percent.")
@click.option("--rows", default=DEFAULT_ROWS, type=click.IntRange(1, 255), help="Rows of a channel in each packet.")
@click.option("--codec", default="uniform8", metavar="NAME", help="Quantiser: uniform8, sqrt4 and so on.")
@packets_option()
@click.option("--runs", default=15, type=click.IntRange(1), help="Runs after the warm-up, of which to take the median.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def packet_path(
    drop: float, loss: float, rows: int, codec: str, packets_a_datagram: int | None, runs: int, as_json: bool
) -> None:
    """Time each stage between front-end and back-end, for one tensor, by default of 2,048 packets.

    Stripes are coded with one thread for each core, as in the daemons; CPU time is that of all threads. In each run,
    the codes and the two halves of the network take turns, so that conditions are equal. The edge's time is for all
    datagrams, the cloud's for those that are not lost. Sealing and opening are shown separately.
    """
    described = machine(*LIBRARIES)
    choose_runtime()  # fail early if there is none
    cut = named_cut(DEFAULT_CUT)
    grid, quantiser = PacketGrid(cut.shape, rows, cut.pixels), chosen_quantiser(codec, cut)
    codings = {
        code.name: Coding(cut, grid, quantiser, UnequalProtection(drop, code), packets_a_datagram)
        for code in CODES.values()
        if code is not BARE
    }
    for coding in codings.values():
        coding.check()
    with show_progress() as progress:
        weights = ensure_weights(cut.network, None, progress)
    runtimes = {part: fastest_runtime(part, weights) for part in HALVES}
    halves = {part: part_of(part, runtime, weights) for part, runtime in runtimes.items()}
    found, ms = measure(codings, loss / 100, runs, halves)
    sides = {name: both_sides(stages) for name, stages in found.items()}
    ratios = {f"edge_path_{name}": side["edge"]["sum"]["ms"] / ms["front-end"] for name, side in sides.items()}
    ratios["cloud_path"] = min(side["cloud"]["sum"]["ms"] for side in sides.values()) / ms["back-end"]
    if as_json:
        said = {"machine": described, "drop_percent": drop, "loss_percent": loss, "rows": rows, "runs": runs}
        said |= {"codec": codec, "packets_per_datagram": packets_text(packets_a_datagram)}
        said["packet_path"] = sides
        said["fastest_ms"] = {part: {"ms": ms[part], "runtime": runtime} for part, runtime in runtimes.items()}
        click.echo(json.dumps({**said, "ratios": ratios}))
        return
    out = Console(highlight=False)
    out.print(in_words(described), style="dim", soft_wrap=True)
    title = f"one tensor, FEC_{drop:g}_{100 - drop:g}, {loss:g} % lost, {rows} rows, median of {runs} runs"
    out.print(table(found, f"{title}\n{codec}, packets a datagram: {packets_text(packets_a_datagram)}"))
    for part, runtime in runtimes.items():
        out.print(f"{part}, one image: {ms[part]:.1f} ms by {runtime}")
    for name, ratio in ratios.items():
        out.print(f"{name}: {ratio:.2f} of the {'back-end' if name == 'cloud_path' else 'front-end'}'s time")


def measure(
    codings: Mapping[str, Coding], loss: float, runs: int, halves: Mapping[str, Run]
) -> tuple[dict[str, Stages], dict[str, float]]:
    """Run the packet path of each coding, and the halves of the network, `runs` times in turn after a warm-up.

    Return the median of each stage by coding, and the medians of the halves in milliseconds.
    """
    each: dict[str, list[Stages]] = {name: [] for name in codings}
    taken: dict[str, list[float]] = {part: [] for part in halves}
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1, user_api="blas"))  # as in the edge
        each_stripe = stack.enter_context(ThreadPoolExecutor(cores(), "coder")).map
        paths = {
            name: PacketPath(coding, loss, stack.enter_context(loopback(batched=True)), each_stripe)
            for name, coding in codings.items()
        }
        for _ in range(1 + runs):
            for name, path in paths.items():
                each[name].append(path.run())
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
    """Return each side's stages with their sum, and sealing or opening separately."""
    return {
        "edge": as_ms(stages, EDGE) | as_ms(stages, [SEAL], summed=False),
        "cloud": as_ms(stages, CLOUD) | as_ms(stages, [OPEN], summed=False),
    }


def as_ms(stages: Stages, names: Sequence[str], *, summed: bool = True) -> dict[str, dict[str, float]]:
    """Return stages and their sum, in milliseconds of wall-clock and of CPU time."""
    both = {name: stages[name] for name in names}
    if summed:
        both["sum"] = np.sum([*both.values()], axis=0)
    return {name: {"ms": 1000 * clock, "cpu_ms": 1000 * cpu} for name, (clock, cpu) in both.items()}


def table(found: dict[str, Stages], title: str) -> Table:
    """Make the table of each stage's time with each code."""
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
