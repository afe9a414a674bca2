"""`gradfec train-codec`: from a folder of photographs to a bottleneck that edge and cloud can use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradfec_common.bottlenecks import BOTTLENECKS, Bottleneck
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import DEFAULT_NETWORK, full_name
from gradfec_common.networks.imported import Imported
from gradfec_edge.coding import AUTO_AGREEMENT
from gradfec_host.completion import added_models, completing
from gradfec_host.console import CONTEXT, plain_errors, resumable
from gradfec_host.models.find import cut_called, model_of, usual_cut_of
from gradfec_host.models.store import Model
from gradfec_host.quality import DEFAULT_QUALITY
from gradfec_host.writing import writing
from gradfec_lab.progress import bar, say

if TYPE_CHECKING:
    from gradfec_host.codec_file import CodecFile
    from gradfec_host.weights import Weights
    from gradfec_lab.photographs import Photographs

WORTH_IMAGES = 400
RANKED_IMAGES = 400  # from which the ranking of packets is learned


@click.command(name="train-codec", context_settings=CONTEXT)
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of photographs to learn from.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Codec to write (.npz). [default, with --model: into the model's folder, where edge and cloud find it]",
)
@click.option(
    "--model",
    metavar="NAME",
    shell_complete=completing(added_models),
    help="A network that was added. [default: ResNet-50]",
)
@click.option("--split", metavar="LAYER", help="Where the network is cut. [default: conv2_block1_add, or the model's]")
@click.option("--joins", metavar="LAYER", help="The later layer that the decoder stands for. [default: see below]")
@click.option("--bottleneck", metavar="NAME", help="Layers of encoder and decoder. [default: compact; model: narrow]")
@click.option("--rows", type=click.IntRange(1), help="Rows of latents in each packet. [default: a whole channel's]")
@click.option("--limit", type=click.IntRange(1), help="Use this many of the images, a fair sample. [default: all]")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Seed for initial weights, images and losses.")
@click.option(
    "--feature-steps", "features_steps", type=click.IntRange(1), help="Steps of the first stage. [default: 8,200]"
)
@click.option("--deep-steps", type=click.IntRange(0), help="Steps of the second stage. [default: 3,600]")
@click.option("--without-losses", is_flag=True, help="Learn with all packets there, to see what losses teach.")
@click.option("--weights", type=click.Path(path_type=Path), help="The network's weights. [default: the cached ones]")
@click.option(
    "--job", type=click.Path(path_type=Path), help="Folder for features and checkpoints. [default: next to --out]"
)
@click.option(
    "--prepare",
    is_flag=True,
    help="Only write the job. `python -m codec JOB`, in a copy of the folder gradfec_lab/codec, trains it on a machine "
    "with PyTorch; bring result.npz back into the job, and run this command again without --prepare.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@plain_errors
@resumable()
def train_codec(
    images: Path,
    out: Path | None,
    model: str | None,
    split: str | None,
    joins: str | None,
    bottleneck: str | None,
    rows: int | None,
    limit: int | None,
    seed: int,
    features_steps: int | None,
    deep_steps: int | None,
    without_losses: bool,
    weights: Path | None,
    job: Path | None,
    prepare: bool,
    as_json: bool,
) -> None:
    """Train a bottleneck for a cut of ResNet-50, or of a network that was added. It needs PyTorch, and no labels.

    The first stage learns the features that the decoder stands for, the second those that they lead to deep in the
    network, which decide the answer, both with packets missing. A checkpoint is kept every two minutes, and an
    interrupted run resumes there. In the end, a ranking of the packets is fitted to Grad-CAM at the latents, or for an
    added network to what its answers lose without each of them, and the bytes and the agreement of each quality are
    measured on the images that are held out, one in twenty.

    Edge and cloud take the file as --codec FILE.npz. They find one in a model's folder themselves. The decoder of an
    added network ends, unless --joins says so, where among the cuts of its first two thirds the fewest elements cross.
    """
    from gradfec_common.packets import PacketGrid
    from gradfec_host.codec_file import trained
    from gradfec_host.models.learned import codec_path
    from gradfec_host.weights.progress import show_progress
    from gradfec_lab.photographs import Photographs
    from gradfec_lab.training.codec_job import RESULT

    if out is not None and out.suffix != ".npz":
        raise UsageError(f"--out {out} must end in .npz")
    made = chosen_bottleneck(model, split, joins, bottleneck)
    network = made.cut.network
    if out is None and not isinstance(network, Imported):
        raise UsageError("--out is missing: name the codec to write, FILE.npz")
    out = out or codec_path(model_of(network).folder, made.cut)
    rows = rows or made.shape[0]
    PacketGrid(made.shape, rows)  # fail now
    folder = job or out.with_suffix(".job")
    photographs = Photographs(images, network.preprocess)
    with show_progress() as progress:
        store = trained(network, weights, progress)
    count = write_job(folder, made, rows, store, photographs, limit)
    if prepare:
        return
    asked = {"seed": seed, "losses": not without_losses, "features_steps": features_steps, "deep_steps": deep_steps}
    given = {name: value for name, value in asked.items() if value is not None}
    if not (folder / RESULT).exists():
        train(folder, given)
    codec = measured(untried_codec(folder, given, out, made, rows, count), folder, weights)
    with writing(out):
        codec.write()
    report(codec, folder, as_json)


def chosen_bottleneck(model: str | None, split: str | None, joins: str | None, name: str | None) -> Bottleneck:
    """Return what the options ask for; UsageError if there is no such thing."""
    from gradfec_lab.training.imported_codec import fitting_cut

    cut = cut_called(split, model) if split else usual_cut_of(model or DEFAULT_NETWORK)
    network = cut.network
    name = name or ("narrow" if isinstance(network, Imported) else "compact")
    if name not in BOTTLENECKS:
        raise UsageError(f"no bottleneck is called {name!r}: use {', '.join(BOTTLENECKS)}")
    made = BOTTLENECKS[name](fitting_cut(cut), joins or "")
    target = fitting_cut(network.cut(made.joins))
    if network.cuts.index(target) < network.cuts.index(cut):
        raise UsageError(f"--joins {joins} is before the split {cut.name}: name a later layer, or leave it out")
    if made.decoder[-1].shape != target.shape:
        sides, ours = (" x ".join(map(str, shape[:2])) for shape in (target.shape, made.decoder[-1].shape))
        raise UsageError(f"{name} decodes to {ours}, and {target.name} is {sides}: name another layer in --joins")
    return made


def write_job(
    folder: Path, made: Bottleneck, rows: int, store: Weights | Model, photographs: Photographs, limit: int | None
) -> int:
    """Write all that training needs, and return the number of images; GradfecError, UsageError if they are too few."""
    from gradfec_lab.training.codec_job import make_job
    from gradfec_lab.training.imported_codec import compute_features

    try:
        with bar("images", min(limit or len(photographs.names), len(photographs.names))) as advance:
            count = make_job(folder, made, rows, store, photographs, limit, advance)
    except OSError as error:
        raise GradfecError(f"cannot write the job {folder}: {error.strerror}") from None
    stored_gb = 2e-9 * count * (made.cut.elements + made.cut.network.cut(made.joins).elements)
    say(f"{folder}: {count:,} images, whose features will take {stored_gb:.1f} GB there")
    if isinstance(store, Model):  # a machine elsewhere would not have ONNX Runtime
        need_torch()
        with bar("features", count) as advance:
            compute_features(folder, made, store, advance)
    return count


def need_torch() -> None:
    """Raise GradfecError if PyTorch is not installed."""
    if find_spec("torch") is None:
        raise GradfecError(
            "PyTorch is not installed: pip install torch, or train elsewhere with --prepare (see --help)"
        )


def train(folder: Path, given: Mapping[str, Any]) -> None:
    """Train in a job's folder, or go on there; UsageError if what is there has other settings."""
    need_torch()
    from gradfec_lab.codec.coder import Settings
    from gradfec_lab.codec.job import Job
    from gradfec_lab.codec.train import Training

    try:
        training = Training(Job(folder), folder, Settings(**given), say)
        with bar("features", training.features.count) as advance:
            training.compute(advance)
        training.run()
    except ValueError as error:
        raise UsageError(f"{error}: remove {folder}, or write to another --out") from None


