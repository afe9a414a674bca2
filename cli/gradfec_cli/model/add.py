"""`gradfec model add`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from gradfec_cli.model.overview import as_json_option, print_model
from gradfec_common.errors import UsageError
from gradfec_common.networks.network import FITS, ORDERS
from gradfec_host.console import plain_errors
from gradfec_host.extras import need
from gradfec_host.models.learned import learned_files
from gradfec_host.models.store import added, checked_name, models_folder, take_folder

if TYPE_CHECKING:
    from gradfec_host.models import Model

FILE = click.Path(path_type=Path)
THRESHOLD = click.FloatRange(0, 1, min_open=True)


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
            first = second = third = math.nan
        if not all(map(math.isfinite, (first, second, third))):
            self.fail(f"{value!r} is not three numbers, for example 127,127,127", param, ctx)
        return first, second, third


@click.command(epilog="Exit status: 0 if the model was added, 1 if a file cannot be read, 2 if it cannot be used.")
@click.argument("file", type=FILE)
@click.option("--name", help="Name of the model.  [default: the file's]")
@click.option(
    "--labels",
    type=FILE,
    metavar="FILE|imagenet",
    help="The classes' names: a file with a line each, or a JSON list; imagenet: the 1000 classes of ImageNet.",
)
@click.option(
    "--preprocess",
    default="imagenet-torch",
    show_default=True,
    metavar="PRESET",
    help="How pictures become the input: imagenet-torch, imagenet-tf (-1 to 1), imagenet-caffe, unit (0 to 1) or raw "
    "(0 to 255). `gradfec model check` tells which is right.",
)
@click.option("--fit", type=click.Choice(FITS), help="What to do with pictures of another shape.")
@click.option("--colours", type=click.Choice(ORDERS), help="Their order.")
@click.option("--mean", type=Colours(), help="What is subtracted, in levels of 0 to 255, in the order of the colours.")
@click.option("--std", type=Colours(), help="What the rest is divided by.")
@click.option("--size", type=Size(), metavar="HxW", help="Size of the input, if the file leaves it open.")
@click.option("--outputs", metavar="NAMES", help="Outputs to answer with, separated by commas.  [default: all]")
@click.option(
    "--head",
    metavar="HEAD",
    help="What the outputs mean: classify, detect, or raw (the tensors themselves); or detect with one of its layouts: "
    "detect:yolov8, and yolov5, centernet, ssd, labelled, end-to-end.  [default: found out]",
)
@click.option("--score", type=THRESHOLD, metavar="SHARE", help="Boxes need this score.  [default: the layout's]")
@click.option(
    "--iou",
    type=THRESHOLD,
    metavar="SHARE",
    help="Of boxes that overlap by more than this, one stays.  [default: the layout's]",
)
@click.option("--split", metavar="LAYER", help="Default split.  [default: an early one where little travels]")
@click.option("--replace", is_flag=True, help="Replace a model of the same name.")
@as_json_option
@plain_errors
def add(file: Path, name: str | None, replace: bool, as_json: bool, **options: Any) -> None:
    """Add a network: an ONNX file with one picture as its input, or a folder made by `gradfec model export`."""
    need("onnxruntime")
    name = checked_name(name or file.stem.lower().replace(" ", "-"))
    if name in added() and not replace:
        raise UsageError(f"there is a model {name} already: give --replace, or another --name")
    had = learned_files(models_folder() / name)
    if file.is_dir():
        _refuse(file, options)
        made = take_folder(file, name)
    else:
        need("onnx")
        made = _from_file(file, name, **options)
    print_model(made, as_json=as_json)
    if had and not learned_files(made.folder):
        click.echo(
            f"what was learned of the model that it replaces is gone: gradfec model learn {name}, gradfec train-codec "
            f"--model {name}",
            err=True,
        )


def _refuse(folder: Path, options: Mapping[str, Any]) -> None:
    """Raise UsageError if there are options that say what a folder says already."""
    source = click.get_current_context().get_parameter_source
    given = [f"--{name}" for name in options if source(name) is ParameterSource.COMMANDLINE]
    if given:
        raise UsageError(
            f"{folder} was exported from a model: give {', '.join(given)} where that is added, and export it again"
        )


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
    score: float | None,
    iou: float | None,
) -> Model:
    from gradfec_host.models.add import Wanted, add_model
    from gradfec_host.models.graph import Graph
    from gradfec_host.models.presets import preprocess_of

    graph = Graph.read(file, size)
    height, width, _ = graph.fed.shape
    return add_model(
        file,
        graph,
        Wanted(
            name,
            preprocess_of(preprocess, (height, width), fit, colours, mean, std),
            _names(labels),
            head,
            tuple(one.strip() for one in outputs.split(",")) if outputs else (),
            split,
            {name: share for name, share in (("score", score), ("iou", iou)) if share is not None},
        ),
    )


def _names(labels: Path | None) -> tuple[str, ...]:
    """Return the classes' names, in their order."""
    from gradfec_cloud.labels import labels_of
    from gradfec_common.networks.resnet50 import RESNET50
    from gradfec_host.models.labels import read_labels

    if labels is None:
        return ()
    return labels_of(RESNET50) if labels == Path(RESNET50.labels) and not labels.exists() else read_labels(labels)
