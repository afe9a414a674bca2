"""`gradfec train-proxy`: from a folder of photographs to an estimator that the edge can use."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.console import CONTEXT, plain_errors, resumable
from gradfec_host.extras import need
from gradfec_host.writing import writing
from gradfec_lab.progress import bar, say

if TYPE_CHECKING:
    from gradfec_edge.importance import EstimatorFile
    from gradfec_host.weights import WeightStore
    from gradfec_lab.photographs import Photographs
    from gradfec_lab.training.run import Curve, Schedule
    from gradfec_lab.training.targets import Settings, Targets

RECIPES = ("best", "paper", "paper-verbatim", "averages")
MIN_IMAGES = 40  # with fewer, there are no held-out images
BYTES_AN_IMAGE = 110_000  # in the cache, at the default split; the whole maps of the paper's recipes add 1.6 MB


@click.command(name="train-proxy", context_settings=CONTEXT)
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of photographs to learn from.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Estimator to write (.npz)."
)
@click.option(
    "--recipe",
    default="best",
    type=click.Choice(RECIPES),
    help="best: learned saliency and measured sensitivity; paper: the paper's, the front-end's architecture from the "
    "image to the map of importances; paper-verbatim: the same at the paper's learning rate, where it diverges; "
    "averages: the means for `static`, `deviation` and --fill mean, without training.",
)
@click.option(
    "--limit", type=click.IntRange(MIN_IMAGES), help="Use this many of the images, a fair sample. [default: all]"
)
@click.option("--epochs", type=click.IntRange(1), help="[default: best 12, paper 16]")
@click.option(
    "--tuning", default=200, type=click.IntRange(0), help="best: steps of tuning the offsets, with 8 images each."
)
@click.option(
    "--seed", default=0, type=click.IntRange(min=0), help="Seed for initial weights and the order of the images."
)
@click.option(
    "--cache", type=click.Path(path_type=Path), help="Folder that keeps the targets. [default: targets/ beside --out]"
)
@click.option("--means", type=click.Path(path_type=Path, dir_okay=False), help="averages: file for the channel means.")
@click.option("--split", default="conv2_block1_add", metavar="LAYER", help="Where the network is cut.")
@click.option("--rows", default=7, type=click.IntRange(1), help="Rows of a channel in each packet.")
@click.option(
    "--score", default="logit", type=click.Choice(["logit", "log-probability"]), help="Value that the oracle explains."
)
@click.option("--weights", type=click.Path(path_type=Path), help="The network's weights. [default: the cached ones]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@plain_errors
@resumable()
def train_proxy(
    images: Path,
    out: Path,
    recipe: str,
    limit: int | None,
    epochs: int | None,
    tuning: int,
    seed: int,
    cache: Path | None,
    means: Path | None,
    split: str,
    rows: int,
    score: str,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Train an importance estimator for the edge (--importance FILE.npz).

    The oracle computes the targets for the network's own answers, so no labels are needed. This takes about 0.15 s an
    image on two cores, once: the targets are kept, and so is a checkpoint of each epoch. An interrupted run resumes
    where it stopped. One image in twenty, by its name, is held out; the best epoch on those images is written.
    """
    from gradfec_common.networks import full_name, named_cut
    from gradfec_common.packets import PacketGrid
    from gradfec_edge.importance.shipped import OF_IMAGE
    from gradfec_host.weights import ensure_weights
    from gradfec_host.weights.progress import show_progress
    from gradfec_lab.photographs import Photographs

    if out.suffix != ".npz":
        raise UsageError(f"--out {out} must end in .npz")
    if means and recipe != "averages":
        raise UsageError(f"--means goes with --recipe averages, not with {recipe}")
    cut = named_cut(split)
    PacketGrid(cut.shape, rows)  # fail now
    photographs = Photographs(images, cut.network.preprocess)
    with show_progress() as progress:
        store = ensure_weights(cut.network, weights, progress)
    need("tensorflow", "matplotlib")  # for the learning curves
    from gradfec_lab.training.targets import Settings

    names = enough_names(photographs, limit)
    settings = Settings(photographs.digest(names), len(names), full_name(cut), rows, score, recipe in OF_IMAGE)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    folder = cache or out.with_name("targets-elements" if recipe in OF_IMAGE else "targets")
    targets = computed_targets(folder, photographs, names, settings, store)
    estimator = trained(recipe, targets, seed, epochs, out, store)
    if recipe == "best":
        estimator = tuned(estimator, targets, store, seed, tuning)
    estimator.write()
    if means:
        write_means(means, targets)
    report(estimator, as_json)
    click.echo(f"{folder} is kept for the next training with these images; delete it if there is none", err=True)


def enough_names(photographs: Photographs, limit: int | None) -> list[str]:
    """Return the photographs to use, in an order as good as random; UsageError if they are too few."""
    from gradfec_lab.training.targets import is_held_out, shuffled

    names = shuffled(photographs.names)[:limit]
    held_out = sum(map(is_held_out, names))
    if len(names) < MIN_IMAGES or not held_out:
        raise UsageError(
            f"{photographs.folder} has {len(names)} images, of which {held_out} are held out, one in twenty by their "
            f"names: give {MIN_IMAGES} or more, one of them held out"
        )
    return names


