"""`gradfec bench end-to-end`: frames through both daemons over loopback, compared with the uncut model."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gradfec_cli.daemons import Daemon, daemon, free_port
from gradfec_cli.experiment import Record, coding_options
from gradfec_cli.options import FIT, fec_option, packets_option, packets_text
from gradfec_common.codes import CODES, LEOPARD, ZFEC
from gradfec_common.errors import GradfecError
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_edge.coding import BOTTLENECK, Coding, coding_of
from gradfec_host.codec_file import weights_of
from gradfec_host.console import CONTEXT, plain_errors, runtime_option
from gradfec_host.runtimes import choose_runtime
from gradfec_host.weights import WeightStore, ensure_weights
from gradfec_host.weights.progress import show_progress
from gradfec_lab.bench.measure import in_words, machine, median_ms
from gradfec_lab.bench.models import LIBRARIES, Run, back_end_of, front_end_of, part_of

FASTEST = LEOPARD.name if LEOPARD.id in CODES else ZFEC.name  # leopard has no wheel for Python 3.13
WARM_UP = 5  # frames that do not count: until they are answered, fewer are in flight
PERCENTILES = (50, 95, 99)
# As fast as loopback allows. By default, an edge spreads a frame over time, which would make up the latency.
RATE = ("--rate", "100000")
FULL, ALONE = 4, 1  # frames in flight: for the rate, and for the latency of a single frame


@dataclass(frozen=True)
class Flow:
    """A run through the daemons: its records, when each came, and the CPU time a frame of edge and cloud.

    `came_s` counts from the start of the edge's process.
    """

    records: list[Record]
    came_s: list[float]
    cpu_s_a_frame: dict[str, float]

    @property
    def frames_a_second(self) -> float:
        """Return the rate at which answers came, after the warm-up."""
        return (len(self.came_s) - 1 - WARM_UP) / (self.came_s[-1] - self.came_s[WARM_UP])

    def outcomes(self) -> dict[str, int]:
        """Count the frames by outcome."""
        return dict(Counter(record["outcome"] for record in self.records))

    def percentiles_ms(self) -> dict[str, dict[str, float]]:
        """Return percentiles of the latency and of each stage, over the answered frames; GradfecError without any."""
        records = [record for record in self.records[WARM_UP:] if record["latency_ms"] is not None]
        if not records:
            raise GradfecError(f"no frame after the first {WARM_UP} got an answer: the machine is too busy")
        stages = dict.fromkeys(stage for record in records for stage in record["stages_ms"])
        times = {stage: [record["stages_ms"].get(stage, 0.0) for record in records] for stage in stages}
        times["latency"] = [record["latency_ms"] for record in records]
        return {name: {f"p{q}": float(np.percentile(ms, q)) for q in PERCENTILES} for name, ms in times.items()}


@click.command(context_settings=CONTEXT)
@click.option("--frames", default=60, type=click.IntRange(WARM_UP + 5), help="Frames in each run.")
@click.option("--protect", default="none", metavar="POLICY", help="Protection policy.")
@fec_option(FASTEST)
@click.option("--codec", default=BOTTLENECK, metavar="NAME", help="The bottleneck, or a quantiser: uniform8, sqrt4.")
@packets_option(FIT)
@click.option(
    "--importance",
    default="proxy",
    metavar="NAMES",
    help="Estimators that rank the packets; one run for each.",
)
@runtime_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@plain_errors
def end_to_end(
    frames: int,
    protect: str,
    fec: str,
    codec: str,
    packets_a_datagram: int | None,
    importance: str,
    runtime: str,
    as_json: bool,
) -> None:
    """Send frames from a real edge to a real cloud over loopback, both on this machine, as fast as possible.

    The rate is with four frames in flight, divided by the uncut model's in one process on the same runtime. The latency
    is with one frame at a time, divided by the sum of front-end with estimator and back-end. With several estimators,
    the names of all but the first are part of their ratios' names.
    """
    described = machine(*LIBRARIES)
    runtime = choose_runtime(runtime)
    coding = coding_of(named_cut(DEFAULT_CUT), None, codec, protect, fec, packets_a_datagram)
    names = [name.strip() for name in importance.split(",")]
    with show_progress() as progress:
        weights = ensure_weights(named_cut(DEFAULT_CUT).network, None, progress)
    halves = {name: halves_of(coding, name, runtime) for name in names}  # fail early
    options = coding_options(protect, fec, codec, packets_a_datagram)
    found = {name: measure(frames, options, name, halves[name], runtime, weights) for name in names}
    ratios: dict[str, float] = {}
    for name, said in found.items():
        suffix = "" if name == names[0] else f"_{name}"
        ratios[f"end_to_end_rate{suffix}"] = said["frames_a_second"]["daemons"] / said["frames_a_second"]["uncut"]
        ratios[f"end_to_end_latency{suffix}"] = said["one_at_a_time_ms"]["latency"]["p50"] / said["halves_ms"]
    if as_json:
        asked = {"frames": frames, "protect": protect, "fec": fec, "runtime": runtime, "codec": codec}
        asked["packets_per_datagram"] = packets_text(packets_a_datagram)
        click.echo(json.dumps({"machine": described, **asked, "end_to_end": found, "ratios": ratios}))
        return
    out = Console(highlight=False)
    out.print(in_words(described), style="dim", soft_wrap=True)
    for name, said in found.items():
        packets = packets_text(packets_a_datagram)
        show(
            out, said, f"{frames} frames, {protect} by {name}, {fec}, {codec}, packets a datagram: {packets}, {runtime}"
        )
    for name, ratio in ratios.items():
        meaning = "of the uncut model's frames a second" if "rate" in name else "of both halves' time"
        out.print(f"{name}: {ratio:.2f} {meaning}")


def halves_of(coding: Coding, importance: str, runtime: str) -> list[Run]:
    """Return functions that run the back-end, and the front-end with an estimator, on one image; UsageError."""
    cut = coding.cut
    weights = weights_of(cut.network)
    front_end = front_end_of(runtime, weights, cut, importance, rows=coding.grid.rows)
    return [back_end_of(runtime, weights, cut), front_end]


def measure(
    frames: int, options: Sequence[str], importance: str, halves: list[Run], runtime: str, weights: WeightStore
) -> dict[str, Any]:
    """Send frames with one estimator, four in flight and one at a time; measure the uncut model before and after."""
    halves_ms = sum(median_ms(half, frames) for half in halves)
    options = [*options, "--importance", importance, "--runtime", runtime, *RATE]
    with tempfile.TemporaryDirectory(prefix="gradfec-bench-") as folder:
        write_images(Path(folder), frames)
        before = median_ms(part_of("uncut", runtime, weights), frames)
        full = flow(Path(folder), options, FULL, runtime)
        alone = flow(Path(folder), options, ALONE, runtime)
        after = median_ms(part_of("uncut", runtime, weights), frames)
    uncut_ms = (before + after) / 2  # the machine's speed may drift in between
    return {
        "uncut_ms": uncut_ms,
        "outcomes": {"one_at_a_time": alone.outcomes(), "four_in_flight": full.outcomes()},
        "halves_ms": halves_ms,
        "frames_a_second": {"uncut": 1000 / uncut_ms, "daemons": full.frames_a_second},
        "start_to_first_answer_ms": 1000 * alone.came_s[0],
        "cpu_ms_a_frame": {name: 1000 * seconds for name, seconds in full.cpu_s_a_frame.items()},
        "one_at_a_time_ms": alone.percentiles_ms(),
        "four_in_flight_ms": full.percentiles_ms(),
    }


def show(out: Console, said: dict[str, Any], title: str) -> None:
    """Print the results of one estimator."""
    out.print(table(said, title))
    cpu = ", ".join(f"{name} {ms:.0f} ms" for name, ms in said["cpu_ms_a_frame"].items())
    out.print(
        f"CPU time a frame: {cpu}; both halves {said['halves_ms']:.1f} ms, the uncut model {said['uncut_ms']:.1f} ms"
    )
    out.print(f"from the start of the edge to its first answer: {said['start_to_first_answer_ms']:,.0f} ms")
    for name, outcomes in said["outcomes"].items():
        out.print(f"{name.replace('_', ' ')}: {', '.join(f'{count} {outcome}' for outcome, count in outcomes.items())}")
    rate = said["frames_a_second"]
    out.print(f"frames a second: {rate['daemons']:.2f}, the uncut model {rate['uncut']:.2f}\n")


def write_images(folder: Path, count: int) -> None:
    """Write coarse coloured images of the network's input size."""
    height, width, channels = named_cut(DEFAULT_CUT).network.input.shape
    rng = np.random.default_rng(0)
    for n in range(count):
        coarse = rng.integers(0, 256, (7, 7, channels), np.uint8)
        cv2.imwrite(str(folder / f"{n:04}.png"), coarse.repeat(height // 7, 0).repeat(width // 7, 1))


def flow(images: Path, options: Sequence[str], in_flight: int, runtime: str) -> Flow:
    """Run the images through a new cloud and a new edge."""
    port = free_port()
    listen = ["--listen", f"127.0.0.1:{port}", "--runtime", runtime]
    records, came_s, used = [], [], {}
    with daemon("gradfec-cloud", *listen, ready="listening on") as cloud:
        send = ["--camera", str(images), "--cloud", f"127.0.0.1:{port}", "--in-flight", str(in_flight)]
        start = time.perf_counter()
        with daemon("gradfec-edge", *send, *options, "--results", "-") as edge:
            for line in edge.lines():
                records.append(json.loads(line))
                came_s.append(time.perf_counter() - start)
                if len(records) in (WARM_UP, len([*images.iterdir()])):
                    used[len(records)] = np.array([cpu_s(edge), cpu_s(cloud)])
            if len(used) < 2:
                raise edge.failure()
    first, last = used.values()
    spent = (last - first) / (len(records) - WARM_UP)
    return Flow(records, came_s, {"edge": float(spent[0]), "cloud": float(spent[1])})


def cpu_s(running: Daemon) -> float:
    """Return a daemon's CPU time so far, user and kernel; 0 if the system has no /proc."""
    try:
        fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(said: dict[str, Any], title: str) -> Table:
    """Make the table of where a frame's time goes."""
    laid = Table(title=title, box=SIMPLE_HEAD)
    laid.add_column("ms")
    flows = {"one at a time": said["one_at_a_time_ms"], "four in flight": said["four_in_flight_ms"]}
    for name in flows:
        for q in PERCENTILES:
            laid.add_column(f"{name}, p{q}" if q == PERCENTILES[0] else f"p{q}", justify="right")
    for stage in said["one_at_a_time_ms"]:
        cells = [f"{of[stage][f'p{q}']:.1f}" for of in flows.values() for q in PERCENTILES]
        laid.add_row(stage, *cells)
    return laid
