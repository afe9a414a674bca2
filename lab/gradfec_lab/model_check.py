"""`gradfec model check`: whether a model is fed as it was trained, and whether its halves answer as the whole does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradfec_common.errors import UsageError
from gradfec_host.console import plain_errors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gradfec_common.networks import Preprocess
    from gradfec_common.networks.imported import Imported
    from gradfec_host.models import Model
    from gradfec_host.models.session import OnnxSession

    Floats = npt.NDArray[np.float32]

AS_ADDED = "as it was added"
BETTER = 0.02  # by so much another preset must be better to be recommended
SURE = 0.5


@dataclass(frozen=True)
class Row:
    """One way to feed the model: the share of `right` answers if there are labels, and how sure it is on average."""

    preset: str
    sure: float
    right: float | None

    @property
    def worth(self) -> float:
        """What tells a good way from a bad one."""
        return self.sure if self.right is None else self.right


@click.command("check")
@click.argument("name")
@click.option(
    "--images", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder of photographs."
)
@click.option(
    "--labels", type=click.Path(path_type=Path), metavar="CSV", help="Their class indices: FILE,CLASS_INDEX a line."
)
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="How many photographs to use.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def check(name: str, images: Path, labels: Path | None, count: int, as_json: bool) -> None:
    """Tell whether a model is fed as it was trained: its answers for each preset of preprocessing.

    With labels, the share of right answers tells; without them, how sure the model is of its first answer. The halves
    of the default split are compared with the whole, too.
    """
    from gradfec_common.networks import NETWORKS
    from gradfec_common.networks.imported import Imported
    from gradfec_host.extras import need
    from gradfec_host.models import network_called
    from gradfec_host.models.store import open_model

    if name in NETWORKS:
        raise UsageError(f"{name} is built in: gradfec weights verifies it")
    network = network_called(name)
    assert isinstance(network, Imported)  # noqa: S101
    need("onnxruntime")
    model = open_model(name)
    rows, split = checked(model, images, labels, count)
    best = max(rows, key=lambda row: row.worth)
    wrong = best.worth > rows[0].worth + BETTER
    if as_json:
        listed = [{"preset": row.preset, "sure": row.sure, "top1": row.right} for row in rows]
        found = {"presets": listed, "best": best.preset, "halves_agree": split}
        click.echo(json.dumps(found))
        return
    for row in rows:
        right = "" if row.right is None else f"top-1 {row.right:6.1%}   "
        click.echo(f"{row.preset:16} {right}sure {row.sure:.2f}{'   <- best' if row is best else ''}")
    click.echo(f"the halves at {network.usual_cut.name} answer as the whole does for {split:.1%} of the photographs")
    if wrong:
        click.echo(
            f"{name} seems to be fed wrongly: add it again with --replace --preprocess {best.preset}", err=True
        )
        raise SystemExit(1)


def checked(model: Model, images: Path, labels: Path | None, count: int) -> tuple[list[Row], float]:
    """Return a row for the model as it is and for each preset, and the share of answers that its halves keep."""
    from dataclasses import replace

    from gradfec_host.models.presets import PRESETS
    from gradfec_host.models.session import OnnxSession
    from gradfec_lab.photographs import Photographs
    from gradfec_lab.sweep.labels import labels_of

    network = model.network
    names = Photographs(images, network.preprocess, count).names
    classes = int(network.facts["head"].get("classes", 0))
    if labels and not classes:
        raise UsageError(f"{network.name} has the head {network.head.name}, and --labels are for classes: leave it out")
    truth = labels_of(labels, names, classes) if labels else None
    whole = OnnxSession(model.whole(), network.name)
    ways = {AS_ADDED: network.preprocess}
    for preset, made in PRESETS.items():
        ways[preset] = replace(made, height=network.preprocess.height, width=network.preprocess.width)
    rows = []
    with click.progressbar(ways.items(), label="presets", file=click.get_text_stream("stderr")) as bar:
        for preset, preprocess in bar:
            outputs = _outputs(whole, network, Photographs(images, preprocess, count), names)
            rows.append(_row(preset, network, outputs, truth))
    return rows, _kept_by_halves(model, Photographs(images, network.preprocess, count), names, whole)


def _outputs(whole: OnnxSession, network: Imported, photographs: object, names: Sequence[str]) -> dict[str, Floats]:
    """Return what the head condenses of each usable photograph, by name."""
    from gradfec_common.networks.carried import apart
    from gradfec_common.networks.pixels import normalise
    from gradfec_lab.photographs import Photographs

    assert isinstance(photographs, Photographs)  # noqa: S101
    found = {}
    for name in names:
        picture = photographs.read(name)
        if picture is not None:
            fed = apart((network.fed,), normalise(picture, photographs.preprocess))
            found[name] = network.head.condense(_chosen(whole(*fed), whole, network))
    if not found:
        raise UsageError(f"no photograph in {photographs.folder} can be used: {next(iter(photographs.skipped.values()))}")
    return found


def _chosen(outputs: list[Floats], whole: OnnxSession, network: Imported) -> list[Floats]:
    """Return the outputs that the model answers with, in its order."""
    by_name = dict(zip(whole.outputs, outputs, strict=True))
    return [by_name[name] for name in network.outputs]


def _row(preset: str, network: Imported, outputs: dict[str, Floats], truth: dict[str, int] | None) -> Row:
    from statistics import fmean

    best = {name: network.head.answer(output, network.class_names).lines()[:1] for name, output in outputs.items()}
    sure = fmean(line[0][1] if line else 0.0 for line in best.values())
    right = None if truth is None else fmean(int(output.argmax()) == truth[name] for name, output in outputs.items())
    return Row(preset, sure, right)


def _kept_by_halves(model: Model, photographs: object, names: Sequence[str], whole: OnnxSession) -> float:
    from statistics import fmean

    from gradfec_common.networks.carried import apart, together
    from gradfec_common.networks.imported import ImportedCut
    from gradfec_common.networks.pixels import normalise
    from gradfec_host.models.session import OnnxSession
    from gradfec_host.models.store import BACK, FRONT
    from gradfec_lab.photographs import Photographs

    network, cut = model.network, model.network.usual_cut
    assert isinstance(photographs, Photographs) and isinstance(cut, ImportedCut)  # noqa: S101
    front, back = (OnnxSession(model.half(side, cut), f"the {side}") for side in (FRONT, BACK))
    kept = []
    for name in names[:20]:
        picture = photographs.read(name)
        if picture is None:
            continue
        fed = apart((network.fed,), normalise(picture, network.preprocess))
        crossing = together(cut.carried, front(*fed))
        halves = network.head.condense(back(*apart(cut.carried, crossing)))
        expected = network.head.condense(_chosen(whole(*fed), whole, network))
        answers = [network.head.answer(one, network.class_names) for one in (halves, expected)]
        kept.append(answers[0].lines()[:1] == answers[1].lines()[:1] or bool(abs(halves - expected).max() < 1e-3))
    return fmean(kept)