def computed_targets(
    folder: Path, photographs: Photographs, names: list[str], settings: Settings, store: WeightStore
) -> Targets:
    """Compute the targets in a folder, or take those that are there; UsageError if too few images can be used.

    GradfecError if the folder cannot be written.
    """
    from gradfec_lab.training.targets import Targets

    try:
        targets = Targets(folder, photographs, names, settings)
        with bar("targets", len(names)) as advance:
            targets.compute(store, advance)
    except OSError as error:
        room = len(names) * BYTES_AN_IMAGE / 1e9
        raise GradfecError(
            f"cannot keep targets in {folder}: {error.strerror}; {len(names)} images need {room:.1f} GB or more"
        ) from None
    say_skipped(targets.unusable, photographs.skipped)
    usable = len(targets.fit_indices)
    if usable < MIN_IMAGES // 2 or not len(targets.held_out_indices):
        raise UsageError(f"{photographs.folder} has {usable} usable images to learn from: give at least {MIN_IMAGES}")
    return targets


def trained(
    recipe: str, targets: Targets, seed: int, epochs: int | None, out: Path, store: WeightStore
) -> EstimatorFile:
    """Run a recipe; return the estimator with what it says about itself."""
    from gradfec_edge.importance import EstimatorFile

    arrays, curves = _learn(recipe, targets, seed, epochs, out)
    settings = targets.settings
    about = {
        "recipe": recipe,
        "split": settings.split,
        "rows": settings.rows,
        "score": settings.score,
        "seed": seed,
        "images": len(targets.fit_indices),
        "held_out": len(targets.held_out_indices),
        "epochs": len(curves),
        "held_out_loss": min((point.held_out for point in curves if isfinite(point.held_out)), default=None),
        "weights": store.route,
    }
    return EstimatorFile(out, about, arrays)


def _learn(
    recipe: str, targets: Targets, seed: int, epochs: int | None, out: Path
) -> tuple[dict[str, Any], list[Curve]]:
    """Run a recipe; return its arrays and learning curves."""
    from gradfec_edge.importance.shipped import OF_IMAGE
    from gradfec_lab.training.averages import averages

    if recipe == "averages":
        return averages(targets), []
    from gradfec_lab.training.curves import draw_curves
    from gradfec_lab.training.elements import PAPER, VERBATIM, train_elements
    from gradfec_lab.training.run import Curve
    from gradfec_lab.training.saliency import BEST, sensitivities, train_saliency

    schedule: Schedule = replace({"paper": PAPER, "paper-verbatim": VERBATIM}.get(recipe, BEST), seed=seed)
    schedule = replace(schedule, epochs=epochs or schedule.epochs)
    checkpoints = out.with_suffix(".checkpoints")

    def report(point: Curve) -> None:
        say(
            f"epoch {point.epoch}/{schedule.epochs}: loss {point.loss:.5g}, held out {point.held_out:.5g}, "
            f"learning rate {point.rate:.2g}"
        )

    with bar("training", schedule.epochs * len(targets.fit_indices)) as advance:
        if recipe in OF_IMAGE:
            arrays = train_elements(targets, schedule, checkpoints, report, advance, scaled=recipe == "paper")
        else:
            arrays = train_saliency(targets, schedule, checkpoints, report, advance)
    draw_curves(checkpoints, out.with_suffix(".curves.png"))
    record = json.loads((checkpoints / "curves.json").read_text())  # includes the epochs before an interruption
    curves = [Curve(**point) for point in record["curves"]]
    return arrays | ({} if recipe in OF_IMAGE else sensitivities(targets)), curves


def tuned(estimator: EstimatorFile, targets: Targets, weights: WeightStore, seed: int, steps: int) -> EstimatorFile:
    """Return the estimator with offsets (packets,) to its ranking, tuned in `steps` steps; 0 leaves them at 0."""
    import numpy as np

    about = {**estimator.about, "tuning_steps": steps}
    nothing = {"offset": np.zeros(targets.grid.count, np.float32)}
    plain = replace(estimator, about=about, arrays={**estimator.arrays, **nothing})
    if not steps:
        return plain
    from gradfec_lab.training.tuning import tune

    def report(step: int, loss: float, agreement: float) -> None:
        say(f"step {step}/{steps}: loss {loss:.4g}, agreement {agreement:.1%}")

    checkpoints = plain.path.with_suffix(".checkpoints")
    with bar("tuning", 8 * steps) as advance:
        offset = tune(targets, plain, weights, seed, steps, checkpoints, report, advance)
    return replace(plain, arrays={**plain.arrays, "offset": offset})


def say_skipped(names: list[str], reasons: dict[str, str]) -> None:
    """Count and list the images that could not be used, now or in an earlier run."""
    for name in names[:10]:
        click.echo(f"skipped: {reasons.get(name, f'{name} could not be used')}", err=True)
    if names:
        click.echo(f"{len(names)} images skipped", err=True)


def write_means(path: Path, targets: Targets) -> None:
    """Write the channel means, as the cloud's --learned takes them."""
    from gradfec_common.networks import named_cut
    from gradfec_host.concealment_file import write_concealment_file
    from gradfec_lab.training.averages import channel_means

    provenance = (
        f"mean of max(chi, 0) over {len(targets.fit_indices)} photographs, gradfec train-proxy --recipe averages"
    )
    with writing(path):
        write_concealment_file(path, named_cut(targets.settings.split), {"means": channel_means(targets)}, provenance)


def report(estimator: EstimatorFile, as_json: bool) -> None:
    """Print what was written, or all that it says about itself, as JSON."""
    about, out = estimator.about, estimator.path
    short = f"{out}: {out.stat().st_size:,} bytes, recipe {about['recipe']}, {about['images']:,} images"
    click.echo(json.dumps(about) if as_json else short)
