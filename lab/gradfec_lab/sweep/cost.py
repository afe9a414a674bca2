"""`gradfec sweep cost`: what each estimator costs the edge, in milliseconds a frame and bytes in the package."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
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
    from gradfec_common.networks import Cut
    from gradfec_edge.frontend import FrontEnd
    from gradfec_lab.photographs import Photographs

Work = Callable[[npt.NDArray[np.uint8]], object]

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
    from gradfec_lab.photographs import Photographs

    cut = named_cut(DEFAULT_CUT)
    photographs = Photographs(images, cut.network.preprocess, limit)
    times = timed(work_of_estimators(cut), cut, photographs)
    count, rows = len(times[NOTHING]), costs(times)
    if as_json:
        click.echo(json.dumps({"images": count, "cost": rows}))
    else:
        table(rows, count).show()


def work_of_estimators(cut: Cut) -> dict[str, Work]:
    """Return, for each estimator's name, what the edge does with a photograph; NOTHING is the front-end alone."""
    from gradfec_edge.frontend import load_front_end
    from gradfec_edge.importance import ESTIMATORS, EstimatorFile, make_estimator
    from gradfec_host.runtimes import choose_runtime
    from gradfec_host.weights import ensure_weights
    from gradfec_host.weights.progress import show_progress

    grid, rng = PacketGrid(cut.shape), np.random.default_rng(0)
    with show_progress() as progress:
        weights = ensure_weights(cut.network, None, progress)
    runtime = choose_runtime()
    plain = load_front_end(runtime, cut, weights)
    works: dict[str, Work] = {NOTHING: plain}
    for name in ESTIMATORS:
        estimator = make_estimator(name, cut, grid, rng)
        if isinstance(estimator, EstimatorFile):
            works[name] = sending_half(load_front_end(runtime, cut, weights, estimator), grid)
        else:
            works[name] = lambda image, estimator=estimator: estimator(image, plain(image).chi)  # type: ignore[misc]
    return works


def timed(works: Mapping[str, Work], cut: Cut, photographs: Photographs) -> dict[str, list[float]]:
    """Return the milliseconds of each work for each photograph."""
    for work in works.values():
        work(np.zeros(cut.network.input.shape, np.uint8))  # compile
    times: dict[str, list[float]] = {name: [] for name in works}
    for _, batch in photographs.batches(photographs.names, 1):
        for name, work in works.items():
            start = time.perf_counter()
            work(batch[0])
            times[name].append(1000 * (time.perf_counter() - start))
    return times


def costs(times: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return the median time of each estimator, what it adds to the front-end's, and the bytes of its file."""
    from gradfec_edge.importance.shipped import PROXIES, STATISTICS, shipped

    files = {name: name for name in PROXIES} | dict.fromkeys(("deviation", "static"), STATISTICS)
    sizes = {name: shipped(file).stat().st_size for name, file in files.items()}
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {
        name: {"ms": median, "more_ms": median - medians[NOTHING], "bytes": sizes.get(name, 0)}
        for name, median in medians.items()
    }


def table(rows: Mapping[str, Mapping[str, float]], count: int) -> Grid:
    """Return the costs as a table."""
    lines = [[name, f"{row['ms']:.1f}", f"{row['more_ms']:+.1f}", f"{row['bytes']:,}"] for name, row in rows.items()]
    title = f"Front-end and estimator, median of {count} frames"
    return Grid(title, ["estimator", "ms a frame", "more than the front-end", "bytes shipped"], lines)


def sending_half(front_end: FrontEnd, grid: PacketGrid) -> Work:
    """Return a function that does the edge's work with a proxy for FEC_50_50, including the compensation."""

    def run(image: npt.NDArray[np.uint8]) -> object:
        chi, scores, damage = front_end(image)
        assert scores is not None, "a proxy gives scores"  # noqa: S101
        return chi if damage is None else compensated(chi, damage, keep_most_important(scores, 50)[1], grid)

    return run
