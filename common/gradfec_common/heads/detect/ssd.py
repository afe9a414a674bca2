"""`ssd`, `labelled`: places in one output and scores in another, as SSDs and torchvision's detectors write them.

Liu, Anguelov, Erhan et al., "SSD: Single Shot MultiBox Detector", ECCV 2016: suppression by class at 0.45. Places are
left, top, right, bottom; TensorFlow's `detection_boxes` are top, left, bottom, right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gradfec_common.heads.detect.layout import Candidates, Floats, Suppression, Unit, are_shares, unit_of
from gradfec_common.heads.head import Named, Outputs

TOP_FIRST = "detection_boxes"


@dataclass(frozen=True)
class Ssd:
    """`boxes` (1, n, 4) and `scores` (1, n, classes): numbers of outputs. Class 0 may be the `background`."""

    classes: int
    unit: Unit
    boxes: int
    scores: int
    background: bool = False
    top_first: bool = False

    name: ClassVar = "ssd"
    usual_score: ClassVar = 0.25
    usual_iou: ClassVar = 0.45
    suppression: ClassVar = Suppression.SAME_CLASS

    @classmethod
    def found(cls, outputs: Named, trial: Outputs, size: tuple[int, int]) -> Ssd | str:
        """Find it in two outputs with as many rows; there is a background if each row adds up to 1."""
        rows = [dims[1:] if dims[:1] == (1,) else dims for _, dims in outputs]
        places = [number for number, dims in enumerate(rows) if len(dims) == 2 and dims[1] == 4]
        boxes = next((number for number in places if "box" in outputs[number][0].lower()), next(iter(places), None))
        if boxes is None or len(outputs) != 2 or len(rows[1 - boxes]) != 2 or rows[0][0] != rows[1][0]:
            return "ssd has two outputs, 1 x candidates x 4 and 1 x candidates x classes"
        scores = trial[1 - boxes].reshape(rows[1 - boxes])
        if not are_shares(scores):
            return "ssd has scores from 0 to 1"
        corners = trial[boxes].reshape(-1, 4)
        if (corners[:, :2] > corners[:, 2:]).any():
            return "ssd has corners of boxes, not centres, and none that depend on anchors"
        classes = scores.shape[1]
        background = classes > 1 and bool(np.allclose(scores.sum(axis=1), 1, atol=1e-3))
        top_first = TOP_FIRST in outputs[boxes][0].lower()
        return cls(classes - background, unit_of(corners, size), boxes, 1 - boxes, background, top_first)

    def candidates(self, outputs: Outputs, score: float) -> Candidates:
        """Return each class of each place that is likely enough."""
        places = _places(outputs[self.boxes], self.top_first)
        scores = outputs[self.scores].reshape(len(places), -1)[:, int(self.background) :]
        at, classes = np.nonzero(scores >= score)
        return Candidates(places[at], scores[at, classes].astype(np.float64), classes)

    def all_scores(self, outputs: Sequence[Any]) -> Any:
        """Return each class of each place, without the background."""
        return outputs[self.scores][..., int(self.background) :]


@dataclass(frozen=True)
class Labelled:
    """`boxes` (n, 4), `labels` (n,) and `scores` (n,): numbers of outputs, all with a batch or without."""

    unit: Unit
    boxes: int
    labels: int
    scores: int
    top_first: bool = False
    classes: int | None = None

    name: ClassVar = "labelled"
    usual_score: ClassVar = 0.25
    usual_iou: ClassVar = 1.0
    suppression: ClassVar = Suppression.NONE

    @classmethod
    def found(cls, outputs: Named, trial: Outputs, size: tuple[int, int]) -> Labelled | str:
        """Find it by the outputs' names."""
        boxes, labels, scores = (
            _called(outputs, *words) for words in (("box",), ("label", "class"), ("score", "conf"))
        )
        if boxes is None or labels is None or scores is None or len({boxes, labels, scores}) < 3:
            return "labelled has outputs that are called boxes, labels (or classes) and scores"
        count = trial[boxes].size // 4
        if outputs[boxes][1][-1:] != (4,) or not trial[labels].size == trial[scores].size == count:
            return "labelled has four numbers, a label and a score for each box"
        top_first = TOP_FIRST in outputs[boxes][0].lower()
        unit = (1.0, 1.0) if top_first else unit_of(trial[boxes].reshape(-1, 4), size)
        return cls(unit, boxes, labels, scores, top_first)

    def candidates(self, outputs: Outputs, score: float) -> Candidates:
        """Return the boxes as they are."""
        places, scores = _places(outputs[self.boxes], self.top_first), outputs[self.scores].reshape(-1)
        labels = np.clip(outputs[self.labels].reshape(-1), 0, 2**16 - 1).astype(np.intp)
        return Candidates(places, scores.astype(np.float64), labels).some(scores >= score)

    def all_scores(self, outputs: Sequence[Any]) -> Any:
        """Return the scores as they are."""
        return outputs[self.scores]


def _called(outputs: Named, *words: str) -> int | None:
    """Return the number of the first output with one of the words in its name."""
    return next((at for at, (name, _) in enumerate(outputs) if any(word in name.lower() for word in words)), None)


def _places(boxes: npt.NDArray[Any], top_first: bool) -> Floats:
    places = boxes.reshape(-1, 4).astype(np.float64)
    return places[:, [1, 0, 3, 2]] if top_first else places
