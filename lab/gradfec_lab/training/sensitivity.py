"""The recipe `best`: how sensitive the answer is to the channels, alone and together.

First by the gradient of the lossless answer; then, since half a tensor is no small disturbance, by the gradient where
the edge will be: with packets dropped by the estimator so far. There an answer that stands whatever is dropped has
hardly a gradient, and one that is about to fall has a large one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradfec_edge.importance import EstimatorFile
from gradfec_lab.gradcam import BATCH
from gradfec_lab.training.checkpoint import SAVE_EVERY, restore, save
from gradfec_lab.training.rehearsal import Rehearsal
from gradfec_lab.training.targets import Targets, gradient_products

Floats = npt.NDArray[np.float32]


def lossless_sensitivities(targets: Targets) -> dict[str, Floats]:
    """Return both sensitivities (C, C) by the gradients of the network's own class."""
    measured = [i for i in targets.fit_indices if i < len(targets.sensitivity)]
    products = targets.sensitivity[measured].mean(axis=0, dtype=np.float64)  # (images, 2, C, C) -> (2, C, C)
    return separated(products, targets.grid.shape[0] * targets.grid.shape[1] // targets.saliency[0].size)


def measure_sensitivities(
    rehearsal: Rehearsal, proxy: EstimatorFile, steps: int, checkpoints: Path, advance: Callable[[int], None]
) -> dict[str, Floats]:
    """Return both sensitivities (C, C) where `proxy`, that of the rehearsal, has dropped packets: over `steps` batches.

    `advance` is told how many images are done.
    """
    grid = rehearsal.grid
    path, run = checkpoints / "sensitivity.npz", {"seed": rehearsal.seed[0], "steps": steps, "proxy": proxy.digest}
    saved = restore(path, run)
    total, done = saved.get("total", np.zeros((2, grid.shape[2], grid.shape[2]))), int(saved.get("done", 0))
    advance(BATCH * done)
    nothing = np.zeros((2, grid.count), np.float32)
    for step in range(done, steps):
        total = total + gradient_products(rehearsal(step, nothing).gradient, grid).sum(axis=0, dtype=np.float64)
        advance(BATCH)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            save(path, run, {"total": total, "done": step + 1})
    tile = grid.rows * grid.shape[1] // grid.tiles
    return separated(total * grid.shape[2] / max(np.trace(total[0]), np.finfo(np.float32).tiny), tile)


def separated(products: npt.NDArray[np.float64], n: int) -> dict[str, Floats]:
    """Separate mean products of gradients (2, C, C) into what is of one position, and what is common to a tile.

    With P the variance between the positions of a tile of n and T that of the tile: at one position the products have
    the mean P + T, and of the means over tiles P / n + T. T is scaled for means of n features instead of their sums.
    """
    position, tile = products
    common = (tile - position / n) / (1 - 1 / n)
    parts = {"sensitivity/position": position - common, "sensitivity/tile": common * n**2}
    return {name: part.astype(np.float32) for name, part in parts.items()}
