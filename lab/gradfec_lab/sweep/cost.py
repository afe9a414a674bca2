"""`gradfec sweep cost`: what each estimator costs the edge, in milliseconds a frame and bytes in the package."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import numpy.typing as npt

from gradfec_common.packets import PacketGrid
from gradfec_common.protect.plan import keep_most_important
from gradfec_edge.compensation import compensated
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_lab.sweep.report import Grid

if TYPE_CHECKING:
    from gradfec_edge.frontend import FrontEnd

NOTHING = "none"  # only the front-end


@click.command(context_settings=CONTEXT)
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of images.")
@click.option("--limit", default=50, type=click.IntRange(1), help="Use this many images, the first by name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def cost(images: Path, limit: int, as_json: bool) -> None:
    """Time front-end and estimator together, one image at a time, as the edge runs them.

    The estimators take turns for each image, so that conditions are equal. The results are medians over the images.
    """
    from gradfec_common.networks import DEFAULT_CUT, named_cut
    from gradfec_edge.importance import ESTIMATORS, EstimatorFile, make_estimator
    from gradfec_edge.importance.shipped import STATISTICS, shipped
    from gradfec_host.weights import ensure_weights
    from gradfec_host.weights.progress import show_progress
    from gradfec_lab.photographs import Photographs

    cut = named_cut(DEFAULT_CUT)
    photographs = Photographs(images, cut.network.preprocess, limit)
    grid, rng = PacketGrid(cut.shape), np.random.default_rng(0)
    made = {name: make_estimator(name, cut, grid, rng) for name in ESTIMATORS}
    with show_progress() as progress:
        weights = ensure_weights(cut.network, None, progress)
    from gradfec_edge.frontend import load_front_end
    from gradfec_host.runtimes import choose_runtime

    runtime = choose_runtime()
    plain = load_front_end(runtime, cut, weights)
    runs: dict[str, Callable[[npt.NDArray[np.uint8]], object]] = {NOTHING: plain}
    for name, estimator in made.items():
        if isinstance(estimator, EstimatorFile):
            runs[name] = sending_half(load_front_end(runtime, cut, weights, estimator), grid)
        else:
            runs[name] = lambda image, estimator=estimator: estimator(image, plain(image).chi)  # type: ignore[misc]
    for run in runs.values():
        run(np.zeros(cut.network.input.shape, np.uint8))  # compile
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _, batch in photographs.batches(photographs.names, 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run(batch[0])
            times[name].append(1000 * (time.perf_counter() - start))
    sizes = {name: made[name].path.stat().st_size for name in made if isinstance(made[name], EstimatorFile)}  # type: ignore[union-attr]
    sizes |= dict.fromkeys(("deviation", "static"), shipped(STATISTICS).stat().st_size)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    rows = {
        name: {"ms": medians[name], "more_ms": medians[name] - medians[NOTHING], "bytes": sizes.get(name, 0)}
        for name in runs
    }
    if as_json:
        click.echo(json.dumps({"images": len(times[NOTHING]), "cost": rows}))
        return
    lines = [[name, f"{row['ms']:.1f}", f"{row['more_ms']:+.1f}", f"{row['bytes']:,}"] for name, row in rows.items()]
    title = f"Front-end and estimator, median of {len(times[NOTHING])} frames"
    Grid(title, ["estimator", "ms a frame", "more than the front-end", "bytes shipped"], lines).show()


def sending_half(front_end: FrontEnd, grid: PacketGrid) -> Callable[[npt.NDArray[np.uint8]], object]:
    """Return a function that does the edge's work with a proxy for FEC_50_50, including the compensation."""

    def run(image: npt.NDArray[np.uint8]) -> object:
        chi, scores, damage = front_end(image)
        assert scores is not None, "a proxy gives scores"  # noqa: S101
        return chi if damage is None else compensated(chi, damage, keep_most_important(scores, 50)[1], grid)

    return run
