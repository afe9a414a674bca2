"""`gradfec show`: a photograph, its features, which packets matter, and what a plan and a link do to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradfec_cli.options import burst_option, codec_option, fec_option, packets_option
from gradfec_cli.oracle import ORACLE
from gradfec_cli.quantities import percentage
from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.completion import completing, models
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_host.extras import need

if TYPE_CHECKING:
    from gradfec_cli.experiment import Link
    from gradfec_cli.explanation import Explanation, Floats, Image
    from gradfec_common.networks import Cut
    from gradfec_common.packets import PacketGrid
    from gradfec_edge.coding import Coding
    from gradfec_host.models import Model

    Explain = Callable[[Image, Sequence[str], Coding, int, Link | None], Explanation]

SUFFIXES = (".png", ".svg", ".pdf", ".html")


@click.command(context_settings=CONTEXT)
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Or .svg, .pdf; .html for a page with explanations.  [default: IMAGE's name with -show.png, in this folder]",
)
@click.option(
    "--importance",
    "names",
    multiple=True,
    metavar="NAME",
    help="Estimator to compare with the oracle; may be repeated.  [default: the edge's]",
)
@click.option("--protect", default="FEC_60_40", metavar="POLICY", help="none, FEC_A_B, or nested:k1,k2,...")
@fec_option()
@codec_option
@packets_option("fit")
@click.option(
    "--loss",
    default="50%",
    type=percentage,
    metavar="SHARE",
    help="Share of the datagrams that the link loses; 0: no link.",
)
@burst_option
@click.option(
    "--label", metavar="CLASS", type=click.IntRange(0, 999), help="Explain this class.  [default: the network's answer]"
)
@click.option(
    "--rows",
    type=click.IntRange(1, 255),
    help="Rows of a channel in each packet.  [default: 7 of 56; of other heights, about as large a packet]",
)
@click.option(
    "--model",
    metavar="NAME",
    shell_complete=completing(models),
    help="Network to run: resnet50, or one that was added by gradfec model add.  [default: resnet50]",
)
@click.option(
    "--split",
    metavar="LAYER",
    help="Where the network is cut.  [default: conv2_block1_add; of an added model, what gradfec model show names]",
)
@click.option(
    "--weights", type=click.Path(path_type=Path), metavar="FILE", help="Use these weights instead of the cached ones."
)
@click.option(
    "--seed", default=0, type=click.IntRange(min=0), help="Seed for the losses and for the estimator `random`."
)
@click.option("--full", is_flag=True, help="Draw all panels: also the link, and the plan that the gradient would make.")
@plain_errors
def show(
    image: Path,
    out: Path | None,
    names: tuple[str, ...],
    protect: str,
    fec: str,
    codec: str,
    packets_a_datagram: int | None,
    loss: float,
    burst: float,
    label: int | None,
    rows: int | None,
    model: str | None,
    split: str | None,
    weights: Path | None,
    seed: int,
    full: bool,
) -> None:
    """Draw a photograph, its features, what the plan does to them, and what a lossy link delivers.

    The first row of the figure shows the photograph as the network sees it, its features, and which of them matter by
    the network's own gradient (Grad-CAM, the oracle). The second row is the edge's: which features matter as it
    estimates it, what the plan does with each packet (dropped, protected, sent bare), and what the cloud has after the
    link has lost datagrams: arrived, recovered by parity, or missing. A tile is a channel, and a strip in it a packet.
    Above each panel is the network's answer, with 0 in place of missing packets. What a detector finds is drawn on the
    photograph, with nothing lost and after the losses; its answer is how many boxes there are, and their F1 against
    those with nothing lost. A network that was added needs PyTorch for its gradient.

    \b
    gradfec show cat.jpg
    gradfec show cat.jpg --out cat.html --full --loss 30% --burst 16
    gradfec show cat.jpg --out cat.pdf --protect FEC_70_30 --importance activation --loss 0
    gradfec show street.jpg --model yolo --loss 20%
    """
    out = out or Path(f"{image.stem}-show.png")
    check_out(out)
    need("matplotlib")

    from rich.console import Console

    from gradfec_cli.experiment import Link
    from gradfec_common.networks import DEFAULT_NETWORK
    from gradfec_common.preprocess import to_input
    from gradfec_common.quantisers import chosen_quantiser
    from gradfec_edge.camera import read_image
    from gradfec_edge.coding import coding_of
    from gradfec_host.models.find import cut_called, usual_cut_of

    cut = cut_called(split, model) if split else usual_cut_of(model or DEFAULT_NETWORK)
    explain = explainer_of(cut, names, label, weights)
    quantiser = chosen_quantiser(codec, cut).name  # of features: `auto` is no bottleneck here
    coding = coding_of(cut, rows, quantiser, protect, fec, packets_a_datagram)
    estimators = estimators_of(names, cut, coding.grid, seed)
    link = Link(loss, burst if burst > 1 else None, seed) if loss else None
    photograph = to_input(read_image(image), cut.network.preprocess)
    console = Console(stderr=True, highlight=False)
    with console.status("running the network and the estimators"):
        explanation = explain(photograph, estimators, coding, seed, link)
    with console.status("drawing"):
        write_drawing(explanation, image.name, full, out)
    for line in report(explanation):
        click.echo(line)
    click.echo(f"drawn: {out}", err=True)


def estimators_of(names: Sequence[str], cut: Cut, grid: PacketGrid, seed: int) -> list[str]:
    """Return the estimators to compare with the oracle, which is always there, if it can be; UsageError."""
    import numpy as np

    from gradfec_edge.importance import default_estimator, make_estimator

    estimators = [name for name in dict.fromkeys(names or [default_estimator(cut, grid)]) if name != ORACLE]
    for name in estimators:  # fail early: loading TensorFlow takes seconds
        make_estimator(name, cut, grid, np.random.default_rng(seed))
    return estimators


def write_drawing(explanation: Explanation, photograph: str, full: bool, out: Path) -> None:
    """Draw a figure, or a page if `out` ends in .html; GradfecError if it cannot be written."""
    from gradfec_cli.show_figure import draw, save, write

    if out.suffix.lower() == ".html":
        from gradfec_cli.show_page import page

        write(page(explanation, photograph, full).encode(), out)
    else:
        save(draw(explanation, photograph, full), out)


def explainer_of(cut: Cut, names: Sequence[str], label: int | None, weights: Path | None) -> Explain:
    """Return what explains a photograph at a cut; UsageError if an option needs a gradient, and there is none."""
    from gradfec_common.networks.imported import Imported

    if not isinstance(cut.network, Imported):
        need("tensorflow")
        return partial(_explain_built_in, label, weights)
    name = cut.network.name
    if label is not None or weights is not None:
        raise UsageError(f"{name} was added: --label and --weights are for networks that are built in")
    need("onnxruntime")
    from gradfec_cli.explanation import explain_imported
    from gradfec_host.models.store import open_model

    model = open_model(name)
    return partial(explain_imported, model, _oracle(cut, model, required=ORACLE in names))


def _oracle(cut: Cut, model: Model, required: bool) -> Callable[[Floats], Floats] | None:
    """Return Grad-CAM for a network that was added; without it None, or UsageError if it is required."""
    gradients = import_module("gradfec_lab.gradients")  # the lab is above the commands, which only name it
    try:
        found = gradients.Gradients(cut, model)
    except UsageError as error:
        if required:
            raise UsageError(f"{error}; or leave out --importance {ORACLE}") from None
        click.echo(f"no Grad-CAM: {error}", err=True)
        return None
    return lambda chi: found(chi).elements


def _explain_built_in(
    label: int | None,
    weights: Path | None,
    image: Image,
    estimators: Sequence[str],
    coding: Coding,
    seed: int,
    link: Link | None,
) -> Explanation:
    from gradfec_cli.explanation import explain
    from gradfec_host.weights import ensure_weights
    from gradfec_host.weights.progress import show_progress

    with show_progress() as fetching:
        store = ensure_weights(coding.cut.network, weights, fetching)
    return explain(store, label, image, estimators, coding, seed, link)


def report(explanation: Explanation) -> Iterator[str]:
    """Yield what the network answers without losses, without protection, and with each plan."""
    yield f"lossless: {explanation.lossless}"
    if explanation.losses:
        yield f"without protection, {explanation.losses}: {explanation.verdict(explanation.losses.bare)}"
    for ranking in explanation.rankings:
        yield f"{explanation.policy} by {ranking.name}: {explanation.verdict(ranking.answer)}"
        if ranking.delivery:
            yield f"  {explanation.losses}: {explanation.verdict(ranking.delivery.answer)}"
    if explanation.rankings[0].name != ORACLE:
        yield f"{explanation.coding.cut.network.name} has no gradient here: which features really matter is not shown"
    yield in_short(explanation)


def in_short(explanation: Explanation) -> str:
    """Say in one sentence what the plan and the link make of the answer."""
    ranking = explanation.rankings[-1]  # an estimator's, unless there is only the oracle's
    if explanation.losses is None or ranking.delivery is None:
        sent = ranking.plan.total - len(ranking.plan.dropped)
        return (
            f"in short: with {sent} of {ranking.plan.total} packets, as {explanation.policy} sends them, the answer is "
            f"{explanation.verdict(ranking.answer)}"
        )
    bare, protected = map(explanation.verdict, (explanation.losses.bare, ranking.delivery.answer))
    return (
        f"in short: over a link with {explanation.losses}, the answer is {bare} without protection, and {protected} "
        f"with {explanation.policy}"
    )


def check_out(out: Path) -> None:
    """Raise UsageError if the suffix is not in SUFFIXES, GradfecError if the file clearly cannot be written."""
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {out} is not a figure: its name must end in one of {', '.join(SUFFIXES)}")
    if out.is_dir():
        raise GradfecError(f"cannot write {out}: it is a folder")
    if not out.parent.is_dir():
        raise GradfecError(f"cannot write {out}: there is no folder {out.parent}")
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise GradfecError(f"cannot write {out}: permission denied")
