"""`gradfec train-codec`: from a folder of photographs to a bottleneck that edge and cloud can use."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.console import plain_errors, resumable

FEATURE_MB = 2.4  # an image, at the default split
WORTH_IMAGES = 400
RANKED_IMAGES = 400  # from which the ranking of packets is learned


@click.command(name="train-codec", context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of photographs to learn from.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Codec to write (.npz).")
@click.option("--split", default="conv2_block1_add", metavar="LAYER", help="Where the network is cut.")
@click.option("--bottleneck", default="compact", metavar="NAME", help="Layers of encoder and decoder.")
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
    out: Path,
    split: str,
    bottleneck: str,
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
    """Train a bottleneck for a cut (--codec FILE.npz of edge and cloud). It needs PyTorch, and no labels.

    The first stage learns the features that the decoder stands for, the second those that they lead to deep in the
    network, which decide the answer, both with packets missing. A checkpoint is kept every two minutes, and an
    interrupted run resumes there. In the end, a ranking of the packets is fitted to Grad-CAM at the latents, and the
    bytes and the agreement of each quality are measured on the images that are held out, one in twenty.
    """
    from gradfec_common.bottlenecks import BOTTLENECKS
    from gradfec_common.networks import full_name, named_cut
    from gradfec_common.packets import PacketGrid
    from gradfec_host.weights import ensure_weights
    from gradfec_host.weights.progress import show_progress
    from gradfec_lab.photographs import Photographs
    from gradfec_lab.training.codec_job import RESULT, make_job
    from gradfec_lab.training.progress import bar

    if out.suffix != ".npz":
        raise UsageError(f"--out {out} must end in .npz")
    if bottleneck not in BOTTLENECKS:
        raise UsageError(f"no bottleneck is called {bottleneck!r}: use {', '.join(BOTTLENECKS)}")
    cut = named_cut(split)
    made = BOTTLENECKS[bottleneck](cut)
    rows = rows or made.shape[0]
    PacketGrid(made.shape, rows)  # fail now
    folder = job or out.with_suffix(".job")
    photographs = Photographs(images, cut.network.preprocess)
    with show_progress() as progress:
        store = ensure_weights(cut.network, weights, progress)
    try:
        with bar("images", min(limit or len(photographs.names), len(photographs.names)), sys.stderr) as advance:
            count = make_job(folder, made, rows, store, photographs, limit, advance)
    except OSError as error:
        raise GradfecError(f"cannot write the job {folder}: {error.strerror}") from None
    if prepare:
        click.echo(f"{folder}: {count:,} images; the training adds {count * FEATURE_MB / 1000:.1f} GB of features")
        return
    given: dict[str, Any] = {"seed": seed, "losses": not without_losses}
    given |= {"features_steps": features_steps} if features_steps is not None else {}
    given |= {"deep_steps": deep_steps} if deep_steps is not None else {}
    if not (folder / RESULT).exists():
        if find_spec("torch") is None:
            raise GradfecError(
                "PyTorch is not installed: pip install torch, or train elsewhere with --prepare (see --help)"
            )
        from gradfec_lab.codec.coder import Settings
        from gradfec_lab.codec.job import Job
        from gradfec_lab.codec.train import Training

        training = Training(Job(folder), folder, Settings(**given), lambda line: click.echo(line, err=True))
        try:
            training.run()
        except ValueError as error:
            raise UsageError(f"{error}: remove {folder}, or write to another --out") from None
    about = {"bottleneck": bottleneck, "cut": full_name(cut), "rows": rows, "images": count}
    codec = _finished(folder / RESULT, out, about, given, weights, folder)
    if as_json:
        click.echo(json.dumps(codec))
        return
    for quality, size, agreement in codec["worth"]["quality"]:
        click.echo(f"quality {quality}: {size:,} bytes, agreement {agreement:.3f}")
    click.echo(f"{out}: {out.stat().st_size:,} bytes")


def _finished(
    result: Path, out: Path, about: dict[str, Any], given: dict[str, Any], weights: Path | None, folder: Path
) -> dict[str, Any]:
    """Turn a result into a codec file, measure it, and return what the file says about itself."""
    import numpy as np

    from gradfec_host.codec_file import CodecFile
    from gradfec_lab.training.codec_ranking import fit_ranking
    from gradfec_lab.training.codec_worth import worth
    from gradfec_lab.training.progress import bar

    with np.load(result) as archive:
        arrays = dict(archive)
    settings = json.loads(str(arrays.pop("settings")))
    for name, value in given.items():
        if settings[name] != value:
            raise UsageError(
                f"{result} was trained with {name} = {settings[name]!r}, not {value!r}: remove it, or write to another "
                "--out"
            )
    about = {**settings, **about}
    about["fall"] = float(arrays.pop("fall"))
    images = np.load(folder / "images.npy", mmap_mode="r")
    first = len(images) // 20  # those before are held out
    held_out, ranked = images[: min(first, WORTH_IMAGES)], images[first : first + RANKED_IMAGES]
    with bar("ranking packets", len(ranked), sys.stderr) as advance:
        ranking = fit_ranking(CodecFile(str(out), about, arrays), weights, ranked, advance)
    arrays |= {name: array.astype(np.float16) for name, array in ranking.items()}
    with bar("measuring", len(held_out), sys.stderr) as advance:
        about["worth"] = worth(CodecFile(str(out), about, arrays), weights, held_out, advance)
    try:
        CodecFile(str(out), about, arrays).write()
    except OSError as error:
        raise GradfecError(f"cannot write {out}: {error.strerror}") from None
    return about
