"""A small network with a block around which nothing leads, and a bottleneck for it as a stranger would add it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from gradfec_common.bottlenecks import Bottleneck
from gradfec_common.errors import UsageError
from gradfec_common.heads import Classify
from gradfec_common.networks import Cut, Layer, Network, Preprocess

Floats = npt.NDArray[np.float32]


def _convolution(name: str, source: str, side: int, channels: int, filters: int, strides: int = 1) -> Layer:
    options = {"filters": filters, "kernel_size": 3, "strides": strides, "padding": "same"}
    return Layer(
        name,
        "Conv2D",
        (source,),
        (side, side, filters),
        options,
        {"kernel": (3, 3, channels, filters), "bias": (filters,)},
    )


def _relu(name: str, source: str, side: int, channels: int) -> Layer:
    return Layer(name, "Activation", (source,), (side, side, channels), {"activation": "relu"})


NETWORK = Network(
    "blocks",
    "Blocks",
    (
        Layer("picture", "InputLayer", (), (32, 32, 3)),
        _convolution("stem", "picture", 16, 3, 8, strides=2),
        _relu("stem_relu", "stem", 16, 8),
        _convolution("block", "stem_relu", 16, 8, 8),
        Layer("block_add", "Add", ("stem_relu", "block"), (16, 16, 8)),
        _relu("block_out", "block_add", 16, 8),
        _convolution("last", "block_out", 16, 8, 6),
        Layer("pool", "GlobalAveragePooling2D", ("last",), (1, 1, 6)),
        Layer(
            "classes", "Dense", ("pool",), (1, 1, 4), {"units": 4, "activation": "softmax"},
            {"kernel": (6, 4), "bias": (4,)},
        ),
    ),
    Preprocess(32, 32, order="rgb", scales=(1 / 255,) * 3),
    Classify(4),
)  # fmt: skip
CUT = NETWORK.cut("stem")  # a ReLU follows: what is below zero does not matter
NAME = "halve"


def halve(cut: Cut, joins: str = "") -> Bottleneck:
    """Half the sides, a quarter of the channels; it stands for the layers up to `joins`, of the cut's sides."""
    height, width, channels = cut.shape
    if height % 2 or width % 2:
        raise UsageError(f"{NAME} needs a tensor with even sides, not {height} x {width}")
    target = cut.network.by_name[joins or cut.name].shape
    few, size = max(channels // 4, 1), {"kernel_size": 2, "strides": 2, "padding": "valid"}
    arrays = {"kernel": (2, 2, channels, few), "bias": (few,)}
    small = (height // 2, width // 2, few)
    encoder = (Layer("encoder", "Conv2D", (cut.name,), small, {**size, "filters": few}, arrays),)
    enlarge = {"kernel": (2, 2, target[2], 2 * few), "bias": (target[2],)}
    decoder = (
        Layer("latents", "InputLayer", (), (*small[:2], 2 * few)),
        Layer("decoder", "Conv2DTranspose", ("latents",), target, {**size, "filters": target[2]}, enlarge),
    )
    return Bottleneck(NAME, cut, encoder, decoder, joins or cut.name)


def drawn(layers: tuple[Layer, ...], seed: int = 0) -> dict[str, list[Floats]]:
    """Arrays for layers, such that tensors neither fade nor explode; none for a layer that has none."""
    rng = np.random.default_rng(seed)
    made = {}
    for layer in layers:
        shapes = layer.arrays.values()
        kernel = next(iter(shapes), (1,))
        sources = kernel[-1] if layer.kind == "Conv2DTranspose" else math.prod(kernel[:-1])  # of each output
        scales = {True: 0.1, False: 1 / math.sqrt(sources)}  # of a bias, and of a kernel
        made[layer.name] = [rng.normal(0, scales[len(one) == 1], one).astype(np.float32) for one in shapes]
    return made


def trained(bottleneck: Bottleneck, seed: int = 0) -> dict[str, list[Floats]]:
    """Arrays for both halves."""
    return drawn((*bottleneck.encoder, *bottleneck.decoder), seed)


class Drawn:
    """The weights of a network, drawn."""

    def __init__(self, network: Network, seed: int = 1) -> None:
        self._arrays = drawn(network.layers, seed)

    def arrays(self, layer: str) -> list[Floats]:
        return self._arrays[layer]
