"""`gradfec bench models`: what each half of the network costs on each installed runtime, and its start time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, files
from typing import Any

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gradfec_common.errors import GradfecError
from gradfec_common.networks import DEFAULT_CUT, Cut, named_cut
from gradfec_common.packets import DEFAULT_ROWS, PacketGrid
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_host.models.find import imported_called
from gradfec_host.models.store import Model, open_model
from gradfec_host.runtimes import LITERT, TENSORFLOW, choose_runtime, installed
from gradfec_host.weights import Weights, WeightStore, ensure_weights
from gradfec_host.weights.progress import show_progress
from gradfec_lab.bench.measure import in_words, machine, median_ms

CUT = named_cut(DEFAULT_CUT)
LIBRARIES = ("ai-edge-litert", "tensorflow", "keras", "numpy")
DISTRIBUTIONS = {LITERT: ("ai-edge-litert", "flatbuffers"), TENSORFLOW: ("tensorflow", "keras")}
PARTS = ("front-end", "front-end and proxy", "back-end", "uncut")
BATCHES = (1, 8)
START = {
    "edge": "from gradfec_edge.frontend import load_front_end as load",
    "cloud": "from gradfec_cloud.backend import load_back_end as load",
}

Run = Callable[[], object]


@click.command(context_settings=CONTEXT)
@click.option("--runs", default=15, type=click.IntRange(1), help="Runs after the warm-up, of which to take the median.")
@click.option("--model", metavar="NAME", help="Time a network that was added, too, on ONNX Runtime.")
@click.option("--split", metavar="LAYER", help="Where to split that.  [default: the model's]", show_default=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@plain_errors
def models(runs: int, model: str | None, split: str | None, as_json: bool) -> None:
    """Time both halves of ResNet-50, at the default split, on each runtime, for one image and for batches of 8.

    LiteRT and ONNX Runtime run a batch image by image. The start time is from the start of a process to the first
    answer of its half.
    """
    described = machine(*LIBRARIES)
    choose_runtime()  # fail early if there is none
    with show_progress() as progress:
        weights = ensure_weights(CUT.network, None, progress)
    found: dict[str, dict[str, Any]] = {
        runtime: {
            "ms_an_image": times(runtime, weights, runs),
            "start_ms": {half: start_ms(runtime, half) for half in START},
            "installed_bytes": installed_bytes(DISTRIBUTIONS[runtime]),
        }
        for runtime in installed()
    }
    if model:
        found[f"onnx: {model}"] = {"ms_an_image": imported_times(model, split, runs)}
    if as_json:
        click.echo(json.dumps({"machine": described, "runs": runs, "models": found}))
        return
    out = Console(highlight=False)
    out.print(in_words(described), style="dim", soft_wrap=True)
    out.print(table(found, runs))


def times(runtime: str, weights: WeightStore, runs: int) -> dict[str, dict[str, float]]:
    """Return each part's milliseconds an image, by batch size."""
    return {
        part: {str(batch): median_ms(part_of(part, runtime, weights, batch), runs) / batch for batch in BATCHES}
        for part in PARTS
    }


def imported_times(name: str, split: str | None, runs: int) -> dict[str, dict[str, float]]:
    """Return the same for a network that was added, one image at a time; UsageError if there is none."""
    network = imported_called(name)
    model, cut = open_model(name), network.cut(split) if split else network.usual_cut
    parts = {
        "front-end": front_end_of("", model, cut, None),
        "back-end": back_end_of("", model, cut),
        "uncut": back_end_of("", model, network.cuts[0]),
    }
    return {part: {"1": median_ms(run, runs)} for part, run in parts.items()}


def part_of(part: str, runtime: str, weights: WeightStore, batch: int = 1) -> Run:
    """Return a function that runs a part of the network on a batch of images, or of features."""
    match part:
        case "front-end":
            return front_end_of(runtime, weights, CUT, None, batch)
        case "front-end and proxy":
            return front_end_of(runtime, weights, CUT, "proxy", batch)
        case "back-end":
            return back_end_of(runtime, weights, CUT, batch)
    return back_end_of(runtime, weights, weights.network.cut(weights.network.input.name), batch)


