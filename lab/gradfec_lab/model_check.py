"""`gradfec model check`: whether a model's input is prepared as in training, and its halves answer like the whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import click
import numpy as np
import numpy.typing as npt

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.heads import Answer, Classify, Raw, agreement
from gradfec_common.networks.imported import Imported, ImportedCut
from gradfec_common.networks.pixels import normalise
from gradfec_host.completion import added_models, completing
from gradfec_host.console import plain_errors
from gradfec_host.extras import need
from gradfec_host.models.find import imported_called
from gradfec_host.models.presets import PRESETS, resized
from gradfec_host.models.store import Model, open_model
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.labels import labels_of

if TYPE_CHECKING:
    from gradfec_cloud.backend import BackEnd

Floats = npt.NDArray[np.float32]

AS_ADDED = "as it was added"
BETTER = 0.02  # another preset must be better by this much to be recommended
OF_HALVES = 20  # photographs


class Row(NamedTuple):
    """One way to feed a model: the share of right answers if there are labels, and how sure it is on average."""

    preset: str
    sure: float
    top1: float | None

    @property
    def worth(self) -> float:
        """What tells a good way from a bad one."""
        return self.sure if self.top1 is None else self.top1


@click.command()
@click.argument("name", shell_complete=completing(added_models))
@click.option("--images", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder of photographs.")
@click.option(
    "--labels", type=click.Path(path_type=Path), metavar="CSV", help="Their class indices: FILE,CLASS_INDEX a line."
)
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="How many photographs to use.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def check(name: str, images: Path, labels: Path | None, count: int, as_json: bool) -> None:
    """Tell whether a model is fed as it was trained: its answers for each preset of preprocessing.

    With labels, the share of right answers tells; without them, how sure the model is of its first answer, which is no
    proof. The halves of the default split are compared with the whole, too.

    Exit status: 0 if it is fed well, 1 if another preset is better by more than two points.
    """
    need("onnxruntime")
    network, model = imported_called(name), open_model(name)
    model.need_whole("gradfec model check")
    truth = truth_of(network, labels, Photographs(images, network.preprocess, count).names)
    rows = checked(model, images, truth, count) if network.head.name != Raw.name else []
    kept = kept_by_halves(model, images)
    best = max(rows, key=lambda row: row.worth, default=None)
    wrong = best is not None and best.worth > rows[0].worth + BETTER
    if as_json:
        listed = [row._asdict() for row in rows]
        click.echo(json.dumps({"presets": listed, "best": best and best.preset, "well_fed": not wrong, "halves": kept}))
    else:
        for row in rows:
            right = "" if row.top1 is None else f"top-1 {row.top1:6.1%}   "
            click.echo(f"{row.preset:16} {right}sure {row.sure:.2f}{'   <- best' if row is best else ''}")
        if not rows:
            click.echo(f"{name} answers with tensors, which do not tell how well it is fed: look at some of them")
        click.echo(f"the halves at {model.network.usual_cut.name} agree with the whole: {kept:.1%}")
    if best and wrong:
        why = "is surer" if best.top1 is None else "is more often right"
        click.echo(
            f"{name} {why} with {best.preset}: if it was trained so, add it again with --replace "
            f"--preprocess {best.preset}, and the same other options",
            err=True,
        )
        raise SystemExit(1)


def checked(model: Model, images: Path, truth: Mapping[str, int] | None, count: int) -> list[Row]:
    """Return a row for the model as it is fed, and one for each preset; UsageError if no image can be used."""
    network = model.network
    whole = whole_of(model)
    ways = {AS_ADDED: network.preprocess}
    ways |= {preset: resized(said, network.preprocess.size) for preset, said in PRESETS.items()}
    rows = []
    with click.progressbar(ways.items(), label="presets", file=sys.stderr) as bar:
        for preset, preprocess in bar:
            photographs = Photographs(images, preprocess, count)
            outputs = {
                name: whole(normalise(pictures, preprocess))[0]
                for (name,), pictures in photographs.batches(photographs.names, 1)
            }
            if not outputs:
                raise no_use(photographs)
            rows.append(Row(preset, sure_of(network, outputs), None if truth is None else right_of(outputs, truth)))
    return rows


def whole_of(model: Model) -> BackEnd:
    """Return the whole network, as the back-end of a cut at its input."""
    from gradfec_cloud.backend import load_back_end

    return load_back_end("", model.network.cuts[0], model, 1)


def truth_of(network: Imported, labels: Path | None, names: list[str]) -> dict[str, int] | None:
    """Return the photographs' classes, None without a file of labels; UsageError if they are not for this network."""
    if labels is None:
        return None
    if not isinstance(network.head, Classify):
        raise UsageError(f"{network.name} has the head {network.head.name}: --labels are for classes, leave it out")
    return labels_of(labels, names, network.head.classes)


def no_use(photographs: Photographs) -> UsageError:
    """Return the error for a folder without a usable photograph."""
    return UsageError(f"no photograph can be used: {next(iter(photographs.skipped.values()))}")


def answer_of(network: Imported, output: Floats) -> Answer:
    """Return the answer in an output; GradfecError if it is not finite."""
    try:
        return network.head.answer(output, network.class_names)
    except ValueError as error:
        raise GradfecError(f"{network.name} does not answer with numbers: {error}") from None


def sure_of(network: Imported, outputs: Mapping[str, Floats]) -> float:
    """Return the mean score of the first line of each answer, 0 where there is none, or none that is finite."""
    finite = [output for output in outputs.values() if np.isfinite(output).all()]
    lines = [answer_of(network, output).lines() for output in finite] + [[]] * (len(outputs) - len(finite))
    return fmean(first[0][1] if first else 0.0 for first in lines)


def right_of(outputs: Mapping[str, Floats], truth: Mapping[str, int]) -> float:
    """Return the share of outputs whose highest class is the true one."""
    return fmean(int(output.argmax()) == truth[name] for name, output in outputs.items())


def kept_by_halves(model: Model, images: Path) -> float:
    """Return the agreement of the halves at the default split with the whole, over a few photographs.

    UsageError if none can be used, GradfecError if an answer is not finite.
    """
    from gradfec_cloud.backend import load_back_end
    from gradfec_edge.frontend import load_front_end

    network, cut = model.network, model.network.usual_cut
    assert isinstance(cut, ImportedCut)  # noqa: S101
    whole, front, back = whole_of(model), load_front_end("", cut, model), load_back_end("", cut, model, 1)
    photographs = Photographs(images, network.preprocess, OF_HALVES)

    def answers(picture: npt.NDArray[np.uint8]) -> Sequence[Floats]:
        return whole(normalise(picture, network.preprocess)[np.newaxis])[0], back(front(picture).chi[np.newaxis])[0]

    agreements = [
        agreement(*(answer_of(network, output) for output in answers(pictures[0])))
        for _, pictures in photographs.batches(photographs.names, 1)
    ]
    if not agreements:
        raise no_use(photographs)
    return fmean(agreements)
