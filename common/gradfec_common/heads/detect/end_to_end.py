"""`end-to-end`: the final boxes, because the network suppresses the others itself.

YOLOv10 and YOLO26 write them, and so do earlier ones that were exported with their non-maximum suppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradfec_common.heads.detect.layout import Candidates, Suppression, Unit, are_shares, unit_of
from gradfec_common.heads.head import Named, Outputs

MOST_ROWS = 1000  # more of them are candidates of something else


@dataclass(frozen=True)
class EndToEnd:
    """(1, boxes, 6): left, top, right, bottom, score and class."""

    unit: Unit
    classes: int | None = None

    name: ClassVar = "end-to-end"
    usual_score: ClassVar = 0.25
    usual_iou: ClassVar = 1.0
    suppression: ClassVar = Suppression.NONE

    @classmethod
    def found(cls, outputs: Named, trial: Outputs, size: tuple[int, int]) -> EndToEnd | str:
        """Find it in one output of six columns, the last of them whole numbers."""
        (_, dims), first = outputs[0], trial[0]
        if len(outputs) != 1 or len(dims) != 3 or dims[0] != 1 or dims[2] != 6 or dims[1] > MOST_ROWS:
            return f"end-to-end has one output 1 x boxes x 6, with at most {MOST_ROWS} boxes"
        scores, classes = first[0, :, 4], first[0, :, 5]
        if first.size and not (are_shares(scores) and classes.min() >= 0 and (classes == np.rint(classes)).all()):
            return "end-to-end has a score from 0 to 1, and behind it the class"
        return cls(unit_of(first[0, :, :4], size))

    def candidates(self, outputs: Outputs, score: float) -> Candidates:
        """Return the boxes as they are."""
        rows = outputs[0][0].astype(np.float64)
        rows = rows[rows[:, 4] >= score]
        return Candidates(rows[:, :4], rows[:, 4], np.clip(rows[:, 5], 0, 2**16 - 1).astype(np.intp))

    def all_scores(self, outputs: Sequence[Any]) -> Any:
        """Return the fifth column."""
        return outputs[0][..., 4]
