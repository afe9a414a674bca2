"""`centernet`: a heatmap for each class, whose peaks are the objects' centres, and their extent at each place.

Zhou, Wang, Krähenbühl, "Objects as Points", 2019; with distances to four sides: Liu, Zheng, Xu et al., "Training-Time-
Friendly Network for Real-Time Object Detection", AAAI 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np

from gradfec_common.heads.detect.layout import MOST, Candidates, Suppression, Unit
from gradfec_common.heads.head import Named, Outputs

MOST_CELLS = 20_000  # above the threshold that are looked at: far more than there are, but on broken features
SIDES, BOTH_WAYS = 4, 2  # channels of an extent: distances left, top, right, bottom; or width and height


@dataclass(frozen=True)
class CenterNet:
    """`heatmap` (1, classes, h, w), `extent` (1, 4 or 2, h, w), and perhaps `offset` (1, 2, h, w): numbers of outputs.

    An extent of four is measured in the input's pixels from the cell's corner, one of two in cells around the centre.
    Offsets, x and y, are in cells. With `logits`, the heatmap needs a sigmoid.
    """

    classes: int
    cells: tuple[int, int]  # w, h
    unit: Unit
    heatmap: int
    extent: int
    offset: int | None = None
    logits: bool = False

    name: ClassVar = "centernet"
    usual_score: ClassVar = 0.2
    usual_iou: ClassVar = 0.4
    suppression: ClassVar = Suppression.ALL

    @classmethod
    def found(cls, outputs: Named, trial: Outputs, size: tuple[int, int]) -> CenterNet | str:
        """Find it in two or three maps of the same height and width."""
        maps = {dims[2:] for _, dims in outputs if len(dims) == 4 and dims[0] == 1}
        if not 2 <= len(outputs) <= 3 or len(maps) != 1 or any(len(dims) != 4 for _, dims in outputs):
            return "centernet has a heatmap, an extent and perhaps an offset, of the same height and width"
        left = dict(enumerate(outputs))
        extent = _taken(left, ("wh", "size"), (SIDES, BOTH_WAYS))
        offset = _taken(left, ("off", "reg"), (BOTH_WAYS,)) if len(outputs) == 3 else None
        if extent is None or len(left) > 1:
            return "centernet's extent has 4 or 2 channels, and its offset 2"
        ((height, width),), (heatmap,) = maps, left
        sides = outputs[extent][1][1]
        unit = (float(size[1]), float(size[0])) if sides == SIDES else (float(width), float(height))
        logits = bool(trial[heatmap].min() < 0)
        return cls(outputs[heatmap][1][1], (width, height), unit, heatmap, extent, offset, logits)

    def candidates(self, outputs: Outputs, score: float) -> Candidates:
        """Return the `MOST` highest peaks: cells that no neighbour of the same class exceeds."""
        heat = outputs[self.heatmap][0]
        if self.logits:
            heat = (1 + np.tanh(heat / 2)) / 2  # a sigmoid that does not overflow
        cells = np.flatnonzero(heat >= score)
        if len(cells) > MOST_CELLS:
            cells = cells[np.argpartition(heat.ravel()[cells], -MOST_CELLS)[-MOST_CELLS:]]
        classes, rows, columns = np.unravel_index(cells, heat.shape)
        scores = heat[classes, rows, columns]
        peaks = np.ones(len(scores), bool)
        height, width = heat.shape[1:]
        for down, across in product((-1, 0, 1), repeat=2):  # at the border a cell is its own neighbour
            below, beside = np.clip(rows + down, 0, height - 1), np.clip(columns + across, 0, width - 1)
            peaks &= scores >= heat[classes, below, beside]
        best = np.flatnonzero(peaks)[np.argsort(-scores[peaks], kind="stable")[:MOST]]
        classes, rows, columns = classes[best], rows[best], columns[best]
        centres = np.stack([columns, rows], axis=1).astype(np.float64)  # x, y
        if self.offset is not None:
            centres += outputs[self.offset][0][:, rows, columns].T
        centres *= np.array(self.unit) / self.cells
        extent = outputs[self.extent][0][:, rows, columns].T.astype(np.float64)  # (n, 4 or 2)
        if extent.shape[1] == BOTH_WAYS:
            extent = np.tile(extent / 2, 2)
        places = np.concatenate([centres - extent[:, :2], centres + extent[:, 2:]], axis=1)
        return Candidates(places, scores[best].astype(np.float64), classes)

    def all_scores(self, outputs: Sequence[Any]) -> Any:
        """Return the heatmap."""
        heat = outputs[self.heatmap]
        return heat.sigmoid() if self.logits else heat


def _taken(
    left: dict[int, tuple[str, tuple[int, ...]]], words: tuple[str, ...], channels: tuple[int, ...]
) -> int | None:
    """Take an output with one of the numbers of `channels`, best with one of `words` in its name; return its number."""
    fit = [number for number, (_, dims) in left.items() if dims[1] in channels]
    named = [number for number in fit if any(word in left[number][0].lower() for word in words)]
    taken = next(iter([*named, *fit]), None)
    if taken is not None:
        del left[taken]
    return taken
