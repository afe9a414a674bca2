"""`yolov5`, `yolov8`: a candidate for each place of a grid, and the scores of all classes.

Exports of YOLOv5, v6 and v7 write the first, those of YOLOv8, v9 and v11 the second. Sigmoids are applied, and places
are centres, widths and heights. Thresholds and suppression are those of Ultralytics' `predict`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gradfec_common.heads.detect.layout import Candidates, Suppression, Unit, are_shares, corners, unit_of
from gradfec_common.heads.head import Named, Outputs

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class YoloV5:
    """(1, candidates, 5 + classes): the place, whether anything is there, and each class if so."""

    classes: int
    unit: Unit

    name: ClassVar = "yolov5"
    usual_score: ClassVar = 0.25
    usual_iou: ClassVar = 0.45
    suppression: ClassVar = Suppression.SAME_CLASS

    @classmethod
    def found(cls, outputs: Named, trial: Outputs, size: tuple[int, int]) -> YoloV5 | str:
        """Find it in one output with more rows than columns."""
        (_, dims), first = outputs[0], trial[0]
        if len(outputs) != 1 or len(dims) != 3 or dims[0] != 1 or not 6 <= dims[2] < dims[1]:
            return "yolov5 has one output 1 x candidates x (5 + classes)"
        if not are_shares(first[0, :, 4:]):
            return "yolov5 has scores from 0 to 1"
        return cls(dims[2] - 5, unit_of(first[0, :, :4], size))

    def candidates(self, outputs: Outputs, score: float) -> Candidates:
        """Return the likeliest class of each candidate: its score is the product of both."""
        rows = outputs[0][0]
        rows = rows[rows[:, 4] >= score]  # (candidates, 5 + classes)
        return _likeliest(rows[:, :4], rows[:, 5:], rows[:, 4].astype(np.float64), score)

    def all_scores(self, outputs: Sequence[Any]) -> Any:
        """Return the product of both for each class."""
        return outputs[0][..., 4:5] * outputs[0][..., 5:]


@dataclass(frozen=True)
class YoloV8:
    """(1, 4 + classes, candidates): the place and each class."""

    classes: int
    unit: Unit

    name: ClassVar = "yolov8"
    usual_score: ClassVar = 0.25
    usual_iou: ClassVar = 0.7
    suppression: ClassVar = Suppression.SAME_CLASS

    @classmethod
    def found(cls, outputs: Named, trial: Outputs, size: tuple[int, int]) -> YoloV8 | str:
        """Find it in one output with more columns than rows."""
        (_, dims), first = outputs[0], trial[0]
        if len(outputs) != 1 or len(dims) != 3 or dims[0] != 1 or not 5 <= dims[1] < dims[2]:
            return "yolov8 has one output 1 x (4 + classes) x candidates"
        if not are_shares(first[0, 4:]):
            return "yolov8 has scores from 0 to 1"
        return cls(dims[1] - 4, unit_of(first[0, :4].T, size))

    def candidates(self, outputs: Outputs, score: float) -> Candidates:
        """Return the likeliest class of each candidate."""
        columns = outputs[0][0]
        rows = columns[:, columns[4:].max(axis=0) >= score].T  # -> (candidates, 4 + classes)
        return _likeliest(rows[:, :4], rows[:, 4:], np.ones(len(rows)), score)

    def all_scores(self, outputs: Sequence[Any]) -> Any:
        """Return each class of each candidate."""
        return outputs[0][:, 4:]


def _likeliest(centred: Array, classes: Array, sure: Array, score: float) -> Candidates:
    best = classes.argmax(axis=1)
    scores = sure * classes[np.arange(len(best)), best]
    return Candidates(corners(centred), scores, best).some(scores >= score)
