"""The points of `gradfec sweep importance`: over estimators, concealments, dropped shares and orders.

The plan drops what FEC_A_B would drop, and sends the rest without parity. Nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from gradfec_cli.oracle import ORACLE
from gradfec_common.conceal import make_concealment
from gradfec_common.delivery import packets_at_hand
from gradfec_common.protect.plan import keep_most_important
from gradfec_common.quantisers import QUANTISERS
from gradfec_edge.coding import Coding
from gradfec_host.concealment_file import learned_for
from gradfec_lab.sweep.bare_drop import LEAST, MOST, BareDrop
from gradfec_lab.sweep.engine import Case, Deliveries, Subject
from gradfec_lab.sweep.report import Row
from gradfec_lab.sweep.statistics import spearman
from gradfec_lab.sweep.study import Study

ORDERS = (LEAST, MOST)
QUANTISER = QUANTISERS["uniform8"]  # the paper's
HALF = 50.0  # percent dropped, to measure the importance that is kept


class ImportanceSweep:
    """Which packets of each image to drop, by which ranking, and how to fill the gaps."""

    def __init__(
        self, study: Study, estimators: list[str], drops: list[float], fills: list[str], orders: list[str]
    ) -> None:
        """Take the options' values; UsageError if the cut has no such concealment, or packets do not fit."""
        self.study = study
        self.estimators, self.drops, self.orders = estimators, drops, orders
        learned = learned_for(study.cut)
        self.fills = {name: make_concealment(name, study.cut, learned) for name in fills}
        self._coding(0, LEAST).check()
        self._codings = {(order, drop): self._coding(drop, order) for order, drop in product(orders, drops)}

    def _coding(self, drop: float, order: str) -> Coding:
        return Coding(self.study.cut, self.study.grid, QUANTISER, BareDrop(drop, order), packets_a_datagram=1)

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
        deliveries = Deliveries(subject)
        for order, estimator, drop in product(self.orders, self.estimators, self.drops):
            plan, delivered = deliveries(self._codings[order, drop], estimator)
            at_hand = packets_at_hand(plan, np.ones(plan.sent, bool))
            for rule, conceal in self.fills.items():
                yield delivered.case(point_name(order, estimator, rule, drop), 0, at_hand, rule, conceal)

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
