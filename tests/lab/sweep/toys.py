"""A toy network for sweeps: features from the image's pixels, a class from the features, any estimator's scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from gradfec_common.packets import PacketGrid

Floats = npt.NDArray[np.float32]


class ToyScores:
    """Features that are the image's pixels, repeated; scores that are the packets' sums, or draws by name."""

    def __init__(self, estimators: list[str], grid: PacketGrid) -> None:
        self.estimators, self.grid = estimators, grid
        self.fingerprints: dict[str, str] = {name: f"of {name}" for name in estimators}
        self.asked: list[str] = []  # names of the images that were scored

    def __call__(
        self, images: npt.NDArray[np.uint8], names: list[str], classes: npt.NDArray[np.intp] | None = None
    ) -> tuple[Floats, dict[str, Floats], dict[str, Floats]]:
        self.asked += names
        chi = np.stack([np.resize(image, self.grid.shape).astype(np.float32) for image in images])
        sums = np.stack([self.grid.split(one).sum(axis=1) for one in chi])
        scores = {
            name: sums if name in {"gradcam", "activation"} else np.random.default_rng(len(name)).random(sums.shape)
            for name in self.estimators
        }
        return chi, scores, {}


class ToyModel:
    """A class by the mean of the features: every packet that is missing may change it."""

    def __init__(self, step: float = 1.0) -> None:
        self.step = step
        self.batches: list[int] = []
        self.seen: list[Floats] = []

    def __call__(self, chi: Floats) -> npt.NDArray[np.intp]:
        self.batches.append(len(chi))
        self.seen += [*chi.copy()]
        return (chi.astype(np.float64).mean(axis=(1, 2, 3)) / self.step).astype(np.intp)


def install(monkeypatch: Any, model: ToyModel | None = None) -> tuple[list[ToyScores], ToyModel]:
    """Put toys in the place of the networks; return what was made of them."""
    model = model or ToyModel()
    made: list[ToyScores] = []

    def load(estimators: list[str], split: object, grid: PacketGrid, seed: int) -> tuple[ToyScores, ToyModel, str]:
        made.append(ToyScores(estimators, grid))
        return made[-1], model, "toy weights"

    monkeypatch.setattr("gradfec_lab.sweep.study.load_network", load)
    return made, model


def write_images(folder: Path, count: int, draw: Callable[[np.random.Generator], Any] | None = None) -> list[str]:
    """Write PNGs of noise, 224 x 224, and return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    names = [f"{i:03}.png" for i in range(count)]
    for name in names:
        pixels = draw(rng) if draw else rng.integers(0, 255, (224, 224, 3))
        cv2.imwrite(str(folder / name), np.asarray(pixels, np.uint8))
    return names