def named(made: Bottleneck) -> dict[str, Any]:
    """Return what a codec file says of the place that it is for."""
    network = made.cut.network
    if not isinstance(network, Imported):
        return {"cut": full_name(made.cut), "joins": made.joins}
    return {"cut": made.cut.name, "model": network.digest.hex(), "joins": made.joins, "latents": [*made.shape]}


def untried_codec(
    folder: Path, given: Mapping[str, Any], out: Path, made: Bottleneck, rows: int, count: int
) -> CodecFile:
    """Return the result in a job's folder as a codec; UsageError if it was trained with others than `given`."""
    import numpy as np

    from gradfec_host.codec_file import CodecFile
    from gradfec_lab.training.codec_job import RESULT
    from gradfec_lab.training.imported_codec import onnx_halves

    with np.load(folder / RESULT) as archive:
        arrays = dict(archive)
    settings, fall = json.loads(str(arrays.pop("settings"))), float(arrays.pop("fall"))
    for name, value in given.items():
        if settings[name] != value:
            raise UsageError(
                f"{folder / RESULT} was trained with {name} = {settings[name]!r}, not {value!r}: remove it, or write "
                "to another --out"
            )
    about = {**settings, "bottleneck": made.name, "rows": rows, "images": count, **named(made), "fall": fall}
    halves = onnx_halves(made, arrays) if isinstance(made.cut.network, Imported) else arrays
    return CodecFile(str(out), about, halves, made.cut)


