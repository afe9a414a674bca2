"""What the cloud knows of each packet of a tensor that it has decoded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.cells import Cell
from gradfec_common.decode import Found
from gradfec_common.sketch import Fate, Levels

Cells = npt.NDArray[np.uint8]
MISSING = np.zeros(len(Fate), np.uint8)  # by Fate: what is not there
MISSING[[*Fate]] = Cell.DROPPED, Cell.LOST, Cell.UNRECOVERED


def cells_of(found: Found, count: int, fates: Levels | None) -> Cells:
    """Return the Cell of each of `count` packets: of those that are found, and of the others by the plan's `fates`.

    Without `fates` (count,), as Fate, which only the edge can tell, nobody knows why a packet is not there.
    """
    cells: Cells = np.full(count, Cell.ABSENT, np.uint8) if fates is None else MISSING[fates]
    cells[found.places] = np.select([found.recovered, found.protected], [Cell.RECOVERED, Cell.PROTECTED], Cell.SENT)
    return cells
