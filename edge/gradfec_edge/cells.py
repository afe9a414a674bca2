"""What the edge knows of each packet of one of its tensors, once its story is over."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common.plan import Plan
from gradfec_common.reassembly import Mask
from gradfec_common.sketch import Fate, plan_fates
from gradfec_web.view import Cell

Cells = npt.NDArray[np.uint8]
UNTOLD = np.zeros(len(Fate), np.uint8)  # by Fate: where the cloud has not said what arrived
UNTOLD[[*Fate]] = Cell.DROPPED, Cell.ABSENT, Cell.ABSENT
ALL_THERE = np.zeros(len(Fate), np.uint8)  # the same, where it has said that nothing is missing
ALL_THERE[[*Fate]] = Cell.DROPPED, Cell.SENT, Cell.PROTECTED


def cells_of(plan: Plan, headers: npt.NDArray[Any], arrived: Mask | None, *, complete: bool) -> Cells:
    """Return the Cell of each packet (total,) of a tensor that was sent with (sent,) headers.

    `arrived` (sent,) tells which datagrams have; where that is not known, `complete` whether all packets that were
    sent are there, lost or not: those with parity count as arrived then.
    """
    fates = plan_fates(plan)
    if arrived is None:
        return (ALL_THERE if complete else UNTOLD)[fates]
    n, k = (np.array([getattr(block, of) for block in plan.blocks]) for of in ("n", "k"))
    block, index = headers["block"].astype(np.intp), headers["index"].astype(np.intp)
    decodes = np.bincount(block[arrived], minlength=len(k)) >= k
    data = index < k[block]
    came, block, index = arrived[data], block[data], index[data]
    packets = np.concatenate([part.packets for part in plan.blocks])[np.cumsum(k)[block] - k[block] + index]
    protected = (n > k)[block]
    cells = np.full(plan.total, Cell.DROPPED, np.uint8)
    cells[packets] = np.select(
        [came & protected, came, ~protected, decodes[block]],
        [Cell.PROTECTED, Cell.SENT, Cell.LOST, Cell.RECOVERED],
        Cell.UNRECOVERED,
    )
    return cells
