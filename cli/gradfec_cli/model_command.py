"""`gradfec model`: bring a network as an ONNX file, look at it, and hand out its halves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.console import plain_errors

if TYPE_CHECKING:
    from gradfec_common.networks.imported import Imported
    from gradfec_host.models import Model

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
FILE = click.Path(path_type=Path)


class Size(click.ParamType[tuple[int, int]]):
    """HEIGHTxWIDTH, or one number for both."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read a size; fail with what it looks like."""
        if isinstance(value, tuple):
            return value
        height, x, width = str(value).lower().partition("x")
        if not height.isdecimal() or (x and not width.isdecimal()) or not 1 <= int(height) * int(width or 1) <= 2**26:
            self.fail(f"{value!r} is not HEIGHTxWIDTH, for example 480x640", param, ctx)
        return int(height), int(width or height)


class Colours(click.ParamType[tuple[float, float, float]]):
    """Three numbers, separated by commas."""

    name = "r,g,b"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float]:
        """Read them; fail with what they look like."""
        if isinstance(value, tuple):
            return value
        try:
            first, second, third = (float(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not three numbers, for example 127,127,127", param, ctx)
        return first, second, third


@click.group()
def model() -> None:
    """Bring your own network: add an ONNX file, check it, and run it split.

    \b
    gradfec model add yolo.onnx --labels coco.txt --preprocess unit
    gradfec model check yolo --images photos/
    gradfec-cloud --listen 9000 --model yolo
    gradfec-edge --camera /dev/video0 --cloud host:9000 --model yolo

    Both ends need the model. For a camera box, `gradfec model export --half edge` makes a folder with its half alone,
    which `gradfec model add` takes there.
    """


@model.command(
    "add", epilog="Exit status: 0 if the model was added, 1 if a file cannot be read, 2 if it cannot be used."
)
@click.argument("file", type=FILE)
@click.option("--name", help="Name of the model.  [default: the file's]")
@click.option("--labels", type=FILE, metavar="FILE", help="The classes' names: a line each, or a JSON list.")
@click.option(
    "--preprocess",
    default="imagenet-torch",
    show_default=True,
    metavar="PRESET",
    help="How pictures become the input: imagenet-torch, imagenet-tf (-1 to 1), imagenet-caffe, unit (0 to 1) or raw "
    "(0 to 255). `gradfec model check` tells which is right.",
)
@click.option("--fit", type=click.Choice(["squash", "crop", "pad"]), help="What to do with pictures of another shape.")
@click.option("--colours", type=click.Choice(["rgb", "bgr"]), help="Their order.")
@click.option("--mean", type=Colours(), help="What is subtracted, in levels of 0 to 255, in the order of the colours.")
@click.option("--std", type=Colours(), help="What the rest is divided by.")
@click.option("--size", type=Size(), metavar="HxW", help="Size of the input, if the file leaves it open.")
@click.option("--outputs", metavar="NAMES", help="Outputs to answer with, separated by commas.  [default: all]")
@click.option(
    "--head",
    metavar="HEAD",
    help="What the outputs mean: classify, or raw (the tensors themselves).  [default: found out]",
)
@click.option("--split", metavar="LAYER", help="Default split.  [default: an early one where little travels]")
@click.option("--replace", is_flag=True, help="Replace a model of the same name.")
@as_json_option
@plain_errors
def add(file: Path, name: str | None, replace: bool, as_json: bool, **options: Any) -> None:
    """Add a network: an ONNX file with one picture as its input, or a folder made by `gradfec model export`."""
    from gradfec_host.extras import need
    from gradfec_host.models.store import added, checked_name

    need("onnxruntime")
    name = checked_name(name or file.stem.lower().replace(" ", "-"))
    if name in added() and not replace:
        raise UsageError(f"there is a model {name} already: give --replace, or another --name")
    if file.is_dir():
        from gradfec_host.models.store import take_folder

        made = take_folder(file, name)
    else:
        need("onnx")
        made = _from_file(file, name, **options)
    _print(made, as_json=as_json, all_cuts=False)


def _from_file(
    file: Path,
    name: str,
    labels: Path | None,
    preprocess: str,
    fit: str | None,
    colours: str | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    size: tuple[int, int] | None,
    outputs: str | None,
    head: str | None,
    split: str | None,
) -> Model:
    from gradfec_host.models.add import Wanted, add_model
    from gradfec_host.models.graph import Graph
    from gradfec_host.models.labels import read_labels
    from gradfec_host.models.presets import preprocess_of

    graph = Graph.read(file, size)
    sides = (graph.dims[2], graph.dims[3]) if graph.layout == "nchw" else (graph.dims[1], graph.dims[2])
    return add_model(
        file,
        graph,
        Wanted(
            name,
            preprocess_of(preprocess, sides, fit, colours, mean, std),
            read_labels(labels) if labels else (),
            head,
            tuple(one.strip() for one in outputs.split(",")) if outputs else (),
            split,
        ),
    )


@model.command("list")
@as_json_option
@plain_errors
def list_models(as_json: bool) -> None:
    """List the models that were added."""
    from gradfec_host.models.store import added, models_folder, open_model

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


@model.command()
@click.argument("name")
@click.option("--all", "all_cuts", is_flag=True, help="List all split points, also where more travels than earlier.")
@as_json_option
@plain_errors
def show(name: str, all_cuts: bool, as_json: bool) -> None:
    """Show a model: how it is fed, what it answers, and where it can be split."""
    _print(_opened(name), as_json=as_json, all_cuts=all_cuts)


@model.command()
@click.argument("name")
@plain_errors
def remove(name: str) -> None:
    """Delete a model."""
    from gradfec_host.models.store import remove_model

    click.echo(f"removed {remove_model(name)}")


@model.command()
@click.argument("name")
@click.option("--half", type=click.Choice(["edge", "cloud"]), required=True, help="Whose half.")
@click.option("--split", metavar="LAYER", help="For this split.  [default: the model's]")
@click.option("--out", type=FILE, required=True, metavar="FOLDER", help="Folder to make.")
@plain_errors
def export(name: str, half: str, split: str | None, out: Path) -> None:
    """Write the half of a model that a machine needs, to be added there with `gradfec model add FOLDER`."""
    from gradfec_host.models.store import BACK, FRONT, export_half

    made = _opened(name)
    cut = made.network.cut(split) if split else made.network.usual_cut
    size = export_half(made, FRONT if half == "edge" else BACK, cut, out)
    click.echo(
        f"{out}: the {half}'s half of {name} at {cut.name}, {size / 1e6:.2f} MB; gradfec model add {out} takes it"
    )


def _opened(name: str) -> Model:
    from gradfec_common.networks import NETWORKS
    from gradfec_host.models.store import added, open_model

    if name in NETWORKS:
        raise UsageError(f"{name} is built in: gradfec weights shows it")
    if name not in added():
        there = ", ".join(added()) or "none"
        raise UsageError(f"no model {name!r} was added: there is {there}")
    return open_model(name)


def _facts(network: Imported) -> dict[str, Any]:
    preprocess = network.preprocess
    return {
        "name": network.name,
        "digest": network.digest.hex(),
        "input": f"{preprocess.height} x {preprocess.width} {preprocess.order}, {preprocess.fit}",
        "answers": _answers(network),
        "split": network.usual_cut.name,
    }


def _answers(network: Imported) -> str:
    classes = network.facts["head"].get("classes")
    named = "" if not classes else f" {classes} classes, {'named' if network.class_names else 'without names'}"
    return f"{network.head.name}{named}"


def _print(made: Model, *, as_json: bool, all_cuts: bool) -> None:
    network = made.network
    cuts = network.cuts if all_cuts else network.narrowing
    if as_json:
        listed = [
            {"name": cut.name, "id": cut.id, "shape": list(cut.shape), "elements": cut.elements} for cut in network.cuts
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
