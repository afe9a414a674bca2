"""What an answer is: a head makes one of the network's output, and reads one that came over the link."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Plain = Any  # what msgpack can carry: None, bool, int, float, str, bytes, and lists and maps of these


class Answer(Protocol):
    """What the network says of one tensor."""

    def packed(self) -> Plain:
        """Return it as the result message carries it: `wire.MAX_ANSWER_BYTES` in msgpack at most."""

    def record(self) -> dict[str, Plain]:
        """Return its entries in a frame's record, `head` among them."""

    def lines(self) -> list[tuple[str, float]]:
        """Return (label, score from 0 to 1) for people to look at, best first."""


class Head(Protocol):
    """Turns outputs into answers. `name` is the head's name in manifests and records.

    `no_answer` is what the records of frames hold for which no answer came.
    """

    @property
    def name(self) -> str:
        """The head's name."""

    @property
    def no_answer(self) -> Answer:
        """An answer that says nothing."""

    def answer(self, output: npt.NDArray[np.float32], labels: Sequence[str]) -> Answer:
        """Return the answer in one tensor's `output`, whose classes are called `labels`.

        ValueError where the output is not finite: an edge may send any features.
        """

    def read(self, untrusted: Plain) -> Answer:
        """Return the answer that a result message carries; ValueError where it is none."""
