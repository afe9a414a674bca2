"""What is kept stands in for what is dropped: kept packets are scaled so that the answer is disturbed least.

Not in the paper. The edge knows which packets its plan drops, and what they hold; a proxy of the recipe `best` knows
besides how absences add up and cancel, as a quadratic form (`gradfec_edge.importance.second_order`). A packet that is
scaled by 1 + s is absent by -s, so the best s of the kept packets K, given that the dropped D are absent by 1, solve

    (F_KK + ridge) s = F_KD 1

for each row group. That is what Optimal Brain Surgeon does to the weights that are left (Hassibi, Stork, NIPS 1992),
with one number a packet. The cloud need not know.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import Each
from gradfec_common.packets import PacketGrid

Floats = npt.NDArray[np.float32]

RIDGE = 0.05  # of the diagonal: the form is an estimate
LIMITS = (0.5, 2.0)  # of a factor


def compensated(
    chi: Floats, damage: Floats, dropped: npt.NDArray[np.intp], grid: PacketGrid, each: Each = map
) -> Floats:
    """Scale the packets of chi (H, W, C) that are kept, for those `dropped`; `damage` is the form (groups, C, C).

    `each` row group is by itself, and may have a thread of its own.
    """
    if not len(dropped):
        return chi
    absent = np.zeros(grid.count, bool)
    absent[dropped] = True
    by_group = absent.reshape(grid.shape[2], grid.groups).T  # (2048,) -> (256, 8) -> (8, 256)
    factors = np.stack([*each(lambda group: stand_in(damage[group], by_group[group]), range(grid.groups))])
    scaled: Floats = chi * np.repeat(factors, grid.rows, axis=0)[:, np.newaxis]  # (8, 256) -> (56, 1, 256)
    return scaled


def stand_in(form: Floats, absent: npt.NDArray[np.bool_]) -> Floats:
    """Return the factors (C,) of one row group's packets under its form (C, C); 1 for those that are absent."""
    factors = np.ones(len(form), np.float32)
    kept = np.flatnonzero(~absent)
    rows = form[kept]
    inside = rows[:, kept]  # twice by one axis: faster than np.ix_
    diagonal = np.einsum("ii->i", inside)  # a view
    diagonal += RIDGE * diagonal + (1e-6 * diagonal.max(initial=0) or 1)  # features that are all zero make zeros of it
    factors[kept] += np.linalg.solve(inside, rows @ absent.astype(np.float32))
    return np.clip(factors, *LIMITS)
