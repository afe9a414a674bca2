"""The interface of a head, which turns the network's output into an answer, and reads one that came over the link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Plain = Any  # what msgpack can carry: None, bool, int, float, str, bytes, and lists and maps of these
Outputs = Sequence[npt.NDArray[Any]]  # of a network
Named = Sequence[tuple[str, tuple[int, ...]]]  # outputs' names and dimensions

# Where something is: left, top, right, bottom, in fractions of a picture's width and height.
Place = tuple[float, float, float, float]
WHOLE: Place = (0.0, 0.0, 1.0, 1.0)
DIGITS = 4  # of a share in a record


class Answer(Protocol):
    """The network's answer for one tensor. Its own are the first three methods, and what differs of the others."""

    def packed(self) -> Plain:
        """Return the answer as in a result message: at most `wire.MAX_ANSWER_BYTES` in msgpack."""

    def record(self) -> dict[str, Plain]:
        """Return its entries in a frame's record, including `head`."""

    def lines(self) -> list[tuple[str, float]]:
        """Return (label, score from 0 to 1) for people to look at, best first."""

    def agreement(self, other: Answer) -> float:
        """Return how well another answer agrees with this one, from 0 to 1, here 1 if they are the same."""
        return float(self == other)

    def sureness(self) -> float | None:
        """Return how sure the network is, from 0 to 1; None if its answers do not say."""
        return None

    def summary(self) -> str:
        """Return the answer in a few words, for a line in a terminal, here the best label and its score."""
        return next((f"{label} {score:.2f}" for label, score in self.lines()), "no label")

    def boxes(self) -> list[tuple[str, float, Place]] | None:
        """Return (label, score, place) of what can be drawn over the picture, best first; None if it has no places."""
        return None

    def placed(self, part: Place) -> Answer:
        """Return the answer for a picture of which the network saw `part`; what it saw may reach beyond the picture."""
        return self


def agreement(reference: Answer, other: Answer) -> float:
    """Return how well an answer agrees with a reference, from 0 to 1; the mean over pictures is a rate.

    1 or 0 for the same likeliest class (`Classes`); the F1 of boxes that overlap by at least half (`Boxes`); 1 or 0 for
    tensors that differ by at most 5 % of their norm (`Tensors`). A picture that got no answer is the caller's to count
    as 0: a detector's `no_answer` is the same as an answer without boxes.
    """
    return reference.agreement(other)


class Head(Protocol):
    """Turns outputs into answers. `name` is the head's name in manifests and records.

    `no_answer` goes into the record of a frame that got no answer.
    """

    @property
    def name(self) -> str:
        """The name in manifests and records."""

    @property
    def no_answer(self) -> Answer:
        """An answer that says nothing."""

    def answer(self, output: npt.NDArray[np.float32], labels: Sequence[str]) -> Answer:
        """Return the answer in one tensor's `output`, whose classes are called `labels`.

        ValueError if the output is not finite: an edge may send any features.
        """

    def read(self, untrusted: Plain) -> Answer:
        """Return the answer that a result message carries; ValueError if it is not one."""


class Describable(Head, Protocol):
    """A head that an imported network may have: its manifest describes it.

    `layouts` are the names of those that the outputs may have, if there are several.
    """

    layouts: ClassVar[tuple[str, ...]]

    @classmethod
    def describe(
        cls, outputs: Named, trial: Outputs, size: tuple[int, int], layout: str = ""
    ) -> dict[str, Plain] | str:
        """Return the manifest's entry for a head with these `outputs` (name, dimensions), or why it does not fit.

        `trial` has the outputs for some picture of `size` (height, width). The user may want a `layout`.
        """

    @classmethod
    def of(cls, said: Mapping[str, Plain], labels: Sequence[str] = ()) -> Describable:
        """Return the head that a manifest describes, for classes that are called `labels` here.

        ValueError, KeyError or TypeError if it is not for this class.
        """

    def condense(self, outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Return what `answer` needs of an imported network's `outputs` for one picture, each with a batch of 1.

        A worker calls it, so that what may be megabytes does not travel. Not finite in, not finite out.
        """
