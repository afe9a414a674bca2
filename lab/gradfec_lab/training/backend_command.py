"""`gradfec train-backend`: tune the first layers after a cut to tensors with gaps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import numpy.typing as npt

from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.console import CONTEXT, plain_errors, resumable
from gradfec_host.writing import writing
from gradfec_lab.progress import bar, say

if TYPE_CHECKING:
    from gradfec_host.tuned import BackEndFile
    from gradfec_lab.photographs import Photographs
    from gradfec_lab.training.back_end import Tuning

MIN_IMAGES = 40
MOST_PARAMETERS = 2_000_000  # 4 MB in float16
FEATURES_ALONE = 0.8  # the share of the steps that compare features alone
MEASURED_IMAGES = 200


@click.command(name="train-backend", context_settings=CONTEXT)
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of photographs to learn from.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Back-end to write (.npz).")
@click.option("--split", default="conv2_block1_add", metavar="LAYER", help="Where the network is cut.")
@click.option(
    "--until",
    metavar="LAYER",
    help=f"Last layer that is tuned. [default: the last one up to which there are {MOST_PARAMETERS / 1e6:g} million "
    "parameters]",
)
@click.option(
    "--losses",
    default="random,bursty,importance",
    metavar="NAMES",
    help="Losses to learn from: random; bursty, runs of packets; importance, the least important packets.",
)
@click.option("--most", default=0.7, type=click.FloatRange(0, 1), help="Largest share of the packets that is lost.")
@click.option("--fill", default="zero", metavar="NAME", help="How gaps are filled before the back-end sees them.")
@click.option("--codec", default="uniform8", metavar="NAME", help="Quantiser of the packets.")
@click.option("--rows", default=7, type=click.IntRange(1), help="Rows of a channel in each packet.")
@click.option("--limit", type=click.IntRange(MIN_IMAGES), help="Use this many images, a fair sample. [default: all]")
@click.option("--steps", default=4000, type=click.IntRange(1), help="Steps of training.")
@click.option("--batch", default=16, type=click.IntRange(1), help="Images in each step.")
@click.option("--rate", default=3e-4, type=click.FloatRange(0, min_open=True), help="Learning rate at first.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Seed for the images and the losses.")
@click.option("--weights", type=click.Path(path_type=Path), help="The network's weights. [default: the cached ones]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@plain_errors
@resumable()
def train_backend(
    images: Path,
    out: Path,
    split: str,
    until: str | None,
    losses: str,
    most: float,
    fill: str,
    codec: str,
    rows: int,
    limit: int | None,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Train a back-end that expects gaps (gradfec-cloud --backend FILE.npz). It needs PyTorch, and no labels.

    The first layers after the cut learn to give the features, and with the rest of the network the answers, that they
    would give without losses. A checkpoint is kept every minute, and an interrupted run resumes there. One image in
    twenty, by its name, is held out; at the end, the agreement with the lossless network is measured on some of those.
    """
    from gradfec_common.conceal import make_concealment
    from gradfec_common.networks import full_name, named_cut
    from gradfec_common.packets import PacketGrid
    from gradfec_common.quantisers import chosen_quantiser
    from gradfec_host.codec_file import weights_of
    from gradfec_host.concealment_file import learned_for
    from gradfec_host.weights.progress import show_progress
    from gradfec_lab.photographs import Photographs
    from gradfec_lab.training.gaps import read_losses
    from gradfec_lab.training.targets import shuffled

    if out.suffix != ".npz":
        raise UsageError(f"--out {out} must end in .npz")
    cut, kinds = named_cut(split), read_losses(losses)
    PacketGrid(cut.shape, rows)  # fail now
    quantiser, conceal = chosen_quantiser(codec, cut), make_concealment(fill, cut, learned_for(cut))
    photographs = Photographs(images, cut.network.preprocess)
    names = shuffled(photographs.names)[:limit]
    fit, held_out = divided(names, images, batch)
    if find_spec("torch") is None:
        raise GradfecError("PyTorch is not installed: pip install torch")
    from gradfec_lab.training.back_end import Settings, Tuning, joint_of

    joint = cut.network.cut(until) if until else joint_of(cut, MOST_PARAMETERS)
    settings = Settings(
        photographs.digest(names), full_name(cut), joint.name, rows, codec, fill, kinds, most, steps,
        round(FEATURES_ALONE * steps), batch, rate, seed,
    )  # fmt: skip
    with show_progress() as progress:
        store = weights_of(cut.network, weights, progress)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    read = partial(read_images, photographs, names)
    tuning = Tuning(settings, cut, store, read, quantiser, conceal, out.with_suffix(".checkpoint"))
    file = tuned(tuning, out, fit, held_out[:MEASURED_IMAGES])
    with writing(out):
        file.write()
    report(file, as_json)


def tuned(tuning: Tuning, out: Path, fit: Sequence[int], held_out: Sequence[int]) -> BackEndFile:
    """Tune on the images `fit`, measure on those held out, and return the back-end with what it says about itself."""
    from gradfec_host.tuned import BackEndFile

    own = tuning.settings
    with bar("training", own.steps * own.batch) as advance:
        tuning.run(fit, say, advance)
    with bar("measuring", len(held_out)) as advance:
        agreement = tuning.agreement(held_out, advance)
    arrays = {name: array.astype(np.float16) for name, array in tuning.tuned.arrays().items()}
    about = {
        "cut": own.cut, "until": own.joint, "rows": own.rows, "codec": own.codec, "fill": own.fill,
        "losses": own.losses, "most": own.most, "steps": own.steps, "batch": own.batch, "rate": own.rate,
        "seed": own.seed, "images": len(fit), "measured_images": len(held_out), "agreement": agreement,
    }  # fmt: skip
    return BackEndFile(str(out), about, arrays)


def report(file: BackEndFile, as_json: bool) -> None:
    """Print how many answers the back-end keeps at each loss, and its size; or all that it says, as JSON."""
    if as_json:
        click.echo(json.dumps({**file.about, "parameters": file.parameters}))
        return
    for loss, share in file.about["agreement"]:
        click.echo(f"{loss:.0%} lost: agreement {share:.3f}")
    size = Path(file.path).stat().st_size
    click.echo(f"{file.path}: {size:,} bytes, {file.parameters:,} parameters")


def divided(names: Sequence[str], folder: Path, batch: int) -> tuple[list[int], list[int]]:
    """Return the numbers of the images to learn from and of those held out; UsageError if they are too few."""
    from gradfec_lab.training.targets import is_held_out

    fit, held_out = ([n for n, name in enumerate(names) if is_held_out(name) == wanted] for wanted in (False, True))
    if len(fit) < max(batch, MIN_IMAGES // 2) or not held_out:
        raise UsageError(
            f"{folder} has {len(fit)} images to learn from and {len(held_out)} that are held out, one in twenty by "
            f"their names: give {MIN_IMAGES} or more, {batch} of them to learn from"
        )
    return fit, held_out


def read_images(photographs: Photographs, names: Sequence[str], rows: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Read the images of these numbers (n,): (n, side, side, 3) RGB; GradfecError if one cannot be used."""
    found = [photographs.read(names[row]) for row in rows]
    if any(image is None for image in found):
        raise GradfecError(f"{next(iter(photographs.skipped.values()))}: remove it from the folder")
    return np.stack([image for image in found if image is not None])
