"""What losses are worth: the share of a tensor's importance that was delivered, is missing, or was dropped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradfec_common.cells import Cell
from gradfec_common.protect import Plan
from gradfec_common.reassembly import Mask, read_map
from gradfec_common.wire import Report, Result
from gradfec_edge.cells import cells_of
from gradfec_host.results import UNKNOWN

IMPORTANCE_FATES = ("delivered", "missing", "dropped_by_plan", UNKNOWN)


@dataclass(frozen=True)
class ImportanceShares:
    """A tensor that was sent: its plan, and the share (packets,) of the importance that each of its packets has."""

    plan: Plan
    shares: npt.NDArray[np.float32]

    def fates(self, result: Result | None, report: Report | None) -> dict[str, float]:
        """Return the share of the importance that had each fate, 1 in all."""
        dropped = min(float(self.shares[self.plan.dropped].sum()), 1.0)
        fates, kept = {"dropped_by_plan": dropped}, 1 - dropped
        if result is not None and result.missing == 0:
            return fates | {"delivered": kept}
        missing = self._missing(report)
        if missing is None or result is None or missing.sum() != result.missing:  # not of the moment of the answer
            return fates | {UNKNOWN: kept}
        lost = min(float(self.shares[missing].sum()), kept)
        return fates | {"delivered": kept - lost, "missing": lost}

    def _missing(self, report: Report | None) -> Mask | None:
        """Return which packets (packets,) were sent and are lost for good; None if no report has a map."""
        arrived = read_map(report.arrived, self.plan.sent) if report else None
        if arrived is None:
            return None
        cells = cells_of(self.plan, arrived, complete=False)
        missing: Mask = (cells == Cell.LOST) | (cells == Cell.UNRECOVERED)
        return missing
