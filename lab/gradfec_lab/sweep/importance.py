"""`gradfec sweep importance`: answers against the share of dropped packets, for each estimator's ranking.

The paper's Figure 5.
"""

from __future__ import annotations

import click

from gradfec_common.errors import UsageError
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_lab.sweep.arguments import FILL_HELP, chosen_from, names_list, read_estimators, read_fills, read_share
from gradfec_lab.sweep.importance_points import ORDERS, ImportanceSweep
from gradfec_lab.sweep.importance_report import report
from gradfec_lab.sweep.study import Study, back_end_option, study_options


@click.command(context_settings=CONTEXT)
@plain_errors
@study_options
@back_end_option
@click.option(
    "--estimators", metavar="NAMES", help="Estimators that rank the packets. [default: the oracle and the edge's]"
)
@click.option(
    "--drop", default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9", metavar="SHARES", help="Shares of the packets to drop."
)
@click.option("--fill", default="zero", metavar="NAMES", help=FILL_HELP)
@click.option(
    "--order",
    default="least,most",
    metavar="ORDERS",
    help="Drop the least important packets first, or the most important.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def importance(study: Study, estimators: str | None, drop: str, fill: str, order: str, as_json: bool) -> None:
    """Drop packets by importance, and see whether the answer stays the same (the paper's Figure 5).

    Agreement is with the network's own answer to lossless features. Intervals are 95 %, by bootstrap over the images.
    """
    sweep = ImportanceSweep(
        study,
        read_estimators(estimators, "--estimators", labelled=study.truth is not None),
        read_drops(drop),
        read_fills(fill),
        chosen_from("--order", ORDERS)(order),
    )
    report(sweep).show(as_json)


def read_drops(text: str) -> list[float]:
    """Read shares to drop, `0.4,50%`, in rising order; UsageError for one outside 0 .. 1."""
    drops = sorted({read_share("--drop", part) for part in names_list(text)})
    if drops[-1] == 1:
        raise UsageError("--drop 1 drops every packet and leaves nothing to answer from: give shares below 1")
    return drops
