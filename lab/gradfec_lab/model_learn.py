"""`gradfec model learn`: which packets of a model's features matter, found out without labels.

What is missing becomes its channel's mean, and the network's answer changes: by so much the channel matters, in
relation to how far it strays from its mean. To second order the change grows with the square of the deviation, so a
packet matters as much as sum ((x - mean) * sensitivity)^2: the estimator `deviation`. Its average over photographs,
for each row of each channel, is the estimator `static`. Gradients tell for all packets at once how much the answer
changes. Without them, channels are left out one after the other.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import click
import numpy as np
import numpy.typing as npt

from gradfec_common.conceal import AUTO, Concealment, make_concealment
from gradfec_common.errors import UsageError
from gradfec_common.heads import agreement
from gradfec_common.networks.imported import Imported, ImportedCut
from gradfec_common.packets import PacketGrid, usual_rows
from gradfec_common.protect.plan import ranking
from gradfec_edge.importance.free import deviations
from gradfec_host.completion import added_models, completing
from gradfec_host.console import plain_errors
from gradfec_host.extras import need
from gradfec_host.models.find import imported_called, model_of
from gradfec_host.models.learned import Learned, write_learned
from gradfec_host.models.store import Model, open_model
from gradfec_host.recent import kilobytes
from gradfec_lab.gradients import Gradients
from gradfec_lab.model_check import answer_of
from gradfec_lab.model_pictures import worth_of_pictures
from gradfec_lab.photographs import Photographs
from gradfec_lab.training.moments import Moments

if TYPE_CHECKING:
    from gradfec_cloud.backend import BackEnd

Floats = npt.NDArray[np.float32]

LEAST_IMAGES = 20
HELD_OUT = 3  # one photograph in three, for the curve
RUNS = 2_000  # of the back-end, to see what channels do
SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
LEAST = 1e-12
GRADIENTS_TAKEN = 160  # each of a photograph of which other packets are missing
LEAST_THERE = 0.3  # of the packets
BY = GRADIENTS, OCCLUSION = "gradients", "occlusion"
MOST_CHANNELS = 512  # whose covariance is learned: it has the square of them


@click.command()
@click.argument("name", shell_complete=completing(added_models))
@click.option("--images", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder of photographs.")
@click.option("--split", metavar="LAYER", help="For this split.  [default: the model's]")
@click.option("--count", default=100, show_default=True, type=click.IntRange(LEAST_IMAGES), help="Photographs to use.")
@click.option(
    "--by",
    type=click.Choice(BY),
    help="Find out by gradients, which need PyTorch, or by leaving out channels.  [default: gradients if possible]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def learn(name: str, images: Path, split: str | None, count: int, by: str | None, as_json: bool) -> None:
    """Learn from photographs without labels what a model's frames are worth.

    It finds out which packets of its features matter, how many answers a part of them keeps, and how many a picture of
    each quality keeps. Edge and cloud use it from then on: the estimators deviation and static, the cloud's --fill, and
    --protect auto, which may then leave out what matters least, and knows when the picture is worth more. Copy the
    model's folder to the other machine, or export its half again.
    """
    need("onnxruntime")
    network = imported_called(name)
    model = open_model(name)
    cut = network.cut(split) if split else network.usual_cut
    assert isinstance(cut, ImportedCut)  # noqa: S101
    from gradfec_cloud.backend import load_back_end
    from gradfec_edge.frontend import load_front_end

    gradients = None if by == OCCLUSION else _gradients(cut, model, required=by == GRADIENTS)
    by = OCCLUSION if gradients is None else GRADIENTS
    front, back = load_front_end("", cut, model), load_back_end("", cut, model, 1)
    photographs = Photographs(images, network.preprocess, count)
    with click.progressbar(photographs.names, label="looking at photographs", file=sys.stderr) as bar:
        pictures = [picture for file in bar if (picture := photographs.read(file)) is not None]
    if len(pictures) < LEAST_IMAGES:
        raise UsageError(f"{images} has {len(pictures)} usable photographs: give at least {LEAST_IMAGES}")
    learned = learned_from([front(picture).chi for picture in pictures], network, cut, back, gradients)
    if model.is_whole:
        learned = learned._replace(pictures=worth_of_pictures(model, pictures))
    path = write_learned(model_of(network).folder, cut, learned)
    if as_json:
        said = {"by": by, "kept": learned.kept, "pictures": [one._asdict() for one in learned.pictures]}
        click.echo(json.dumps({"file": str(path), "photographs": len(pictures), **said}))
        return
    click.echo(f"{name} at {cut.name}, {len(pictures)} photographs, by {by}: {path}")
    for share, worth in learned.kept:
        click.echo(f"  the most important {share:4.0%} of a frame: {worth:6.1%} of the answers")
    for one in learned.pictures:
        size = kilobytes(one.bytes)
        click.echo(f"  a picture of quality {one.quality:.0f}, {size:>6}: {one.agreement:6.1%} of the answers")


def _gradients(cut: ImportedCut, model: Model, required: bool) -> Gradients | None:
    """Return a network's gradients; without them None, after a line that says why, or UsageError if `required`."""
    try:
        return Gradients(cut, model)
    except UsageError as error:
        if required:
            raise
        click.echo(f"leaving out channels: {error}", err=True)
        return None


