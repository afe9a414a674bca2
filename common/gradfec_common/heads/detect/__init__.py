"""Detection: boxes, their classes and their scores. Each layout of outputs is a file here and a line in LAYOUTS.

An answer on the wire is a few numbers a box (`heads.boxes.PACKED`). It has no label: 80 of them would not fit, and both
ends have the same network. Each end names the classes by its own list, which is a part of the model as it was added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gradfec_common.heads import boxes
from gradfec_common.heads.boxes import FULL, PACKED, Box, Boxes
from gradfec_common.heads.classify import label_of
from gradfec_common.heads.detect.centernet import CenterNet
from gradfec_common.heads.detect.end_to_end import EndToEnd
from gradfec_common.heads.detect.layout import MOST, Layout, best_of, shapes_of
from gradfec_common.heads.detect.ssd import Labelled, Ssd
from gradfec_common.heads.detect.yolo import YoloV5, YoloV8
from gradfec_common.heads.head import Named, Outputs, Plain

# By name; a guess takes the first that fits.
LAYOUTS: dict[str, type[Layout]] = {
    layout.name: layout for layout in (CenterNet, EndToEnd, YoloV5, YoloV8, Ssd, Labelled)
}
MAX_CLASSES = 2**16
COLUMNS = 6  # left, top, right, bottom, score, class


@dataclass(frozen=True)
class Detect:
    """The head of a network whose outputs are of a `layout`.

    Boxes with at least `score` are found, and of those that overlap by more than `iou` the best. `labels` are the
    names of the classes.
    """

    layout: Layout
    score: float
    iou: float
    labels: tuple[str, ...] = ()

    name = boxes.NAME
    no_answer = Boxes(())
    layouts: ClassVar[tuple[str, ...]] = tuple(LAYOUTS)

    @classmethod
    def describe(
        cls, outputs: Named, trial: Outputs, size: tuple[int, int], layout: str = ""
    ) -> dict[str, Plain] | str:
        """Describe the outputs' layout, the given one if `layout` is not empty, with its usual thresholds."""
        whys = []
        for kind in [LAYOUTS[layout]] if layout else LAYOUTS.values():
            found = kind.found(outputs, trial, size)
            if not isinstance(found, str):
                classes = {} if found.classes is None else {"classes": found.classes}
                thresholds = {"score": kind.usual_score, "iou": kind.usual_iou}
                return {"layout": kind.name, **classes, **thresholds, "decode": _plain(found)}
            whys.append(found)
        return whys[0] if layout else f"no detector's outputs are known that look like {shapes_of(outputs)}"

    @classmethod
    def of(cls, said: Mapping[str, Any], labels: Sequence[str] = ()) -> Detect:
        """Read `layout`, its fields under `decode`, `score` and `iou`; ValueError, KeyError or TypeError otherwise."""
        if said["layout"] not in LAYOUTS:
            raise ValueError(f"no layout is called {said['layout']!r}: use one of {', '.join(LAYOUTS)}")
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in said["decode"].items()}
        layout, score, iou = LAYOUTS[said["layout"]](**fields), float(said["score"]), float(said["iou"])
        if not 0 < score <= 1 or not 0 < iou <= 1:
            raise ValueError(f"a threshold is above 0 and at most 1, not {score} and {iou}")
        if layout.classes is not None and not 1 <= layout.classes <= MAX_CLASSES:
            raise ValueError(f"{layout.classes} classes")
        if min(layout.unit) <= 0:
            raise ValueError(f"a picture of {layout.unit}")
        return cls(layout, score, iou, tuple(labels))

    def condense(self, outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Return the boxes (MOST, 6), best first: left, top, right, bottom, score and class, and zeros after the last.

        All of it is NaN if an output is not finite.
        """
        if not all(np.isfinite(output).all() for output in outputs):
            return np.full((MOST, COLUMNS), np.nan, np.float32)
        found = best_of(self.layout.candidates(outputs, self.score), self.iou, self.layout.suppression)
        places = np.clip(found.places / (self.layout.unit * 2), 0, 1)  # outside the picture there is nothing to see
        table = np.zeros((MOST, COLUMNS), np.float32)
        table[: len(places)] = np.column_stack([places, np.clip(found.scores, 0, 1), found.classes])
        return table

    def answer(self, output: npt.NDArray[np.float32], labels: Sequence[str]) -> Boxes:
        """Return the boxes in a condensed output; ValueError if it is not finite."""
        if not np.isfinite(output).all():
            raise ValueError("the network overflows on its features")
        rows = output[output[:, 4] > 0]
        packed = np.zeros(len(rows), PACKED)
        packed["place"], packed["score"] = np.rint(rows[:, :4] * FULL), np.rint(rows[:, 4] * FULL)
        packed["class"] = rows[:, 5]
        visible = (packed["place"][:, :2] < packed["place"][:, 2:]).all(axis=1)
        return _named(packed[visible][: boxes.MOST], labels)

    def read(self, untrusted: Plain) -> Boxes:
        """Read boxes as they are packed; ValueError for anything else."""
        if type(untrusted) is not bytes or len(untrusted) % PACKED.itemsize:
            raise ValueError("not boxes")
        packed = np.frombuffer(untrusted, PACKED)
        if len(packed) > boxes.MOST:
            raise ValueError(f"not boxes: more than {boxes.MOST} of them")
        if self.layout.classes is not None and (packed["class"] >= self.layout.classes).any():
            raise ValueError("not a class index")
        if (packed["place"][:, :2] >= packed["place"][:, 2:]).any():
            raise ValueError("not a place")
        return _named(packed, self.labels)


def _named(packed: npt.NDArray[np.void], labels: Sequence[str]) -> Boxes:
    scores, places = packed["score"] / FULL, packed["place"] / FULL
    rows = zip(packed["class"].tolist(), scores.tolist(), places.tolist(), strict=True)
    return Boxes(tuple(Box(index, label_of(index, labels), score, tuple(place)) for index, score, place in rows))


def _plain(layout: Layout) -> dict[str, Plain]:
    fields: dict[str, Plain] = asdict(layout)  # type: ignore[call-overload]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
