"""The interface of a head, which makes an answer of the network's output, and reads one that came over the link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Plain = Any  # what msgpack can carry: None, bool, int, float, str, bytes, and lists and maps of these


class Answer(Protocol):
    """The network's answer for one tensor."""

    def packed(self) -> Plain:
        """Return the answer as in a result message: at most `wire.MAX_ANSWER_BYTES` in msgpack."""

    def record(self) -> dict[str, Plain]:
        """Return its entries in a frame's record, including `head`."""

    def lines(self) -> list[tuple[str, float]]:
        """Return (label, score from 0 to 1) for people to look at, best first."""


class Head(Protocol):
    """Turns outputs into answers. `name` is the head's name in manifests and records.


    `no_answer` goes into the record of a frame that got no answer.
    """

    @property
    def name(self) -> str:
        """The head's name."""

    @property
    def no_answer(self) -> Answer:
        """An answer that says nothing."""

    def condense(self, outputs: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """Return what `answer` needs of an imported network's `outputs` for one picture, each with a batch of 1.

        A worker calls it, so that what may be megabytes does not travel. Not finite in, not finite out.
        """

    def answer(self, output: npt.NDArray[np.float32], labels: Sequence[str]) -> Answer:
        """Return the answer in one tensor's `output`, whose classes are called `labels`.

        ValueError if the output is not finite: an edge may send any features.
        """

    def read(self, untrusted: Plain) -> Answer:
        """Return the answer that a result message carries; ValueError if it is not one."""


class Describable(Head, Protocol):
    """A head that an imported network may have: its manifest describes it."""

    @classmethod
    def describe(
        cls, outputs: Sequence[tuple[str, tuple[int, ...]]], trial: Sequence[npt.NDArray[np.float32]]
    ) -> dict[str, Plain] | str:
        """Return what a manifest is to say of the head for `outputs` of such names and dimensions, or why it is none.

        `trial` has the outputs for some picture.
        """

    @classmethod
    def of(cls, said: Mapping[str, Plain]) -> Head:
        """Return the head that a manifest describes; ValueError, KeyError or TypeError if it is not for this class."""