def learned_from(
    features: Sequence[Floats], network: Imported, cut: ImportedCut, back: BackEnd, gradients: Gradients | None
) -> Learned:
    """Learn from features (H, W, C) of photographs; every third is held out for the curve."""
    seen = [np.maximum(chi, 0) if cut.rectified else chi for chi in features]
    mine = [chi for at, chi in enumerate(seen) if at % HELD_OUT]
    arrays = arrays_of(mine)
    means = arrays["means"]
    grid, conceal = PacketGrid(cut.shape, usual_rows(cut.shape)), make_concealment(AUTO, cut, arrays)
    if gradients is None:
        sensitivity = sensitivity_of(mine, means, network, back)
    else:
        sensitivity = sensitivity_by(gradients, mine, means, grid, conceal)
    by_row = [np.square((chi - means) * sensitivity).sum(axis=1, keepdims=True) for chi in mine]  # (H, 1, C) each
    rows: Floats = np.stack(by_row).mean(axis=0)
    kept = kept_curve(seen[::HELD_OUT], means, sensitivity, network, grid, conceal, back)
    return Learned(arrays, sensitivity, rows, kept)


def arrays_of(features: Sequence[Floats]) -> dict[str, Floats]:
    """Return what concealments need to know of the channels: means (C,), and unless there are many, their moments."""
    channels = features[0].shape[2]
    moments = Moments(channels)
    for chi in features:
        moments.add(chi)
    learned = moments.learned()
    means: Floats = np.stack([chi.mean(axis=(0, 1)) for chi in features]).mean(axis=0)  # as the back-end sees them
    return {**(learned if channels <= MOST_CHANNELS else {}), "means": means}


def sensitivity_of(features: Sequence[Floats], means: Floats, network: Imported, back: BackEnd) -> Floats:
    """Return how sensitive the answer is to each channel (C,): the root of its change over the squared deviation."""
    channels = len(means)
    some = features[: max(RUNS // channels, 4)]
    changes, deviations = np.zeros(channels), np.zeros(channels)
    with click.progressbar(some, label="leaving out channels", file=sys.stderr) as bar:
        for chi in bar:
            whole = back(chi[np.newaxis])[0]
            deviations += np.square(chi - means).sum(axis=(0, 1), dtype=np.float64)
            for channel in range(channels):
                without = chi.copy()
                without[..., channel] = means[channel]
                changes[channel] += change(network, whole, back(without[np.newaxis])[0])
    return _relative(changes, deviations)


def sensitivity_by(
    gradients: Gradients, features: Sequence[Floats], means: Floats, grid: PacketGrid, conceal: Concealment
) -> Floats:
    """Return what `sensitivity_of` does, from the change if a packet is left out where others are missing already."""
    rng = np.random.default_rng(0)
    changes, deviations = np.zeros(len(means)), np.zeros(len(means))
    some = [*features] * max(GRADIENTS_TAKEN // len(features), 1)
    with click.progressbar(some, label="following gradients", file=sys.stderr) as bar:
        for seed, chi in enumerate(bar):
            there = rng.random(grid.count) < rng.uniform(LEAST_THERE, 1)
            strays = chi - means
            part = conceal(chi.copy(), there, grid)
            changes += gradients.changes(part, strays, grid, seed).reshape(len(means), -1).sum(axis=1)
            deviations += np.square(strays).sum(axis=(0, 1), dtype=np.float64)
    return _relative(changes, deviations)


def _relative(changes: npt.NDArray[np.float64], deviations: npt.NDArray[np.float64]) -> Floats:
    found: Floats = np.sqrt(changes / (deviations + LEAST)).astype(np.float32)
    found += np.float32(1e-3) * found.mean()  # where nothing has changed, the deviation alone decides
    return found


def change(network: Imported, whole: Floats, other: Floats) -> float:
    """Return by how much an answer has changed: the squared change of its outputs, or for boxes 1 - F1."""
    if network.head.name == "detect":
        return 1 - agreement(answer_of(network, whole), answer_of(network, other))
    return float(np.square(other - whole).sum() / (np.square(whole).sum() + LEAST))


def kept_curve(
    features: Sequence[Floats],
    means: Floats,
    sensitivity: Floats,
    network: Imported,
    grid: PacketGrid,
    conceal: Concealment,
    back: BackEnd,
) -> tuple[tuple[float, float], ...]:
    """Return the agreement if only a share of each frame's packets is there, those that `deviation` puts first."""
    found: dict[float, list[float]] = {share: [] for share in SHARES}
    with click.progressbar(features, label="leaving out packets", file=sys.stderr) as bar:
        for chi in bar:
            whole = answer_of(network, back(chi[np.newaxis])[0])
            order = ranking(deviations(chi, means, sensitivity, grid))
            for share, agreements in found.items():
                there = np.zeros(grid.count, bool)
                there[order[: round(share * grid.count)]] = True
                part = conceal(chi.copy(), there, grid)
                agreements.append(agreement(whole, answer_of(network, back(part[np.newaxis])[0])))
    return (*((share, fmean(agreements)) for share, agreements in found.items()), (1.0, 1.0))
