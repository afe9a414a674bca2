"""ResNet-50 as Keras builds it, as data: its layers in Keras's order, their edges, and where the network may be cut.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1; layer names and constants are
those of `keras.applications.ResNet50`. A test compares the two layer by layer.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from gradfec_common.errors import UsageError

Shape = tuple[int, int, int]  # (H, W, C)

INPUT = "input_layer"
DEFAULT_SPLIT = "conv2_block1_add"
STAGES = ((2, 3, 64), (3, 4, 128), (4, 6, 256), (5, 3, 512))  # (stage, blocks, filters of the 3x3 convolution)
EXPANSION = 4  # a block's last 1x1 convolution has this many times the filters of its 3x3
BN_EPSILON = 1.001e-5
CLASSES = 1000


@dataclass(frozen=True)
class Layer:
    """One layer: `kind` is the class in `keras.layers`, `options` its arguments, `shape` its output (H, W, C)."""

    name: str
    kind: str
    inbound: tuple[str, ...]
    shape: Shape
    options: Mapping[str, object] = field(default_factory=dict, hash=False)
    arrays: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)  # in get_weights() order


@dataclass(frozen=True)
class SplitPoint:
    """A layer whose output is all that the rest of the network needs: the front-end ends with it.

    `id` is the registered wire value (u16, never 0); `shape` is the feature tensor's (H, W, C), and (1, 1, C) for the
    one-dimensional output (C,) of the pooling layer.
    """

    id: int
    name: str
    shape: Shape

    @property
    def elements(self) -> int:
        """Count the elements of the feature tensor."""
        return math.prod(self.shape)


def _convolution(name: str, source: Layer, filters: int, size: int, strides: int = 1, padding: str = "valid") -> Layer:
    height, width, channels = source.shape
    if padding == "valid":
        height, width = height - size + 1, width - size + 1
    shape = (-(-height // strides), -(-width // strides), filters)
    options = {"filters": filters, "kernel_size": size, "strides": strides, "padding": padding}
    arrays = {"kernel": (size, size, channels, filters), "bias": (filters,)}
    return Layer(name, "Conv2D", (source.name,), shape, options, arrays)


def _normalisation(name: str, source: Layer) -> Layer:
    channels = source.shape[2:]
    arrays = {"gamma": channels, "beta": channels, "moving_mean": channels, "moving_variance": channels}
    return Layer(name, "BatchNormalization", (source.name,), source.shape, {"epsilon": BN_EPSILON}, arrays)


def _relu(name: str, source: Layer) -> Layer:
    return Layer(name, "Activation", (source.name,), source.shape, {"activation": "relu"})


def _padding(name: str, source: Layer, border: int) -> Layer:
    height, width, channels = source.shape
    shape = (height + 2 * border, width + 2 * border, channels)
    return Layer(name, "ZeroPadding2D", (source.name,), shape, {"padding": border})


def _block(name: str, source: Layer, filters: int, strides: int, projected: bool) -> list[Layer]:
    """Build one bottleneck block in Keras's layer order; `projected` puts a convolution on its shortcut."""
    conv1 = _convolution(f"{name}_1_conv", source, filters, 1, strides)
    bn1 = _normalisation(f"{name}_1_bn", conv1)
    relu1 = _relu(f"{name}_1_relu", bn1)
    conv2 = _convolution(f"{name}_2_conv", relu1, filters, 3, padding="same")
    bn2 = _normalisation(f"{name}_2_bn", conv2)
    relu2 = _relu(f"{name}_2_relu", bn2)
    conv3 = _convolution(f"{name}_3_conv", relu2, EXPANSION * filters, 1)
    bn3 = _normalisation(f"{name}_3_bn", conv3)
    layers = [conv1, bn1, relu1, conv2, bn2, relu2]
    shortcut = source
    if projected:
        conv0 = _convolution(f"{name}_0_conv", source, EXPANSION * filters, 1, strides)
        shortcut = _normalisation(f"{name}_0_bn", conv0)
        layers += [conv0, conv3, shortcut, bn3]
    else:
        layers += [conv3, bn3]
    add = Layer(f"{name}_add", "Add", (shortcut.name, bn3.name), bn3.shape)
    return [*layers, add, _relu(f"{name}_out", add)]


