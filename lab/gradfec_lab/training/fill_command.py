"""`gradfec train-fill`: train the network that --fill learned runs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradfec_common.conceal import Learned
from gradfec_host.console import CONTEXT, plain_errors, resumable
from gradfec_host.writing import writing
from gradfec_lab.training.gap_training import GapOptions, gap_options, train

if TYPE_CHECKING:
    from gradfec_lab.training.fill import FillTraining


@click.command(name="train-fill", context_settings=CONTEXT)
@gap_options(
    "Layer whose features are compared.",
    out="File to write (.npz), with the network and the statistics.",
    most=0.9,
    steps=4000,
    rate=2e-3,
)
@click.option(
    "--learned",
    type=click.Path(path_type=Path),
    help="Statistics of the channels, made by gradfec train-concealment. [default: the shipped ones]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@plain_errors
@resumable()
def train_fill(learned: Path | None, as_json: bool, **options: Any) -> None:
    """Train the network of --fill learned (gradfec-cloud --learned FILE.npz). It needs PyTorch, and no labels.

    It corrects what --fill gaussian puts into gaps, so that the later features are those of the whole tensor. A
    checkpoint is kept every minute, and an interrupted run resumes there. One image in twenty, by its name, is held
    out; at the end, the agreement with the lossless network is measured on some of those.
    """
    from gradfec_common.networks import named_cut
    from gradfec_host.concealment_file import learned_for, write_concealment_file

    chosen = GapOptions(**options)
    known = learned_for(named_cut(chosen.split), [learned] if learned else [])
    tuning, about = train(chosen, "gaussian", known, 1.0, partial(open_training, known))
    network = tuning.tuned.arrays()
    with writing(chosen.out):
        write_concealment_file(chosen.out, tuning.cut, {**known, **network}, json.dumps(about))
    parameters = sum(array.size for array in network.values())
    if as_json:
        click.echo(json.dumps({**about, "parameters": parameters}))
        return
    for loss, share in about["agreement"]:
        click.echo(f"{loss:.0%} lost: agreement {share:.3f}")
    click.echo(f"{chosen.out}: {chosen.out.stat().st_size:,} bytes, {parameters:,} parameters of the network")


def open_training(known: Learned, *arguments: Any) -> FillTraining:
    """Open a training of the network, with PyTorch."""
    from gradfec_lab.training.fill import FillTraining

    return FillTraining(*arguments, learned=known)
