"""`gradfec model export` and `remove`."""

from __future__ import annotations

from pathlib import Path

import click

from gradfec_cli.model.overview import opened
from gradfec_host.codec_file import shipped_codec
from gradfec_host.completion import added_models, completing
from gradfec_host.console import plain_errors
from gradfec_host.models.store import BACK, FRONT, export_half, remove_model


@click.command()
@click.argument("name", shell_complete=completing(added_models))
@plain_errors
def remove(name: str) -> None:
    """Delete a model."""
    click.echo(f"removed {remove_model(name)}")


@click.command()
@click.argument("name", shell_complete=completing(added_models))
@click.option("--half", type=click.Choice(["edge", "cloud"]), required=True, help="Whose half.")
@click.option("--split", metavar="LAYER", help="For this split.  [default: the model's]")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="Folder to make.")
@plain_errors
def export(name: str, half: str, split: str | None, out: Path) -> None:
    """Write the half of a model that a machine needs, to be added there with `gradfec model add FOLDER`."""
    made = opened(name)
    cut = made.network.cut(split) if split else made.network.usual_cut
    codec = shipped_codec(cut)
    joined = [codec.joins] if codec and half == "cloud" and codec.joins is not cut else []
    size = export_half(made, FRONT if half == "edge" else BACK, cut, out, joined)
    with_codec = " with its bottleneck," if codec else ""
    click.echo(
        f"{out}: the {half}'s half of {name} at {cut.name},{with_codec} {size / 1e6:.2f} MB; gradfec model add {out} "
        "takes it"
    )
