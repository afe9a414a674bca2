"""What `gradfec train-backend` and `gradfec train-fill` share: their options, and a run from photographs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt

from gradfec_common.conceal import Learned, make_concealment
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import DEFAULT_CUT

if TYPE_CHECKING:
    from gradfec_lab.photographs import Photographs
    from gradfec_lab.training.back_end import Tuning

MIN_IMAGES = 40
MOST_PARAMETERS = 2_000_000  # 4 MB in float16
MEASURED_IMAGES = 200


@dataclass(frozen=True)
class GapOptions:
    """The options' values."""

    images: Path
    out: Path
    split: str
    until: str | None
    losses: str
    most: float
    codec: str
    rows: int
    limit: int | None
    steps: int
    batch: int
    rate: float
    seed: int
    weights: Path | None


def gap_options(until: str, *, out: str, most: float, steps: int, rate: float) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator that gives a command these options, with the help of two and the defaults of three."""
    options = [
        click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of photographs to learn "
                     "from."),
        click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help=out),
        click.option("--split", default=DEFAULT_CUT, metavar="LAYER", help="Where the network is cut."),
        click.option(
            "--until", metavar="LAYER",
            help=f"{until} [default: the last one up to which there are {MOST_PARAMETERS / 1e6:g} million parameters]",
        ),
        click.option(
            "--losses", default="random,bursty,importance", metavar="NAMES",
            help="Losses to learn from: random; bursty, runs of packets; importance, the least important packets.",
        ),
        click.option(
            "--most", default=most, type=click.FloatRange(0, 1), help="Largest share of the packets that is lost.",
        ),
        click.option("--codec", default="uniform8", metavar="NAME", help="Quantiser of the packets."),
        click.option("--rows", default=7, type=click.IntRange(1), help="Rows of a channel in each packet."),
        click.option(
            "--limit", type=click.IntRange(MIN_IMAGES), help="Use this many images, a fair sample. [default: all]",
        ),
        click.option("--steps", default=steps, type=click.IntRange(1), help="Steps of training."),
        click.option("--batch", default=16, type=click.IntRange(1), help="Images in each step."),
        click.option(
            "--rate", default=rate, type=click.FloatRange(0, min_open=True), help="Learning rate at first.",
        ),
        click.option("--seed", default=0, type=click.IntRange(min=0), help="Seed for the images and the losses."),
        click.option(
            "--weights", type=click.Path(path_type=Path), help="The network's weights. [default: the cached ones]",
        ),
    ]  # fmt: skip

    def decorate(command: Callable[..., None]) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def train(
    options: GapOptions, fill: str, known: Learned, features_alone: float, open_tuning: Callable[..., Tuning]
) -> tuple[Tuning, Mapping[str, Any]]:
    """Train, and measure; return what was trained, and words about it.

    Gaps are filled by `fill`, with what is `known` of the cut. The first `features_alone` of the steps compare
    features, the others answers too.
    """
    from gradfec_common.networks import full_name, named_cut
    from gradfec_common.packets import PacketGrid
    from gradfec_common.quantisers import chosen_quantiser
    from gradfec_host.codec_file import weights_of
    from gradfec_host.weights.progress import show_progress
    from gradfec_host.writing import writing
    from gradfec_lab.photographs import Photographs
    from gradfec_lab.progress import bar, say
    from gradfec_lab.training.gaps import read_losses
    from gradfec_lab.training.targets import shuffled

    own = options
    if own.out.suffix != ".npz":
        raise UsageError(f"--out {own.out} must end in .npz")
    cut, kinds = named_cut(own.split), read_losses(own.losses)
    PacketGrid(cut.shape, own.rows)  # fail now
    quantiser, conceal = chosen_quantiser(own.codec, cut), make_concealment(fill, cut, known)
    photographs = Photographs(own.images, cut.network.preprocess)
    names = shuffled(photographs.names)[: own.limit]
    fit, held_out = divided(names, own.images, own.batch)
    if find_spec("torch") is None:
        raise GradfecError("PyTorch is not installed: pip install torch")
    from gradfec_lab.training.back_end import Settings, joint_of

    joint = cut.network.cut(own.until) if own.until else joint_of(cut, MOST_PARAMETERS)
    settings = Settings(
        photographs.digest(names), full_name(cut), joint.name, own.rows, own.codec, fill, kinds, own.most, own.steps,
        round(features_alone * own.steps), own.batch, own.rate, own.seed,
    )  # fmt: skip
    with show_progress() as progress:
        store = weights_of(cut.network, own.weights, progress)
    with writing(own.out):
        own.out.parent.mkdir(parents=True, exist_ok=True)
    read = partial(read_images, photographs, names)
    tuning = open_tuning(settings, cut, store, read, quantiser, conceal, own.out.with_suffix(".checkpoint"))
    with bar("training", own.steps * own.batch) as advance:
        tuning.run(fit, say, advance)
    measured = held_out[:MEASURED_IMAGES]
    with bar("measuring", len(measured)) as advance:
        agreement = tuning.agreement(measured, advance)
    return tuning, {
        "cut": full_name(cut), "until": joint.name, "rows": own.rows, "codec": own.codec, "fill": fill,
        "losses": kinds, "most": own.most, "steps": own.steps, "batch": own.batch, "rate": own.rate, "seed": own.seed,
        "images": len(fit), "measured_images": len(measured), "agreement": agreement,
    }  # fmt: skip


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