def _resnet50() -> tuple[Layer, ...]:
    layers = [Layer(INPUT, "InputLayer", (), (224, 224, 3))]
    layers.append(_padding("conv1_pad", layers[-1], 3))
    layers.append(_convolution("conv1_conv", layers[-1], 64, 7, strides=2))
    layers.append(_normalisation("conv1_bn", layers[-1]))
    layers.append(_relu("conv1_relu", layers[-1]))
    layers.append(_padding("pool1_pad", layers[-1], 1))
    layers.append(Layer("pool1_pool", "MaxPooling2D", ("pool1_pad",), (56, 56, 64), {"pool_size": 3, "strides": 2}))
    for stage, blocks, filters in STAGES:
        for n in range(1, blocks + 1):
            strides = 2 if n == 1 and stage > 2 else 1  # stage 2 follows the pooling, which has halved already
            layers += _block(f"conv{stage}_block{n}", layers[-1], filters, strides, projected=n == 1)
    channels = layers[-1].shape[2]
    layers.append(Layer("avg_pool", "GlobalAveragePooling2D", (layers[-1].name,), (1, 1, channels)))
    dense = {"units": CLASSES, "activation": "softmax"}
    arrays = {"kernel": (channels, CLASSES), "bias": (CLASSES,)}
    layers.append(Layer("predictions", "Dense", ("avg_pool",), (1, 1, CLASSES), dense, arrays))
    return tuple(layers)


LAYERS = _resnet50()
LAYER = {layer.name: layer for layer in LAYERS}
OUTPUT = LAYERS[-1].name


def front_layers(split: str) -> tuple[Layer, ...]:
    """Return the layers that the output of `split` needs, `split` last and the input left out, in order."""
    needed = {split}
    for layer in reversed(LAYERS):
        if layer.name in needed:
            needed.update(layer.inbound)
    return tuple(layer for layer in LAYERS if layer.name in needed and layer.name != INPUT)


def back_layers(split: str) -> tuple[Layer, ...]:
    """Return the layers that remain when everything up to `split` has run, in order."""
    front = {layer.name for layer in front_layers(split)}
    return tuple(layer for layer in LAYERS if layer.name not in front and layer.name != INPUT)


def _single_tensor_cuts() -> tuple[SplitPoint, ...]:
    """Find the layers through which every path from the input to the output goes: the dominators of the output."""
    dominators: dict[str, frozenset[str]] = {}
    for layer in LAYERS:
        above = [dominators[name] for name in layer.inbound]
        dominators[layer.name] = frozenset.intersection(*above) | {layer.name} if above else frozenset({layer.name})
    cuts = dominators[OUTPUT] - {OUTPUT}  # after the output nothing is left to run
    # The identifier is the place in Keras's layer order, from 1. It is on the wire: a test pins the whole table.
    return tuple(SplitPoint(n, layer.name, layer.shape) for n, layer in enumerate(LAYERS, 1) if layer.name in cuts)


SPLIT_POINTS = _single_tensor_cuts()
_BY_NAME = {split.name: split for split in SPLIT_POINTS}
_BY_ID = {split.id: split for split in SPLIT_POINTS}


def split_point(name: str) -> SplitPoint:
    """Return the split point at layer `name`; UsageError, saying why and offering others, where there is none."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name not in LAYER:
        near = difflib.get_close_matches(name, LAYER, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else f"for example {DEFAULT_SPLIT}"
        raise UsageError(f"ResNet-50 has no layer {name!r}: {hint}")
    if name == OUTPUT:
        raise UsageError(f"cannot split at {name!r}: it is the last layer, nothing is left for the back-end to run")
    source, target = _bypass(name)
    order = [layer.name for layer in LAYERS]
    at = order.index(name)
    before = [split.name for split in SPLIT_POINTS if order.index(split.name) < at][-1]
    after = next(split.name for split in SPLIT_POINTS if order.index(split.name) > at)
    branch = "residual branch" if "_0_" in name else "shortcut"
    raise UsageError(
        f"cannot split at {name!r}: its output is not all that the back-end needs, for the {branch} from {source} to "
        f"{target} also crosses the cut; the nearest split points are {before} and {after}"
    )


def split_point_by_id(id: int) -> SplitPoint | None:
    """Return the split point registered as `id` on the wire, or None."""
    return _BY_ID.get(id)


def _bypass(split: str) -> tuple[str, str]:
    """Return one edge (source, target) that leads around `split`, which is not a single-tensor cut."""
    front = {layer.name for layer in front_layers(split)} | {INPUT}
    return next(
        (source, layer.name)
        for layer in LAYERS
        if layer.name not in front
        for source in layer.inbound
        if source in front and source != split
    )


def parameters(layers: tuple[Layer, ...]) -> int:
    """Count the float32 parameters of `layers`."""
    return sum(math.prod(shape) for layer in layers for shape in layer.arrays.values())