def measured(codec: CodecFile, folder: Path, weights: Path | None) -> CodecFile:
    """Return the codec with a ranking of its packets, and what it is worth on the images that are held out."""
    import numpy as np

    from gradfec_common.packets import PacketGrid
    from gradfec_lab.training.codec_job import IMAGES
    from gradfec_lab.training.codec_ranking import RUNS, fit_by_leaving_out, fit_ranking
    from gradfec_lab.training.codec_worth import worth

    images = np.load(folder / IMAGES, mmap_mode="r")
    first = len(images) // 20  # those before are held out
    held_out, ranked = images[: min(first, WORTH_IMAGES)], images[first : first + RANKED_IMAGES]
    imported = isinstance(codec.cut.network, Imported)
    if imported:
        ranked = ranked[: max(RUNS // PacketGrid(codec.shape, codec.rows).count, 1)]
    fit = fit_by_leaving_out if imported else partial(fit_ranking, weights=weights)
    with bar("ranking packets", len(ranked)) as advance:
        ranking = fit(codec, images=ranked, advance=advance)
    arrays = {name: array.astype(np.float16) for name, array in ranking.items()}
    codec = replace(codec, arrays={**codec.arrays, **arrays})
    with bar("measuring", len(held_out)) as advance:
        return replace(codec, about={**codec.about, "worth": worth(codec, weights, held_out, advance)})


def report(codec: CodecFile, folder: Path, as_json: bool) -> None:
    """Print what each quality is worth, and the codec's size; or all that it says of itself, as JSON."""
    if as_json:
        click.echo(json.dumps(codec.about))
        return
    qualities = codec.about["worth"]["quality"]
    for quality, size, agreement in qualities:
        click.echo(f"quality {quality}: {size:,} bytes, agreement {agreement:.3f}")
    size = Path(codec.path).stat().st_size
    click.echo(f"{codec.path}: {size:,} bytes; the folder {folder} was for training alone")
    if dict(row[::2] for row in qualities)[DEFAULT_QUALITY] < AUTO_AGREEMENT:
        click.echo(
            f"fewer than {AUTO_AGREEMENT:.0%} of the answers stay at quality {DEFAULT_QUALITY}: --codec auto does not "
            "use it, --codec bottleneck does",
            err=True,
        )
