"""Classification: the five likeliest classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gradfec_common.heads.head import DIGITS, Answer, Named, Outputs, Plain

BEST = 5
MAX_CLASSES = 100_000
MAX_LABEL_BYTES = 160  # a result must have room for BEST labels
NAME = "classify"


@dataclass(frozen=True)
class Classes(Answer):
    """The likeliest classes, best first: each its index, its label and its probability."""

    best: tuple[tuple[int, str, float], ...]

    def packed(self) -> Plain:
        """Return [class index, label, score] lists."""
        return [[*one] for one in self.best]

    def record(self) -> dict[str, Plain]:
        """Return the classes under `top5`."""
        return {
            "head": NAME,
            "top5": [
                {"class_index": index, "label": label, "score": round(score, DIGITS)}
                for index, label, score in self.best
            ],
        }

    def lines(self) -> list[tuple[str, float]]:
        """Return (label, score) of each class."""
        return [(label, score) for _, label, score in self.best]

    def sureness(self) -> float:
        """Return the likeliest class's probability."""
        return self.best[0][2] if self.best else 0.0

    def agreement(self, other: Answer) -> float:
        """Return 1 if the likeliest class is the same, else 0; without a class, nothing agrees."""
        if not isinstance(other, Classes) or not self.best or not other.best:
            return 0.0
        return float(self.best[0][0] == other.best[0][0])


@dataclass(frozen=True)
class Classify:
    """The head of a network with one probability a class, or one `logit`."""

    classes: int
    logits: bool = False

    name = NAME
    layouts: ClassVar[tuple[str, ...]] = ()
    no_answer = Classes(())

    @classmethod
    def describe(
        cls, outputs: Named, trial: Outputs, size: tuple[int, int], layout: str = ""
    ) -> dict[str, Plain] | str:
        """Describe a head for one output that is a vector, probabilities if it adds up to 1."""
        (_, dims), first = outputs[0], trial[0]
        classes = max(dims, default=1)
        if len(outputs) > 1 or not 1 < classes == first.size <= MAX_CLASSES:
            return f"classify is for one vector of 2 to {MAX_CLASSES} classes"
        likely = first.min() >= 0 and math.isclose(float(first.sum()), 1, abs_tol=1e-3)
        return {"classes": classes, "logits": not likely}

    @classmethod
    def of(cls, said: Mapping[str, Any], labels: Sequence[str] = ()) -> Classify:
        """Read `classes` and `logits` of a manifest; ValueError, KeyError or TypeError if it does not say them."""
        if not 1 <= int(said["classes"]) <= MAX_CLASSES:
            raise ValueError(f"{said['classes']} classes")
        return cls(int(said["classes"]), bool(said["logits"]))

    def condense(self, outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Return the probabilities (classes,) in the first output."""
        output = outputs[0].reshape(-1).astype(np.float32)
        if not self.logits:
            return output
        likelihoods = np.exp(output - output.max())
        probabilities: npt.NDArray[np.float32] = likelihoods / likelihoods.sum()
        return probabilities

    def answer(self, output: npt.NDArray[np.float32], labels: Sequence[str]) -> Classes:
        """Return the five likeliest of (classes,) probabilities; ValueError if one is not finite."""
        if not np.isfinite(output).all():
            raise ValueError("the network overflows on its features")
        best = np.argsort(-output, kind="stable")[:BEST].tolist()
        return Classes(tuple((index, label_of(index, labels), float(output[index])) for index in best))

    def read(self, untrusted: Plain) -> Classes:
        """Read at most five [class index, label, score]; ValueError for anything else."""
        if type(untrusted) is not list or len(untrusted) > BEST:
            raise ValueError("not a list of classes")
        return Classes(tuple(map(self._class, untrusted)))

    def _class(self, untrusted: Plain) -> tuple[int, str, float]:
        if type(untrusted) is not list or len(untrusted) != 3:
            raise ValueError("not [class index, label, score]")
        index, label, score = untrusted
        if type(index) is not int or not 0 <= index < self.classes:
            raise ValueError("not a class index")
        if type(label) is not str or len(label.encode()) > MAX_LABEL_BYTES:
            raise ValueError("not a label")
        if type(score) is not float or not math.isfinite(score):
            raise ValueError("not a score")
        return index, label, score


def label_of(index: int, labels: Sequence[str]) -> str:
    """Return a class's label, or `class` and its index if the network has no labels."""
    return labels[index] if index < len(labels) else f"class {index}"
