"""Raw: the network's outputs themselves, for callers that know what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from numpy.linalg import norm

from gradfec_common.heads.head import Answer, Named, Outputs, Plain

NAME = "raw"
SAME_WITHIN = 0.05  # of a tensor's norm: what differs by no more agrees
MAX_ELEMENTS = 240  # of all outputs together: an answer must fit a result message as float32


@dataclass(frozen=True)
class Tensors(Answer):
    """The outputs: the name, the dimensions and the elements of each."""

    named: tuple[tuple[str, tuple[int, ...], tuple[float, ...]], ...]

    def packed(self) -> Plain:
        """Return the elements of all outputs as float32, big-endian."""
        return np.array([one for _, _, elements in self.named for one in elements], ">f4").tobytes()

    def record(self) -> dict[str, Plain]:
        """Return the outputs under `tensors`, by name: `dims`, and `data` in C order."""
        return {
            "head": NAME,
            "tensors": {name: {"dims": [*dims], "data": [*elements]} for name, dims, elements in self.named},
        }

    def lines(self) -> list[tuple[str, float]]:
        """Return nothing: there is no label and no score."""
        return []

    def summary(self) -> str:
        """Return the outputs' names."""
        return ", ".join(name for name, _, _ in self.named)

    def agreement(self, other: Answer) -> float:
        """Return 1 if each tensor differs by at most `SAME_WITHIN` of its Euclidean norm, else 0."""
        if not isinstance(other, Tensors) or [one[:2] for one in self.named] != [one[:2] for one in other.named]:
            return 0.0
        pairs = [
            (np.array(mine), np.array(theirs)) for (*_, mine), (*_, theirs) in zip(self.named, other.named, strict=True)
        ]
        return float(all(norm(mine - theirs) <= SAME_WITHIN * norm(mine) for mine, theirs in pairs))


@dataclass(frozen=True)
class Raw:
    """The head of a network whose `outputs`, by name and dimensions, are handed on as they are."""

    outputs: tuple[tuple[str, tuple[int, ...]], ...]

    name = NAME
    layouts: ClassVar[tuple[str, ...]] = ()
    no_answer = Tensors(())

    @classmethod
    def describe(
        cls, outputs: Named, trial: Outputs, size: tuple[int, int], layout: str = ""
    ) -> dict[str, Plain] | str:
        """Describe a head for any outputs, if an answer has room for them."""
        elements = sum(math.prod(dims) for _, dims in outputs)
        if not 0 < elements <= MAX_ELEMENTS:
            return f"an answer has room for {MAX_ELEMENTS} elements, not for {elements}"
        return {"outputs": [[name, [*dims]] for name, dims in outputs]}

    @classmethod
    def of(cls, said: Mapping[str, Any], labels: Sequence[str] = ()) -> Raw:
        """Read `outputs`, [name, dims] each; ValueError, KeyError or TypeError if a manifest does not say them."""
        outputs = tuple((str(name), tuple(map(int, dims))) for name, dims in said["outputs"])
        elements = sum(math.prod(dims) for _, dims in outputs)
        if not outputs or min(min(dims, default=1) for _, dims in outputs) < 1 or elements > MAX_ELEMENTS:
            raise ValueError(f"an answer has room for {MAX_ELEMENTS} elements, not for {elements}")
        return cls(outputs)

    def condense(self, outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Return the elements (elements,) of the outputs that are handed on, the first ones."""
        return np.concatenate([output.reshape(-1) for output in outputs[: len(self.outputs)]], dtype=np.float32)

    def answer(self, output: npt.NDArray[np.float32], labels: Sequence[str]) -> Tensors:
        """Return the outputs; ValueError if one is not finite."""
        if not np.isfinite(output).all():
            raise ValueError("the network overflows on its features")
        return self._named(output)

    def read(self, untrusted: Plain) -> Tensors:
        """Read the bytes of the outputs; ValueError for anything else."""
        size = sum(math.prod(dims) for _, dims in self.outputs)
        if type(untrusted) is not bytes or len(untrusted) != 4 * size:
            raise ValueError("not the network's outputs")
        elements = np.frombuffer(untrusted, ">f4").astype(np.float32)
        if not np.isfinite(elements).all():
            raise ValueError("not finite")
        return self._named(elements)

    def _named(self, elements: npt.NDArray[np.float32]) -> Tensors:
        ends = np.cumsum([math.prod(dims) for _, dims in self.outputs])
        parts = np.split(elements, ends[:-1])
        return Tensors(
            tuple((name, dims, tuple(part.tolist())) for (name, dims), part in zip(self.outputs, parts, strict=True))
        )
