"""`gradfec sweep protection`: how losses change the answers under each policy. The paper's Figure 6."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import click

from gradfec_cli.options import packets_option
from gradfec_common.errors import UsageError
from gradfec_host.console import plain_errors
from gradfec_lab.sweep.arguments import (
    FILL_HELP,
    names_list,
    read_estimators,
    read_fills,
    read_policies,
    read_quantisers,
    read_share,
)
from gradfec_lab.sweep.losses import IID
from gradfec_lab.sweep.protection_points import ProtectionSweep, Variants
from gradfec_lab.sweep.protection_report import report
from gradfec_lab.sweep.study import CONTEXT, Study, study_options

POLICIES = "none,FEC_10_90,FEC_20_80,FEC_30_70,FEC_40_60,FEC_50_50"
LOSSES = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"


@click.command(context_settings=CONTEXT)
@plain_errors
@study_options
@click.option("--protect", default=POLICIES, metavar="POLICIES", help="Policies to compare: none, FEC_A_B, nested.")
@click.option("--loss", default=LOSSES, metavar="SHARES", help="Shares of the datagrams to lose.")
@click.option("--burst", default=IID, metavar="LENGTHS", help="Mean lengths of a burst; iid or 1: independent losses.")
@click.option(
    "--fec",
    default="zfec",
    metavar="CODES",
    help="zfec, in groups of its default size; zfec:256, in groups of 256 datagrams; leopard, over the whole tensor.",
)
@click.option("--codec", default="uniform8", metavar="NAMES", help="Quantisers: uniform8, sqrt4 and so on.")
@packets_option()
@click.option(
    "--importance",
    "estimators",
    metavar="NAMES",
    help="Estimators that rank the packets. [default: the edge's default]",
)
@click.option("--fill", default="zero", metavar="NAMES", help=FILL_HELP)
@click.option("--repetitions", default=10, type=click.IntRange(1), help="Draws of the losses for each image.")
@click.option("--masks", type=click.Path(path_type=Path), help="Replay the losses of another sweep's losses.npz.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def protection(
    study: Study,
    protect: str,
    loss: str,
    burst: str,
    fec: str,
    codec: str,
    packets_a_datagram: int | None,
    estimators: str | None,
    fill: str,
    repetitions: int,
    masks: Path | None,
    as_json: bool,
) -> None:
    """Lose datagrams, with and without protection, and see whether the answer stays the same (the paper's Figure 6).

    All policies get the same losses. A loss that is impossible with bursts of some length is left out, and listed.
    """
    from gradfec_edge.importance import DEFAULT_ESTIMATOR

    variants = Variants(
        quantisers=read_quantisers(codec, study.cut),
        packets_a_datagram=packets_a_datagram,
        codes=names_list(fec),
        policies=read_policies(protect),
        estimators=read_estimators(estimators or DEFAULT_ESTIMATOR, "--importance", labelled=study.truth is not None),
        fills=read_fills(fill),
    )
    losses = sorted({read_share("--loss", part) for part in names_list(loss)})
    sweep = ProtectionSweep(study, variants, [*product(read_bursts(burst), losses)], repetitions, masks)
    report(sweep).show(as_json)


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
