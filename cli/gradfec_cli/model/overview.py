"""`gradfec model list` and `show`."""

from __future__ import annotations

import json
from typing import Any

import click

from gradfec_common.errors import GradfecError
from gradfec_common.networks.imported import Imported
from gradfec_host.codec_file import shipped_codec
from gradfec_host.completion import added_models, completing
from gradfec_host.console import plain_errors
from gradfec_host.models.find import imported_called
from gradfec_host.models.presets import levels_in_words
from gradfec_host.models.store import Model, added, models_folder, open_model
from gradfec_host.quality import DEFAULT_QUALITY
from gradfec_host.recent import kilobytes

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")


@click.command("list")
@as_json_option
@plain_errors
def command(as_json: bool) -> None:
    """List the models that were added."""
    found, broken = [], []
    for name in added():
        try:
            found.append(_facts(open_model(name).network))
        except GradfecError as error:  # noqa: PERF203
            broken.append(str(error))
    if as_json:
        click.echo(json.dumps({"models": found, "errors": broken}))
        return
    if not found and not broken:
        click.echo(f"no model in {models_folder()}: add one with gradfec model add FILE.onnx")
    for one in found:
        click.echo(f"{one['name']}: {one['input']}, {one['answers']}, split at {one['split']}, {one['digest'][:8]}")
    for why in broken:
        click.echo(why, err=True)


@click.command()
@click.argument("name", shell_complete=completing(added_models))
@click.option("--all", "all_cuts", is_flag=True, help="List all split points, also where more travels than earlier.")
@as_json_option
@plain_errors
def show(name: str, all_cuts: bool, as_json: bool) -> None:
    """Show a model: how it is fed, what it answers, and where it can be split."""
    print_model(opened(name), as_json=as_json, all_cuts=all_cuts)


def opened(name: str) -> Model:
    """Return a model that was added; UsageError if there is none."""
    imported_called(name)
    return open_model(name)


def _facts(network: Imported) -> dict[str, Any]:
    preprocess = network.preprocess
    return {
        "name": network.name,
        "digest": network.digest.hex(),
        "input": f"{preprocess.height} x {preprocess.width} {preprocess.order}, {preprocess.fit}, "
        f"{levels_in_words(preprocess)}",
        "answers": _answers(network),
        "split": network.usual_cut.name,
    }


def _answers(network: Imported) -> str:
    said = network.facts["head"]
    classes = said.get("classes")
    named = "" if not classes else f" {classes} classes, {'named' if network.class_names else 'without names'}"
    layout = f", from {said['layout']}: score {said['score']:g}, IoU {said['iou']:g}" if "layout" in said else ""
    return f"{network.head.name}{named}{layout}"


def print_model(made: Model, *, as_json: bool = False, all_cuts: bool = False) -> None:
    """Print what people, or with `as_json` programs, want to know of a model."""
    network = made.network
    cuts = network.cuts if all_cuts else network.narrowing
    if as_json:
        listed = [
            {"name": cut.name, "id": cut.id, "shape": list(cut.shape), "elements": cut.elements}
            | ({"bottleneck": dict(codec.about)} if (codec := shipped_codec(cut)) else {})
            for cut in network.cuts
        ]
        click.echo(json.dumps({**_facts(network), "folder": str(made.folder), "whole": made.is_whole, "cuts": listed}))
        return
    facts = _facts(network)
    click.echo(f"{network.name}, {facts['digest']}, in {made.folder}")
    click.echo(f"  input: {facts['input']}; answers: {facts['answers']}")
    if not made.is_whole:
        click.echo(f"  here is only {', '.join(f'the {side} at {cut.name}' for side, cut in made.held)}")
    rest = f" ({len(cuts)} of {len(network.cuts)}; --all for all)" if len(cuts) < len(network.cuts) else ""
    click.echo(f"  split points{rest}:")
    whole = network.cuts[0].elements
    widest = max(len(cut.name) for cut in cuts)
    for cut in cuts:
        shape = " x ".join(map(str, cut.shape))
        usual = "  <- default" if cut is network.usual_cut else ""
        click.echo(f"    {cut.name:{widest}}  {shape:>16}  {cut.elements / whole:7.1%} of the input{usual}")
    for codec in filter(None, map(shipped_codec, network.cuts)):
        kept = codec.measured(DEFAULT_QUALITY)
        worth = f": {kilobytes(kept.bytes)} a frame keep {kept.agreement:.0%} of the answers" if kept else ""
        digest = codec.latents.network.digest.hex()
        click.echo(f"  bottleneck at {codec.cut.name}, decoded to {codec.joins.name}, {digest[:8]}{worth}")
