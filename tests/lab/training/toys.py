"""A toy front-end and oracle for targets and training: quick, and told apart from image to image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from gradfec_cli.gradcam import Attribution
from gradfec_common.networks import named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_lab.photographs import Photographs
from gradfec_lab.training.targets import Settings, Targets, shuffled

Floats = npt.NDArray[np.float32]

SPLIT = named_cut("pool1_pool")  # (56, 56, 64)
ROWS = 14
GRID = PacketGrid(SPLIT.shape, ROWS)  # 4 row groups, 4 tiles a packet, 256 packets
FIRST = 60  # of 48 names from 060.png on, four are held out


class Features(NamedTuple):
    chi: Floats
    scores: None = None
    damage: None = None


class ToyNetwork:
    """Counts the images that pass; `before` is called ahead of each batch, with the number of images so far."""

    def __init__(self, before: Callable[[int], None] = lambda images: None) -> None:
        self.before, self.images = before, 0

    def features(self, images: npt.NDArray[np.uint8]) -> Features:
        """Make chi of the pixels; each channel looks at another one, a fifth is negative."""
        self.before(self.images)
        self.images += len(images)
        pixels = images[:, ::4, ::4].reshape(len(images), 56, 56, 3).astype(np.float32) / 100
        return Features(np.stack([np.roll(pixels[..., c % 3], c, axis=1) - 0.5 for c in range(64)], axis=-1))

    def explain(self, chi: Floats) -> Attribution:
        """Find the gradient larger where chi's first channel is, of both signs."""
        signs = np.where(np.arange(64) % 2, -1, 1) * np.linspace(0.5, 2, 64)
        gradient = (chi[..., :1] * signs).astype(np.float32) * (chi > 0)
        nobody = np.zeros(len(chi), np.intp)
        return Attribution(np.maximum(chi * gradient, 0), gradient, nobody, np.zeros((len(chi), 1000), np.float32))


def install(monkeypatch: Any, before: Callable[[int], None] = lambda images: None) -> ToyNetwork:
    """Put the toy in the place of front-end and oracle."""
    toy = ToyNetwork(before)
    monkeypatch.setattr("gradfec_edge.frontend.keras_runtime.KerasFrontEnd", lambda split, weights: toy.features)
    monkeypatch.setattr("gradfec_cli.gradcam.GradCam", lambda split, weights, score: toy.explain)
    return toy


def shrink(monkeypatch: Any) -> None:
    """Make the saliency network one block deep, and its 44 images whole batches: most of the time goes into tracing."""
    from gradfec_lab.training import saliency

    monkeypatch.setattr("gradfec_edge.frontend.keras_proxy.DEPTH", 1)
    monkeypatch.setattr(saliency, "BEST", replace(saliency.BEST, batch=22))


def write_images(folder: Path, count: int) -> Path:
    """Write PNGs of coarse noise, 224 x 224."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    for number in range(FIRST, FIRST + count):
        blocks = rng.integers(0, 256, (14, 14, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:03}.png"), blocks.repeat(16, 0).repeat(16, 1))
    return folder


def targets_of(folder: Path, images: Path, /, elements: bool = False, **others: Any) -> Targets:
    """Open a cache of targets for all the images of a folder."""
    photographs = Photographs(images, RESNET50.preprocess)
    names = shuffled(photographs.names)
    settings = {
        "images": photographs.digest(names),
        "count": len(names),
        "split": SPLIT.name,
        "rows": ROWS,
        "score": "logit",
    }
    return Targets(folder, photographs, names, Settings(**(settings | {"elements": elements} | others)))
