"""What the cloud knows about each packet of a tensor that it has decoded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.cells import Cell
from gradfec_common.decode import Found
from gradfec_common.sketch import Fate, Levels

Cells = npt.NDArray[np.uint8]
MISSING = np.zeros(len(Fate), np.uint8)  # by Fate, of a packet that is not there
MISSING[[*Fate]] = Cell.DROPPED, Cell.LOST, Cell.UNRECOVERED


def cells_of(found: Found, count: int, fates: Levels | None) -> Cells:
    """Return the Cell of each of `count` packets: from `found`, and for the others from the plan's `fates`.

    `fates` (count,), as Fate, come from the edge. Without them, it is not known why a packet is not there.
    """
    cells: Cells = np.full(count, Cell.ABSENT, np.uint8) if fates is None else MISSING[fates]
    cells[found.places] = np.select([found.recovered, found.protected], [Cell.RECOVERED, Cell.PROTECTED], Cell.SENT)
    return cells
