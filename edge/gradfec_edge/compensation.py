"""Compensation: kept packets are scaled to make up for the dropped ones, so that the answer is disturbed least.

Not in the paper. The edge knows which packets its plan drops, and what they hold. A proxy of the recipe `best` also
knows how absences add up and cancel, as a quadratic form (`gradfec_edge.importance.second_order`). A packet that is
scaled by 1 + s is absent by -s, so the best s of the kept packets K, given that the dropped D are absent by 1, solve

    (F_KK + ridge) s = F_KD 1

for each row group. That is what Optimal Brain Surgeon does to the weights that are left (Hassibi, Stork, NIPS 1992),
with one number a packet. It is solved by conjugate gradients (Hestenes, Stiefel, 1952), preconditioned by the diagonal,
for all row groups at once. ITERATIONS leave errors far below a level of the quantiser. The cloud need not know.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.packets import PacketGrid

Floats = npt.NDArray[np.float32]

RIDGE = 0.05  # of the diagonal: the form is an estimate
LIMITS = (0.5, 2.0)  # of a factor
ITERATIONS = 20  # fixed, so that the time is, too; a factorisation takes three times as long for A = 20 %
TINY = np.finfo(np.float32).tiny  # against division by zero if nothing is left to solve


def compensated(chi: Floats, damage: Floats, dropped: npt.NDArray[np.intp], grid: PacketGrid) -> Floats:
    """Scale the packets of chi (H, W, C) that are kept, for those `dropped`; `damage` is the form (groups, C, C)."""
    if not len(dropped):
        return chi
    absent = np.zeros(grid.count, bool)
    absent[dropped] = True
    factors = stand_in(damage, absent.reshape(grid.shape[2], grid.groups).T)  # (2048,) -> (256, 8) -> (8, 256)
    scaled: Floats = chi * np.repeat(factors, grid.rows, axis=0)[:, np.newaxis]  # (8, 256) -> (56, 1, 256)
    return scaled


def stand_in(forms: Floats, absent: npt.NDArray[np.bool_]) -> Floats:
    """Return the factors (groups, C) of packets under their forms (groups, C, C); 1 for those that are `absent`."""
    diagonal = np.einsum("gcc->gc", forms)
    ridge = RIDGE * diagonal + TINY
    kept = (~absent).astype(np.float32)
    added = np.zeros_like(kept)
    left = kept * times(forms, absent.astype(np.float32))  # of the right-hand side
    step = towards = kept * left / (diagonal + ridge)
    size = dot(left, towards)
    for _ in range(ITERATIONS):
        image = kept * (times(forms, step) + ridge * step)
        length = size / np.maximum(dot(step, image), TINY)
        added += length * step
        left -= length * image
        towards = kept * left / (diagonal + ridge)
        size, before = dot(left, towards), size
        step = towards + size / np.maximum(before, TINY) * step
    return np.clip(1 + added, *LIMITS)


def times(forms: Floats, vectors: Floats) -> Floats:
    """Multiply (groups, C, C) by (groups, C): (groups, C)."""
    products: Floats = np.matmul(forms, vectors[..., np.newaxis])[..., 0]  # (8, 256) -> (8, 256, 1) -> (8, 256)
    return products


def dot(a: Floats, b: Floats) -> Floats:
    """Multiply (groups, C) by (groups, C): (groups, 1)."""
    products: Floats = np.einsum("gc,gc->g", a, b)[:, np.newaxis]
    return products
