"""`gradfec sweep protection`: how losses change the answers under each policy. The paper's Figure 6."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import click

from gradfec_cli.options import packets_option
from gradfec_common.errors import UsageError
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_lab.sweep.arguments import (
    FILL_HELP,
    names_list,
    read_estimators,
    read_fills,
    read_policies,
    read_quantisers,
    read_share,
)
from gradfec_lab.sweep.equal_bytes import comparison
from gradfec_lab.sweep.equal_bytes.comparison import TUNE_IMAGES
from gradfec_lab.sweep.equal_bytes.report import compared
from gradfec_lab.sweep.losses import IID
from gradfec_lab.sweep.protection_points import Link, ProtectionSweep, Variants
from gradfec_lab.sweep.protection_report import report
from gradfec_lab.sweep.study import Study, back_end_option, study_options

POLICIES = "none,FEC_10_90,FEC_20_80,FEC_30_70,FEC_40_60,FEC_50_50"
CODEC = "uniform8"
REPETITIONS = 10
LOSSES = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"


@click.command(context_settings=CONTEXT)
@plain_errors
@study_options
@back_end_option
@click.option("--protect", default=POLICIES, metavar="POLICIES", help="Policies to compare: none, FEC_A_B, nested.")
@click.option(
    "--bytes",
    "sizes",
    metavar="NUMBERS",
    help="Compare codecs with their best plans at these bytes a frame, all bytes: 6000,12000,25000. The options "
    "--protect, --fec, --packets-per-datagram, --importance, --fill, --backend and --masks do not apply.",
)
@click.option(
    "--tune",
    type=click.Path(path_type=Path),
    help="Folder of images on which --bytes chooses the plans. [default: --images]",
)
@click.option(
    "--tune-images",
    default=TUNE_IMAGES,
    type=click.IntRange(1),
    help="Choose plans on this many: drawn with the seed from --tune, or the first of --images, then not measured.",
)
@click.option(
    "--loss", metavar="SHARES", help=f"Shares of the datagrams to lose. [default: {LOSSES}; with --bytes, up to 0.8]"
)
@click.option(
    "--burst",
    metavar="LENGTHS",
    help=f"Mean lengths of a burst; iid or 1: independent losses. [default: {IID}; with --bytes, {comparison.BURSTS}]",
)
@click.option(
    "--fec",
    default="zfec",
    metavar="CODES",
    help="zfec, in groups of its default size; zfec:256, in groups of 256 datagrams; leopard, over the whole tensor.",
)
@click.option(
    "--codec",
    metavar="NAMES",
    help="Quantisers: uniform8, sqrt4 and so on. With --bytes: bottleneck or FILE.npz, jpeg, webp, avif, progressive, "
    f"and paper, the paper's mode at its own bytes. [default: {CODEC}; with --bytes, {comparison.CODECS}]",
)
@packets_option()
@click.option(
    "--importance",
    "estimators",
    metavar="NAMES",
    help="Estimators that rank the packets. [default: the edge's default]",
)
@click.option("--fill", default="zero", metavar="NAMES", help=FILL_HELP)
@click.option(
    "--repetitions",
    type=click.IntRange(1),
    help=f"Draws of the losses for each image. [default: {REPETITIONS}; with --bytes, {comparison.REPETITIONS}]",
)
@click.option("--masks", type=click.Path(path_type=Path), help="Replay the losses of another sweep's losses.npz.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def protection(
    study: Study,
    protect: str,
    sizes: str | None,
    tune: Path | None,
    tune_images: int,
    loss: str | None,
    burst: str | None,
    fec: str,
    codec: str | None,
    packets_a_datagram: int | None,
    estimators: str | None,
    fill: str,
    repetitions: int | None,
    masks: Path | None,
    as_json: bool,
) -> None:
    """Lose datagrams, with and without protection, and see whether the answer stays the same (the paper's Figure 6).

    All policies get the same losses. A loss that is impossible with bursts of some length is left out, and listed.

    With --bytes, each codec gets the plan that is best for it at each loss, out of a small grid of qualities, code
    rates and lengths of datagrams. Plans are chosen by the answers to other images than those that are measured; the
    frames of those take these bytes on average. A frame of which nothing arrives has no answer, which is wrong.
    """
    if sizes is not None:
        measured, tuning = comparison.divided(study, tune, tune_images)
        codecs = comparison.read_fine_codecs(codec or comparison.CODECS, study.cut, study.grid.rows)
        links = read_links(burst or comparison.BURSTS, loss or comparison.LOSSES)
        asked = comparison.Comparison(
            measured, tuning, codecs, comparison.read_sizes(sizes), links, repetitions or comparison.REPETITIONS
        )
        compared(asked).show(as_json)
        return
    from gradfec_edge.importance import DEFAULT_ESTIMATOR

    variants = Variants(
        quantisers=read_quantisers(codec or CODEC, study.cut),
        packets_a_datagram=packets_a_datagram,
        codes=names_list(fec),
        policies=read_policies(protect),
        estimators=read_estimators(estimators or DEFAULT_ESTIMATOR, "--importance", labelled=study.truth is not None),
        fills=read_fills(fill),
    )
    links = read_links(burst or IID, loss or LOSSES)
    sweep = ProtectionSweep(study, variants, links, repetitions or REPETITIONS, masks)
    report(sweep).show(as_json)


def read_links(bursts: str, losses: str) -> list[Link]:
    """Read mean burst lengths and losses, and return every combination; UsageError."""
    shares = sorted({read_share("--loss", part) for part in names_list(losses)})
    return [*product(read_bursts(bursts), shares)]


def read_bursts(text: str) -> list[str]:
    """Read mean burst lengths, `iid,8,20`; UsageError for one below 1."""
    bursts = []
    for part in names_list(text):
        try:
            length = 1.0 if part.lower() == IID else float(part)
        except ValueError:
            length = 0.0
        if not 1 <= length < 1e6:
            raise UsageError(f"--burst: {part!r} is not a mean length of a burst: use iid, or a number of at least 1")
        bursts.append(IID if length == 1 else f"{length:g}")
    return [*dict.fromkeys(bursts)]
