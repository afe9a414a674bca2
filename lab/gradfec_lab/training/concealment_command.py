"""`gradfec train-concealment`: from a folder of photographs to what the cloud's --fill needs to know of a cut."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import DEFAULT_CUT
from gradfec_host.console import CONTEXT, plain_errors


@click.command(name="train-concealment", context_settings=CONTEXT)
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of photographs to learn from.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write (.npz).")
@click.option("--split", default=DEFAULT_CUT, metavar="LAYER", help="Where the network is cut.")
@click.option("--limit", default=1000, type=click.IntRange(1), help="Use this many of the images, a fair sample.")
@click.option("--weights", type=click.Path(path_type=Path), help="The network's weights. [default: the cached ones]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@plain_errors
def train_concealment(images: Path, out: Path, split: str, limit: int, weights: Path | None, as_json: bool) -> None:
    """Learn mean and covariance of a cut's channels, for --fill mean, altec and gaussian (--learned FILE of the cloud).

    They are for packets of any number of rows. It needs no labels, and about 0.1 s an image.
    """
    from gradfec_common.networks import full_name, named_cut
    from gradfec_edge.frontend import load_front_end
    from gradfec_host.codec_file import weights_of
    from gradfec_host.concealment_file import write_concealment_file
    from gradfec_host.runtimes import choose_runtime
    from gradfec_host.weights.progress import show_progress
    from gradfec_lab.photographs import Photographs
    from gradfec_lab.progress import bar
    from gradfec_lab.training.moments import Moments
    from gradfec_lab.training.targets import shuffled

    if out.suffix != ".npz":
        raise UsageError(f"--out {out} must end in .npz")
    cut = named_cut(split)
    photographs = Photographs(images, cut.network.preprocess)
    names = shuffled(photographs.names)[:limit]
    with show_progress() as progress:
        store = weights_of(cut.network, weights, progress)
    front_end = load_front_end(choose_runtime(), cut, store)
    moments = Moments(cut.shape[2])
    with bar("images", len(names)) as advance:
        for name in names:
            image = photographs.read(name)
            if image is not None:
                moments.add(front_end(image).chi)
            advance(1)
    for reason in photographs.skipped.values():
        click.echo(f"skipped: {reason}", err=True)
    if not moments.tensors:
        raise UsageError(f"none of the {len(names)} images in {images} can be used")
    about = {"split": full_name(cut), "images": moments.tensors, "command": "gradfec train-concealment"}
    try:
        write_concealment_file(out, cut, moments.learned(), json.dumps(about))
    except OSError as error:
        raise GradfecError(f"cannot write {out}: {error.strerror}") from None
    click.echo(json.dumps(about) if as_json else f"{out}: {out.stat().st_size:,} bytes, {moments.tensors:,} images")