def front_end_of(
    runtime: str, weights: Weights | Model, cut: Cut, importance: str | None, batch: int = 1, rows: int = DEFAULT_ROWS
) -> Run:
    """Return a function that runs the front-end, and the estimator if one is named, on a batch of images."""
    from gradfec_edge.frontend import load_front_end
    from gradfec_edge.importance import EstimatorFile, make_estimator

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, *cut.network.preprocess.size, 3), np.uint8)
    estimator = make_estimator(importance, cut, PacketGrid(cut.shape, rows), rng) if importance else None
    if isinstance(estimator, EstimatorFile):
        front_end, estimator = load_front_end(runtime, cut, weights, estimator), None
    else:
        front_end = load_front_end(runtime, cut, weights)
    if estimator is not None:
        return lambda: [estimator(image, front_end(image).chi) for image in images]
    if batch == 1 or runtime == LITERT:
        return lambda: [front_end(image) for image in images]
    return lambda: front_end(images)


def back_end_of(runtime: str, weights: Weights | Model, cut: Cut, batch: int = 1) -> Run:
    """Return a function that runs the layers after a cut on a batch of features."""
    from gradfec_cloud.backend import load_back_end

    back_end = load_back_end(runtime, cut, weights, batch)
    features = np.maximum(np.random.default_rng(0).normal(size=(batch, *cut.received.shape)), 0).astype(np.float32)
    return lambda: back_end(features)


def fastest_runtime(part: str, weights: WeightStore, runs: int = 5) -> str:
    """Return the runtime that is fastest for one image through a part of the network."""
    return min(installed(), key=lambda runtime: median_ms(part_of(part, runtime, weights), runs))


def start_ms(runtime: str, half: str) -> float:
    """Time a process from its start until its half of the network has answered once; GradfecError if it fails."""
    program = f"""
from gradfec_common.networks import named_cut
from gradfec_host.weights import open_weights
{START[half]}
cut = named_cut({DEFAULT_CUT!r})
load({runtime!r}, cut, open_weights(cut.network)).warm_up()
"""
    start = time.perf_counter()
    if code := subprocess.run([sys.executable, "-c", program], check=False).returncode:
        raise GradfecError(f"the {half}'s half does not start on {runtime}: exit code {code}; the reason is above")
    return 1000 * (time.perf_counter() - start)


def installed_bytes(distributions: tuple[str, ...]) -> int:
    """Return the size of these distributions' files without their dependencies; 0 if one is not installed."""
    try:
        return sum(path.size or 0 for name in distributions for path in files(name) or ())
    except PackageNotFoundError:
        return 0


def table(found: dict[str, dict[str, Any]], runs: int) -> Table:
    """Make the table of each part's time on each runtime."""
    laid = Table(title=f"ms an image, median of {runs} runs", box=SIMPLE_HEAD)
    laid.add_column("")
    for runtime in found:
        for batch in BATCHES:
            laid.add_column(f"{runtime}, {'one' if batch == 1 else f'of {batch}'}", justify="right")
    for part in PARTS:
        timed = [of["ms_an_image"].get(part, {}) for of in found.values()]
        cells = [f"{ms[str(batch)]:.1f}" if str(batch) in ms else "" for ms in timed for batch in BATCHES]
        laid.add_row(part, *cells)
    laid.add_section()
    started = [of for of in found.values() if "start_ms" in of]
    for half in START:
        laid.add_row(f"start of the {half}, ms", *alone(f"{of['start_ms'][half]:,.0f}" for of in started))
    laid.add_row("installed, MB", *alone(f"{of['installed_bytes'] / 1e6:,.0f}" for of in started))
    return laid


def alone(cells: Iterable[str]) -> list[str]:
    """Put the cells under the first batch size of each runtime."""
    return [part for cell in cells for part in (cell, *[""] * (len(BATCHES) - 1))]
