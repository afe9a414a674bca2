"""`gradfec sweep concealment`: which concealment keeps the answer, alone and behind parity. DFTS2's grid."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from gradfec_common.conceal import CONCEALMENTS
from gradfec_common.quantisers import chosen_quantiser
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_lab.sweep.arguments import FILL_HELP, read_estimators, read_fills, read_policies
from gradfec_lab.sweep.concealment_points import TIMED, ConcealmentSweep, number
from gradfec_lab.sweep.losses import IID
from gradfec_lab.sweep.protection import read_links
from gradfec_lab.sweep.report import Grid, Report, Row, lossless, measure, pivot, shares_and_intervals
from gradfec_lab.sweep.statistics import Bootstrap, interval
from gradfec_lab.sweep.study import Study, learned_fingerprints, study_options

FILLS = ",".join(name for name in CONCEALMENTS if name not in {"mask", "silrtc", "halrtc"})
POLICIES = "dfts,none,FEC_20_80,FEC_50_50,auto"
KEYS = ("policy", "fill", "burst", "loss")


@click.command(context_settings=CONTEXT)
@plain_errors
@study_options
@click.option("--fill", default=FILLS, metavar="NAMES", help=f"{FILL_HELP} silrtc and halrtc take seconds a frame.")
@click.option(
    "--protect",
    default=POLICIES,
    metavar="POLICIES",
    help="dfts: no parity, in DFTS2's order of packets. The others, of at most as many bytes: none, FEC_A_B, and auto, "
    "which knows the link.",
)
@click.option("--loss", default="0.01,0.1,0.2,0.3,0.4", metavar="SHARES", help="Shares of the datagrams to lose.")
@click.option(
    "--burst", default=f"{IID},5,20", metavar="LENGTHS", help="Mean lengths of a burst; iid or 1: independent."
)
@click.option("--codec", default="uniform8", metavar="NAME", help="Quantiser.")
@click.option("--importance", default="activation", metavar="NAME", help="Estimator that ranks the packets.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def concealment(
    study: Study, fill: str, protect: str, loss: str, burst: str, codec: str, importance: str, as_json: bool
) -> None:
    """Lose datagrams, fill the gaps in several ways, and see whether the answer stays the same.

    One packet a datagram, and the same losses for all. With bursts, losses are those of a Gilbert-Elliott model. The
    milliseconds are those of the concealment alone, for frames with a share of the packets missing at random.
    """
    (estimator,) = read_estimators(importance, "--importance", labelled=study.truth is not None)[:1]
    sweep = ConcealmentSweep(
        study,
        chosen_quantiser(codec, study.cut),
        read_policies(protect),
        estimator,
        read_fills(fill),
        read_links(burst, loss),
    )
    report(sweep).show(as_json)


def report(sweep: ConcealmentSweep) -> Report:
    """Compute what is missing, and report everything, also into the study's folder if it has one."""
    study, points = sweep.study, sweep.points()
    numbers = [number(fill) for fill in sweep.fills]
    with study.store("concealment", codec=sweep.quantiser.name, importance=sweep.estimator) as store:
        store.vouch(learned_fingerprints(study.cut))
        sweep.recorded.draw(sweep.links, study.seed)
        sweep.recorded.save(store.folder / "losses.npz")
        names = study.run(store, [sweep.estimator], dict.fromkeys(points, 1), sweep.cases, sweep.milliseconds, numbers)
        bootstrap = Bootstrap(len(names))
        rows = measure(store, names, points, 1, study.truth, bootstrap).rows()
        times = store.numbers(names, numbers)
        members: dict[str, Any] = {
            **study.about(store, names),
            "lossless_top1": lossless(store, names, study.truth),
            "codec": sweep.quantiser.name,
            "frame_bytes": sweep.costs(),
            "milliseconds": dict(zip(sweep.fills, np.median(times, axis=0).round(1).tolist(), strict=True)),
            "milliseconds_ci": dict(
                zip(sweep.fills, interval(bootstrap.means(times)).T.round(1).tolist(), strict=True)
            ),
            **shares_and_intervals(rows, KEYS),
        }
    tables = make_tables(rows, members)
    made = Report(members, tables)
    if study.out is not None:
        from gradfec_lab.sweep.figures import concealment_figure

        made.write(study.out, "concealment", rows, concealment_figure(rows))
    return made


def make_tables(rows: list[Row], members: dict[str, Any]) -> list[Grid]:
    """Make a table for each kind of losses, and one of the milliseconds."""
    tables = []
    for burst in dict.fromkeys(row["burst"] for row in rows):
        own = [row for row in rows if row["burst"] == burst]
        about = "independent losses" if burst == IID else f"losses in bursts of {burst} on average"
        about += f", {members['codec']}; {members['images']} images"
        tables.append(
            pivot(f"Agreement with the lossless answer, %, by loss: {about}", own, ("policy", "fill"), "loss")
        )
        if "top1" in own[0]:
            tables.append(pivot(f"Top-1, %, by loss: {about}", own, ("policy", "fill"), "loss", "top1"))
    lines = [
        [fill, f"{members['milliseconds'][fill]:g}", "–".join(f"{end:g}" for end in members["milliseconds_ci"][fill])]
        for fill in members["milliseconds"]
    ]
    title = f"Milliseconds a frame, {TIMED:.0%} of the packets missing; {members['images']} images"
    tables.append(Grid(title, ["fill", "median", "mean, 95 %"], lines))
    return tables
