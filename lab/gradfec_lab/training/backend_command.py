"""`gradfec train-backend`: tune the first layers after a cut to tensors with gaps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from gradfec_host.console import CONTEXT, plain_errors, resumable
from gradfec_host.writing import writing
from gradfec_lab.training.gap_training import GapOptions, gap_options, train

if TYPE_CHECKING:
    from gradfec_lab.training.back_end import Tuning

FEATURES_ALONE = 0.8  # the share of the steps that compare features alone


@click.command(name="train-backend", context_settings=CONTEXT)
@gap_options("Last layer that is tuned.", out="Back-end to write (.npz).", most=0.7, steps=4000, rate=3e-4)
@click.option("--fill", default="zero", metavar="NAME", help="How gaps are filled before the back-end sees them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@plain_errors
@resumable()
def train_backend(fill: str, as_json: bool, **options: Any) -> None:
    """Train a back-end that expects gaps (gradfec-cloud --backend FILE.npz). It needs PyTorch, and no labels.

    The first layers after the cut learn to give the features, and with the rest of the network the answers, that they
    would give without losses. A checkpoint is kept every minute, and an interrupted run resumes there. One image in
    twenty, by its name, is held out; at the end, the agreement with the lossless network is measured on some of those.
    """
    from gradfec_common.networks import named_cut
    from gradfec_host.concealment_file import learned_for
    from gradfec_host.tuned import BackEndFile

    chosen = GapOptions(**options)
    tuning, about = train(chosen, fill, learned_for(named_cut(chosen.split)), FEATURES_ALONE, open_tuning)
    arrays = {name: array.astype(np.float16) for name, array in tuning.tuned.arrays().items()}
    file = BackEndFile(str(chosen.out), about, arrays)
    with writing(chosen.out):
        file.write()
    if as_json:
        click.echo(json.dumps({**about, "parameters": file.parameters}))
        return
    for loss, share in about["agreement"]:
        click.echo(f"{loss:.0%} lost: agreement {share:.3f}")
    click.echo(f"{chosen.out}: {chosen.out.stat().st_size:,} bytes, {file.parameters:,} parameters")


def open_tuning(*arguments: Any) -> Tuning:
    """Open a training of a back-end, with PyTorch."""
    from gradfec_lab.training.back_end import Tuning

    return Tuning(*arguments)
