"""What the edge knows about each packet of a tensor that is closed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.cells import Cell
from gradfec_common.delivery import Mask, by_stripe
from gradfec_common.protect import Plan
from gradfec_common.sketch import Fate, plan_fates

Cells = npt.NDArray[np.uint8]
UNTOLD = np.zeros(len(Fate), np.uint8)  # by Fate, if the cloud has not said what arrived
UNTOLD[[*Fate]] = Cell.DROPPED, Cell.ABSENT, Cell.ABSENT
ALL_THERE = np.zeros(len(Fate), np.uint8)  # by Fate, if the cloud has said that nothing is missing
ALL_THERE[[*Fate]] = Cell.DROPPED, Cell.SENT, Cell.PROTECTED


def cells_of(plan: Plan, arrived: Mask | None, *, complete: bool) -> Cells:
    """Return the Cell of each packet (total,) of a tensor that was sent as planned.

    `arrived` (sent,) tells which datagrams have; if that is not known, `complete` tells whether all packets that were
    sent are there, lost or not: those with parity count as arrived then.
    """
    if arrived is None:
        return (ALL_THERE if complete else UNTOLD)[plan_fates(plan)]
    cells = np.full(plan.total, Cell.DROPPED, np.uint8)
    for stripe, own in by_stripe(plan, arrived):
        came = own[stripe.symbol_of_packet]
        protected = len(own) > stripe.k
        lost = (Cell.RECOVERED if own.sum() >= stripe.k else Cell.UNRECOVERED) if protected else Cell.LOST
        cells[stripe.packets] = np.where(came, Cell.PROTECTED if protected else Cell.SENT, lost)
    return cells
