"""Toy ends for sweeps over codecs: any cut's tensor is the picture's pixels, and a class is the tensor's mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from gradfec_cloud.catalogue import Catalogue
from gradfec_common.networks.pixels import normalise
from gradfec_edge.coding import Coding
from gradfec_edge.frontend import Features

Floats = npt.NDArray[np.float32]


class ToyEnds:
    """Ends without networks; `asked` counts the tensors that were answered."""

    def __init__(self, coding: Coding) -> None:
        self.coding = coding
        self.conceal = Catalogue.of([coding.cut], "zero").concealments[coding.cut]
        self.fingerprints = {"the weights": "toys"}
        self.asked = 0

    def features(self, image: npt.NDArray[np.uint8]) -> Features:
        cut, grid = self.coding.cut, self.coding.grid
        chi = np.resize(image.astype(np.float32) / 128, cut.shape)
        if cut.pixels:
            chi = normalise(image, cut.pixels)
        return Features(chi, np.arange(grid.count, 0, -1, np.float32))

    def classes(self, tensors: Iterable[Floats]) -> Iterator[int]:
        return (index for index, _ in self.answers(tensors))

    def answers(self, tensors: Iterable[Floats]) -> Iterator[tuple[int, float]]:
        for tensor in tensors:
            assert tensor.shape == self.coding.cut.received.shape
            self.asked += 1
            mean = float(np.abs(tensor).mean(dtype=np.float64))
            yield int(mean / 0.05), mean % 1


def install(monkeypatch: pytest.MonkeyPatch) -> list[ToyEnds]:
    """Put toys in the place of the networks; return what was made of them."""
    made: list[ToyEnds] = []

    def load(coding: Coding, importance: str | None = None) -> ToyEnds:
        made.append(ToyEnds(coding))
        return made[-1]

    monkeypatch.setattr("gradfec_lab.sweep.ends.load_ends", load)
    return made
