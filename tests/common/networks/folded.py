"""A small classifier with convolutions that have a normalisation each, as ResNet-50 has after its cut."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.heads.classify import Classify
from gradfec_common.networks import Layer, Network, Preprocess

SIDE, FEW, MANY, CLASSES = 16, 6, 8, 5


def _normalised(name: str, source: str, channels: int, filters: int) -> tuple[Layer, ...]:
    shape = (SIDE, SIDE, filters)
    options = {"filters": filters, "kernel_size": 3, "strides": 1, "padding": "same"}
    arrays = {"kernel": (3, 3, channels, filters), "bias": (filters,)}
    each = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (filters,))
    return (
        Layer(f"{name}_conv", "Conv2D", (source,), shape, options, arrays),
        Layer(f"{name}_bn", "BatchNormalization", (f"{name}_conv",), shape, {"epsilon": 1e-3}, each),
        Layer(f"{name}_relu", "Activation", (f"{name}_bn",), shape, {"activation": "relu"}),
    )


DENSE = {"units": CLASSES, "activation": "softmax"}
FOLDED = Network(
    "folded",
    "Folded",
    (
        Layer("image", "InputLayer", (), (SIDE, SIDE, 3)),
        *_normalised("first", "image", 3, FEW),
        *_normalised("second", "first_relu", FEW, MANY),
        *_normalised("third", "second_relu", MANY, MANY),
        Layer("pool", "GlobalAveragePooling2D", ("third_relu",), (1, 1, MANY)),
        Layer("classes", "Dense", ("pool",), (1, 1, CLASSES), DENSE, {"kernel": (MANY, CLASSES), "bias": (CLASSES,)}),
    ),
    Preprocess(SIDE, SIDE, order="rgb", scales=(1 / 255,) * 3),
    Classify(CLASSES),
)
CUT = FOLDED.cut("first_relu")


class Drawn:
    """Weights drawn at random, always the same ones."""

    def arrays(self, layer: str) -> list[npt.NDArray[np.float32]]:
        """Return a layer's arrays; variances are positive."""
        rng = np.random.default_rng([*layer.encode()])
        found = []
        for name, shape in FOLDED.by_name[layer].arrays.items():
            drawn = rng.normal(size=shape).astype(np.float32) * np.sqrt(np.float32(2 / max(np.prod(shape[:-1]), 8)))
            found.append(np.abs(drawn) + np.float32(0.5) if name in {"gamma", "moving_variance"} else drawn)
        return found
