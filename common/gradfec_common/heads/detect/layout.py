"""Layouts: how detectors write boxes into their outputs. What they have in common."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common.heads.boxes import overlap
from gradfec_common.heads.head import Named, Outputs

Unit = tuple[float, float]
Floats = npt.NDArray[np.float64]

MOST = 100  # boxes that a detector finds
CONSIDERED = 2000  # candidates, at most: a network on broken features may find boxes everywhere
ROUNDING = 1e-3
LARGEST_FRACTION = 2.0  # boxes may reach beyond the picture, but no further; larger numbers are pixels


class Suppression(enum.Enum):
    """Which boxes give way to one with a higher score that overlaps them."""

    NONE = "none"  # the network has suppressed them itself
    SAME_CLASS = "same class"
    ALL = "all"


@dataclass(frozen=True)
class Candidates:
    """What may be there: `places` (n, 4) as left, top, right, bottom, `scores` (n,) and `classes` (n,)."""

    places: Floats
    scores: Floats
    classes: npt.NDArray[np.intp]

    def some(self, some: npt.NDArray[Any]) -> Candidates:
        """Return some of them, by number or by mask."""
        return Candidates(self.places[some], self.scores[some], self.classes[some])


class Layout(Protocol):
    """A layout, as found in some network's outputs: a frozen dataclass, whose fields are kept in the manifest.

    `usual_score` and `usual_iou` are the thresholds, and `suppression` is the way, of where the layout comes from.
    `unit` is the picture's width and height in the unit of the outputs: pixels, or 1 and 1.
    """

    name: ClassVar[str]
    usual_score: ClassVar[float]
    usual_iou: ClassVar[float]
    suppression: ClassVar[Suppression]

    @property
    def classes(self) -> int | None:
        """How many classes there are; None if the outputs do not say."""

    @property
    def unit(self) -> Unit:
        """The width and height of the picture, as the outputs measure places."""

    @classmethod
    def found(cls, outputs: Named, trial: Outputs, size: tuple[int, int]) -> Layout | str:
        """Return the layout of outputs with these names and dimensions, or why they do not have this layout.

        `trial` has the outputs for some picture of `size` (height, width).
        """

    def candidates(self, outputs: Outputs, score: float) -> Candidates:
        """Return the boxes with at least that score in finite outputs, places in `unit`."""

    def all_scores(self, outputs: Sequence[Any]) -> Any:
        """Return the scores of all candidates, from 0 to 1, of outputs that are PyTorch's tensors, for gradients."""


def best_of(found: Candidates, iou: float, suppression: Suppression) -> Candidates:
    """Return the candidates that give way to none, best first, at most `MOST`.

    Greedy non-maximum suppression: the best one stays, what overlaps it by more than `iou` goes, and so on.
    """
    left = np.argsort(-found.scores, kind="stable")[:CONSIDERED]
    if suppression is Suppression.NONE:
        return found.some(left[:MOST])
    kept: list[int] = []
    while len(left) and len(kept) < MOST:
        best, left = left[0], left[1:]
        kept.append(best)
        gives_way = overlap(found.places[best], found.places[left]) > iou
        if suppression is Suppression.SAME_CLASS:
            gives_way &= found.classes[left] == found.classes[best]
        left = left[~gives_way]
    return found.some(np.array(kept, np.intp))


def unit_of(places: npt.NDArray[Any], size: tuple[int, int]) -> Unit:
    """Guess the unit of places (n, 4), corners or centres, in a picture of `size` (height, width).

    Most of them decide: some may be far off, and what is all zeros is no place. Without any, it is pixels.
    """
    reach = np.abs(places).max(axis=1)
    reach = reach[reach > 0]
    fractions = len(reach) > 0 and np.median(reach) <= LARGEST_FRACTION
    return (1.0, 1.0) if fractions else (float(size[1]), float(size[0]))


def corners(centred: npt.NDArray[Any]) -> Floats:
    """Turn centres, widths and heights (n, 4) into places (n, 4)."""
    centre, half = centred[:, :2].astype(np.float64), centred[:, 2:].astype(np.float64) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def are_shares(numbers: npt.NDArray[Any]) -> bool:
    """Return whether all numbers can be probabilities, but for rounding."""
    return bool(numbers.size and numbers.min() >= -ROUNDING and numbers.max() <= 1 + ROUNDING)


def shapes_of(outputs: Named) -> str:
    """Return the outputs in words."""
    return ", ".join(f"{name} {' x '.join(map(str, dims)) or 'scalar'}" for name, dims in outputs)
