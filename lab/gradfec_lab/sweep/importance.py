"""`gradfec sweep importance`: answers against the share of dropped packets, for each estimator's ranking.

The paper's Figure 5. The plan drops what FEC_A_B would drop, and sends the rest without parity. Nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import click
import numpy as np
import numpy.typing as npt

from gradfec_cli.netem import percentage
from gradfec_cli.oracle import BY_LABEL, ORACLE, UNCOMPENSATED
from gradfec_common.delivery import packets_at_hand
from gradfec_common.errors import UsageError
from gradfec_common.fill import Fill, fill_values
from gradfec_common.plan import BareDrop, Plan, keep_most_important, ranking
from gradfec_common.transmit import FILLS
from gradfec_host.console import plain_errors
from gradfec_lab.sweep.engine import Case, Subject, delivered
from gradfec_lab.sweep.report import Row
from gradfec_lab.sweep.statistics import spearman
from gradfec_lab.sweep.study import CONTEXT, Study, chosen_from, names_list, study_options

FREE = ("activation", "deviation", "static", "random")  # estimators without a trained network
ORDERS = ("least", "most")
HALF = 50.0  # percent dropped, to measure the importance that is kept


@click.command(context_settings=CONTEXT)
@plain_errors
@study_options
@click.option(
    "--estimators", metavar="NAMES", help="Estimators that rank the packets. [default: the oracle and the edge's]"
)
@click.option(
    "--drop", default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9", metavar="SHARES", help="Shares of the packets to drop."
)
@click.option("--fill", default="zero", metavar="RULES", help="How to fill gaps: zero, mean.")
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
    from gradfec_lab.sweep.importance_report import report

    sweep = ImportanceSweep(
        study,
        parse_estimators(estimators, study),
        parse_drops(drop),
        chosen_from("--fill", FILLS.values())(fill),
        chosen_from("--order", ORDERS)(order),
    )
    result = report(sweep)
    result.show(as_json)


def parse_estimators(text: str | None, study: Study, option: str = "--estimators") -> list[str]:
    """Read the estimators' names, by default the oracle and all of the edge's; UsageError for an unknown name.

    A name may also be a file from `gradfec train-proxy`.
    """
    from gradfec_edge.importance import ESTIMATORS

    known = [ORACLE, *ESTIMATORS, f"proxy{UNCOMPENSATED}"]
    if text is None:
        return known
    names = names_list(text)
    if BY_LABEL in names and study.truth is None:
        raise UsageError(f"{option} {BY_LABEL} explains the label's class: give --labels, or use {ORACLE}")
    files = [name for name in names if name.removesuffix(UNCOMPENSATED).endswith(".npz")]
    return chosen_from(option, [*known, BY_LABEL, *files])(text)


def parse_drops(text: str) -> list[float]:
    """Read shares to drop, `0.4,50%`, in rising order; UsageError for one outside 0 .. 1."""
    drops = sorted({share_of("--drop", part) for part in names_list(text)})
    if drops[-1] == 1:
        raise UsageError("--drop 1 drops every packet and leaves nothing to answer from: give shares below 1")
    return drops


def share_of(option: str, text: str) -> float:
    """Read `0.4` or `40%`."""
    try:
        return percentage(text)
    except click.BadParameter:
        raise UsageError(f"{option}: {text!r} is not a share from 0 to 1: write it as 40% or as 0.4") from None


class ImportanceSweep:
    """The points of a sweep over estimators, fill rules, dropped shares and orders."""

    def __init__(
        self, study: Study, estimators: list[str], drops: list[float], fills: list[str], orders: list[str]
    ) -> None:
        """Take the options' values; UsageError if the split has no such fill."""
        self.study = study
        self.estimators, self.drops, self.orders = estimators, drops, orders
        self.fills: dict[str, Fill] = {rule: fill_values(rule, study.split) for rule in fills}

    def points(self) -> dict[str, Row]:
        """Return each point's fields, by its name in the store."""
        every = product(self.orders, self.estimators, self.fills, self.drops)
        return {
            point_name(order, estimator, fill, drop): {
                "order": order, "estimator": estimator, "fill": fill, "drop": drop,
            }
            for order, estimator, fill, drop in every
        }  # fmt: skip

    def numbers(self) -> list[str]:
        """Return the names of the numbers that describe the rankings themselves."""
        return [name for estimator in self.estimators for name in (f"spearman/{estimator}", f"mass_kept/{estimator}")]

    def cases(self, subject: Subject) -> Iterator[Case]:
        """Yield an image's cases."""
        sent = delivered(subject, self.study.grid)
        for order, estimator, drop in product(self.orders, self.estimators, self.drops):
            plan = dropping(subject.scores[estimator], drop, order)
            at_hand = packets_at_hand(plan, np.ones(plan.sent, bool))
            deliver = sent(estimator, plan)
            for rule, fill in self.fills.items():
                yield deliver.case(point_name(order, estimator, rule, drop), 0, at_hand, rule, fill)

    def quality(self, subject: Subject) -> dict[str, float]:
        """Compare each ranking with the oracle's: rank correlation, and the oracle's importance in the kept half."""
        oracle = subject.scores[ORACLE].astype(np.float64)
        total = oracle.sum()
        found = {}
        for estimator in self.estimators:
            scores = subject.scores[estimator]
            kept, _ = keep_most_important(scores, HALF)
            found[f"spearman/{estimator}"] = spearman(scores, oracle)
            found[f"mass_kept/{estimator}"] = float(oracle[kept].sum() / total) if total else 1.0
        return found


def point_name(order: str, estimator: str, fill: str, drop: float) -> str:
    """Return a point's name in the store."""
    return f"{order}/{estimator}/{fill}/{drop:g}"


def dropping(scores: npt.NDArray[np.float32], drop: float, order: str) -> Plan:
    """Plan to drop a share of the packets with `scores` (packets,), the least or the most important first."""
    if order == "most":  # the same ranking, reversed, including ties
        scores = reversed_scores(scores)
    return BareDrop(round(100 * drop, 9)).plan(scores)


def reversed_scores(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return scores (packets,) with the reversed ranking of `scores`."""
    reverse = np.empty(len(scores), np.float32)
    reverse[ranking(scores)] = np.arange(len(scores))
    return reverse
