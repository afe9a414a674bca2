"""A network of three layers and a head, as a stranger would add them: no product file knows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common.heads import Answer
from gradfec_common.networks import Layer, Network, Preprocess

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Point(Answer):
    """Where something is in the picture, and how sure the network is of it."""

    x: float
    y: float
    sure: float

    def packed(self) -> Any:
        return {"at": [self.x, self.y], "sure": self.sure}

    def record(self) -> dict[str, Any]:
        return {"head": "point", "at": [self.x, self.y], "sure": self.sure}

    def lines(self) -> list[tuple[str, float]]:
        return [(f"at {self.x:.2f}, {self.y:.2f}", self.sure)] if self.sure else []


class PointHead:
    """Reads three numbers as a point."""

    name = "point"
    no_answer = Point(0.0, 0.0, 0.0)

    def answer(self, output: Floats, labels: Sequence[str]) -> Point:
        if not np.isfinite(output).all():
            raise ValueError("the network overflows")
        return Point(*map(float, output))

    def read(self, untrusted: Any) -> Point:
        (x, y), sure = untrusted["at"], untrusted["sure"]  # a KeyError or TypeError is as good as a ValueError
        if not all(type(number) is float and math.isfinite(number) for number in (x, y, sure)):
            raise ValueError("not a point")
        return Point(x, y, sure)


SIDE = 8
TOY = Network(
    "toy",
    "Toy",
    (
        Layer("image", "InputLayer", (), (SIDE, SIDE, 3)),
        Layer("mix", "Conv2D", ("image",), (SIDE, SIDE, 4), {"filters": 4, "kernel_size": 1}, {"kernel": (1, 1, 3, 4)}),
        Layer("point", "Dense", ("mix",), (1, 1, 3), {"units": 3}, {"kernel": (SIDE * SIDE * 4, 3)}),
    ),
    Preprocess(SIDE, SIDE, order="rgb", scales=(1 / 255,) * 3),
    PointHead(),
)
_RNG = np.random.default_rng(3)
MIX = _RNG.normal(size=(3, 4)).astype(np.float32)
POINT = _RNG.normal(size=(SIDE * SIDE * 4, 3)).astype(np.float32) / SIDE


def front_end(image: npt.NDArray[np.uint8]) -> Floats:
    """Return the features (8, 8, 4) of an RGB image (8, 8, 3)."""
    features: Floats = (image * np.array(TOY.preprocess.scales, np.float32)) @ MIX
    return features


def back_end(features: Floats) -> Floats:
    """Return the outputs (N, 3) of features (N, 8, 8, 4)."""
    outputs: Floats = features.reshape(len(features), -1) @ POINT
    return outputs
