"""`gradfec bench rivals`: a camera's frames over bad links, by gradfec and by other ways to get them answered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gradfec_cli.uncut import uncut_model
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.networks.pixels import normalise
from gradfec_common.preprocess import to_input
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_host.extras import need
from gradfec_host.weights import ensure_weights
from gradfec_host.weights.progress import show_progress
from gradfec_lab.bench.measure import in_words, machine
from gradfec_lab.bench.models import LIBRARIES
from gradfec_lab.bench.rivals.footage import FPS, Film, Footage, panned
from gradfec_lab.bench.rivals.links import LINKS
from gradfec_lab.bench.rivals.pictures import Picture
from gradfec_lab.bench.rivals.registry import RIVALS
from gradfec_lab.bench.rivals.report import SUFFIXES, figure, table
from gradfec_lab.bench.rivals.rival import Rival, Run
from gradfec_lab.bench.rivals.score import Row, score
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.labels import labels_of

T = TypeVar("T")
Classify = Callable[[Picture], int]  # the uncut model's class

NETWORK = named_cut(DEFAULT_CUT).network
COLUMNS = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
WIDTH_OF_FILES = 170  # of a table that does not go to a terminal


@click.command(context_settings=CONTEXT)
@click.option(
    "--images", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of photographs to film."
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="CSV of file name and class index: also compare with the true classes.",
)
@click.option(
    "--count", default=12, type=click.IntRange(1), help="Film this many photographs, the first by name: 2 s each."
)
@click.option("--links", "link_names", metavar="NAMES", help=f"Links, of {', '.join(LINKS)}.  [default: all]")
@click.option("--rivals", "rival_names", metavar="NAMES", help=f"Rivals, of {', '.join(RIVALS)}.  [default: all]")
@click.option("--seed", default=1, type=click.IntRange(min=0), help="Seed for the losses.")
@click.option(
    "--figure", "drawing", type=click.Path(path_type=Path), metavar="FILE", help="Also draw it: .png, .svg, .pdf."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def rivals(
    images: Path,
    labels: Path | None,
    count: int,
    link_names: str | None,
    rival_names: str | None,
    seed: int,
    drawing: Path | None,
    as_json: bool,
) -> None:
    """Compare ways to have a camera's frames classified at the far end of a bad link.

    A camera of five frames a second pans slowly over photographs. Every rival sends the same frames, in real time, over
    the same link of the loss injector. A frame counts if its answer is the uncut model's for the lossless frame and
    comes in time, as a share of all frames taken. Times are from the capture to the answer at the camera's side. kbit/s
    are those sent on the forward way, IP and UDP or TCP headers included. Intervals are 95 % (Wilson).

    On a busy machine the times mean little, so run nothing else. jpeg-tcp needs root, h264-srt imageio-ffmpeg.
    """
    links = chosen(link_names, LINKS, "--links")
    arms = chosen(rival_names, RIVALS, "--rivals")
    if drawing is not None:
        need("matplotlib")
        check_drawing(drawing)
    described = machine(*LIBRARIES, "imageio-ffmpeg")
    film = panned(Photographs(images, NETWORK.preprocess), count)
    classes = labels_of(labels, [*dict.fromkeys(film.sources)], NETWORK.output.shape[-1]) if labels else None
    classify = uncut_classifier()
    with Progress(*COLUMNS, console=Console(stderr=True), transient=True) as progress:
        truth, uncut_ms = uncut_answers(film, classify, progress)
        runs = (
            (name, rival, Run(Footage.of(film, truth, link.seconds), link, seed, classify))
            for link, (name, rival) in product(links.values(), arms.items())
        )
        rows = compared(runs, len(links) * len(arms), classes, progress)
    if drawing is not None:
        figure(rows, drawing)
    if as_json:
        asked = {"photographs": len({*film.sources}), "frames_a_second": FPS, "seed": seed}
        click.echo(json.dumps({"machine": described, "uncut_ms": uncut_ms, **asked, "rows": rows}))
    else:
        report(described, uncut_ms, rows)


def uncut_classifier() -> Classify:
    """Load the uncut model; return what gives its class for a BGR picture."""
    with show_progress() as fetching:
        model = uncut_model(ensure_weights(NETWORK, None, fetching))

    def classify(picture: Picture) -> int:
        return int(model(normalise(to_input(picture, NETWORK.preprocess)[None], NETWORK.preprocess))[0].argmax())

    return classify


def uncut_answers(film: Film, classify: Classify, progress: Progress) -> tuple[npt.NDArray[np.intp], float]:
    """Return the uncut model's class for each frame, and how many milliseconds a frame took."""
    begun = time.perf_counter()
    truth = np.array([classify(frame) for frame in progress.track(film.frames, description="the uncut model")])
    return truth, 1000 * (time.perf_counter() - begun) / len(truth)


def compared(
    runs: Iterable[tuple[str, Rival, Run]], count: int, classes: Mapping[str, int] | None, progress: Progress
) -> list[Row]:
    """Return a row for each run: the link, the rival's name, and what was measured."""
    rows: list[Row] = []
    task = progress.add_task("", total=count)
    for name, rival, run in runs:
        progress.update(task, description=f"{run.link.name}: {name}, {run.footage.seconds:.0f} s of footage")
        rows.append({"link": run.link.name, "rival": name, **measured(rival, run, classes)})
        progress.advance(task)
    return rows


def measured(rival: Rival, run: Run, classes: Mapping[str, int] | None) -> Row:
    """Return a rival's row on a link; if it cannot be measured, the row says why, and the others go on."""
    if reason := rival.why_not():
        return {"not_measured": reason}
    try:
        return score(rival.run(run), run.footage, classes)
    except GradfecError as error:
        return {"not_measured": str(error)}


def report(described: dict[str, Any], uncut_ms: float, rows: list[Row]) -> None:
    """Print the rows as a table, below the machine and the uncut model's time."""
    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = max(out.width, WIDTH_OF_FILES)
    out.print(in_words(described), style="dim", soft_wrap=True)
    out.print(f"the uncut model takes {uncut_ms:.0f} ms a frame, of the {1000 / FPS:.0f} ms from one to the next")
    out.print(table(rows))


def chosen(names: str | None, known: Mapping[str, T], option: str) -> dict[str, T]:
    """Return those of `known` that are named, or all; UsageError for a name that is not there."""
    if names is None:
        return dict(known)
    listed = [name.strip() for name in names.split(",")]
    if unknown := [name for name in listed if name not in known]:
        raise UsageError(f"{option}: there is no {', '.join(unknown)}; there are {', '.join(known)}")
    return {name: known[name] for name in listed}


def check_drawing(path: Path) -> None:
    """Raise UsageError or GradfecError if a figure cannot be written, before the hours that it takes."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--figure {path}: its name must end in one of {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise GradfecError(f"cannot write {path}: there is no folder {path.parent}")
