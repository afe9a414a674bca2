"""Boxes: what a detector finds in a picture, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.heads.head import DIGITS, Answer, Place, Plain

NAME = "detect"
SAME_PLACE = 0.5  # the intersection over union from which on two boxes are at the same place
SUMMARISED = 3

# A box in an answer: numbers from 0 to 1 are in steps of 1 / FULL.
PACKED = np.dtype([("class", ">u2"), ("score", ">u2"), ("place", ">u2", (4,))])
FULL = 65535
MOST = 80  # boxes: PACKED.itemsize bytes each, and an answer has `wire.MAX_ANSWER_BYTES`

Floats = npt.NDArray[np.float64]


class Box(NamedTuple):
    """One thing that was found."""

    class_index: int
    label: str
    score: float
    place: Place


@dataclass(frozen=True)
class Boxes(Answer):
    """The things that were found, best first, at most `MOST`."""

    found: tuple[Box, ...]

    def packed(self) -> Plain:
        """Return the boxes as `PACKED`, without labels: both ends have the same network, and a list of its classes."""
        rows = np.zeros(len(self.found), PACKED)
        for row, (index, _, score, place) in zip(rows, self.found, strict=True):
            row["class"], row["score"], row["place"] = index, round(score * FULL), np.rint(np.multiply(place, FULL))
        return rows.tobytes()

    def record(self) -> dict[str, Plain]:
        """Return the boxes under `boxes`, the edges of each as [left, top, right, bottom]."""
        return {
            "head": NAME,
            "boxes": [
                {
                    "class_index": one.class_index,
                    "label": one.label,
                    "score": round(one.score, DIGITS),
                    "box": [round(edge, DIGITS) for edge in one.place],
                }
                for one in self.found
            ],
        }

    def lines(self) -> list[tuple[str, float]]:
        """Return (label, score) of each box."""
        return [(one.label, one.score) for one in self.found]

    def summary(self) -> str:
        """Return the best `SUMMARISED` boxes, and how many more there are."""
        best = [f"{one.label} {one.score:.2f}" for one in self.found[:SUMMARISED]]
        more = [f"{len(self.found) - SUMMARISED} more"] if len(self.found) > SUMMARISED else []
        return ", ".join(best + more) or "nothing found"

    def boxes(self) -> list[tuple[str, float, Place]]:
        """Return (label, score, place) of each box."""
        return [(one.label, one.score, one.place) for one in self.found]

    def placed(self, part: Place) -> Boxes:
        """Return the boxes in fractions of the picture of which the network saw `part`, and none outside of it."""
        left, top, right, bottom = part
        scale, origin = np.array((right - left, bottom - top) * 2), np.array((left, top) * 2)
        places = np.clip([origin + scale * one.place for one in self.found], 0, 1).reshape(-1, 4)
        inside = (places[:, :2] < places[:, 2:]).all(axis=1)
        placed = [one._replace(place=tuple(place)) for one, place in zip(self.found, places.tolist(), strict=True)]
        return Boxes(tuple(placed[at] for at in np.flatnonzero(inside)))

    def agreement(self, other: Answer) -> float:
        """Return the F1 of the other's boxes against these: 2 x hits / (boxes here + boxes there), 1 without any.

        A hit has the class of a box here, and lies at its place by at least `SAME_PLACE`. As in COCO's evaluation, the
        other's boxes choose in the order of their scores, each the nearest one that no other has.
        """
        if not isinstance(other, Boxes):
            return 0.0
        boxes = len(self.found) + len(other.found)
        return 2 * self._hits(other) / boxes if boxes else 1.0

    def _hits(self, other: Boxes) -> int:
        if not self.found or not other.found:
            return 0
        theirs = sorted(other.found, key=lambda one: -one.score)
        overlaps = overlap(_places(theirs)[:, np.newaxis], _places(self.found))  # (theirs, here)
        same = np.array([[one.class_index == mine.class_index for mine in self.found] for one in theirs])
        overlaps[~same] = 0
        hits = 0
        for row in overlaps:
            nearest = row.argmax()
            if row[nearest] >= SAME_PLACE:
                hits += 1
                overlaps[:, nearest] = 0
        return hits


def overlap(one: Floats, other: Floats) -> Floats:
    """Return the intersection over union of places (..., 4) and (..., 4), which are broadcast; 0 for empty ones."""
    top_left, bottom_right = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    both = np.prod(np.maximum(bottom_right - top_left, 0), axis=-1)
    union = np.prod(one[..., 2:] - one[..., :2], axis=-1) + np.prod(other[..., 2:] - other[..., :2], axis=-1) - both
    shares: Floats = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return shares


def _places(found: tuple[Box, ...] | list[Box]) -> Floats:
    return np.array([one.place for one in found])
