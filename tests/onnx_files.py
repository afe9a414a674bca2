"""Small ONNX files, for tests of networks that users bring. Needs the package onnx."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

SIDE, CLASSES = 32, 10


class Drawing:
    """A graph that is put together node by node, with weights drawn from a seed."""

    def __init__(self, seed: int = 0) -> None:
        self.rng, self.nodes, self.arrays = np.random.default_rng(seed), list[NodeProto](), list[TensorProto]()

    def array(self, name: str, values: npt.NDArray[np.generic]) -> str:
        self.arrays.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **options: object) -> str:
        self.nodes.append(helper.make_node(kind, [*inputs], [output], **options))
        return output

    def convolution(self, source: str, output: str, channels: tuple[int, int], size: int = 3, stride: int = 1) -> str:
        shape = (channels[1], channels[0], size, size)
        kernel = self.rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        border = [(size - 1) // 2] * 2 + [size // 2] * 2
        weights = self.array(f"{output}/kernel", kernel)
        return self.node("Conv", [source, weights], output, strides=[stride] * 2, pads=border)

    def model(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[tuple[str, Sequence[int | str]]]
    ) -> ModelProto:
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
        graph = helper.make_graph(self.nodes, "small", [*inputs], made, self.arrays)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def picture(
    name: str = "image", shape: Sequence[int | str] = (1, 3, SIDE, SIDE), kind: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def classifier(seed: int = 0, classes: int = CLASSES) -> ModelProto:
    """Two convolutions, a block with a skip connection, pooling, ten logits, or as many as there are `classes`."""
    draw = Drawing(seed)
    draw.node("Relu", [draw.convolution("image", "stem.conv", (3, 8), stride=2)], "stem")
    draw.node("Relu", [draw.convolution("stem", "block.conv1", (8, 8))], "block.relu")
    draw.node("Add", ["stem", draw.convolution("block.relu", "block.conv2", (8, 8))], "block")
    draw.node("Relu", [draw.convolution("block", "deep.conv", (8, 16), stride=2)], "deep")
    draw.node("Flatten", [draw.node("GlobalAveragePool", ["deep"], "pool")], "flat")
    weights = draw.array("dense/kernel", draw.rng.normal(size=(16, classes)).astype(np.float32))
    draw.node("MatMul", ["flat", weights], "logits")
    return draw.model([picture()], [("logits", (1, classes))])


def forked() -> ModelProto:
    """A network with two branches of different sides all through its middle, as a detector's neck has."""
    draw = Drawing(1)
    draw.node("Relu", [draw.convolution("image", "stem.conv", (3, 8), stride=2)], "stem")
    draw.node("Relu", [draw.convolution("stem", "fine.conv", (8, 4))], "fine")
    draw.node("Relu", [draw.convolution("stem", "coarse.conv", (8, 12), stride=2)], "coarse")
    draw.node("Relu", [draw.convolution("coarse", "coarse2.conv", (12, 12))], "coarse2")
    draw.node("Mul", ["coarse2", draw.array("hundred", np.array(100, np.float32))], "loud")  # of another scale
    draw.node("GlobalAveragePool", ["fine"], "fine.pool")
    draw.node("GlobalAveragePool", ["loud"], "loud.pool")
    draw.node("Flatten", [draw.node("Concat", ["fine.pool", "loud.pool"], "both", axis=1)], "flat")
    weights = draw.array("dense/kernel", draw.rng.normal(size=(16, CLASSES)).astype(np.float32))
    draw.node("Softmax", [draw.node("MatMul", ["flat", weights], "dense")], "probabilities", axis=1)
    return draw.model([picture()], [("probabilities", (1, CLASSES))])


def tokens() -> ModelProto:
    """Patches of 8 x 8 pixels become tokens of 24 elements, as in a transformer; channels come last at the input."""
    draw = Drawing(2)
    draw.node("Transpose", ["image"], "planes", perm=[0, 3, 1, 2])
    draw.convolution("planes", "patches", (3, 24), size=8, stride=8)
    draw.node("Reshape", ["patches", draw.array("flat/shape", np.array([1, 24, -1]))], "rows")
    draw.node("Transpose", ["rows"], "tokens", perm=[0, 2, 1])
    weights = draw.array("mix/kernel", draw.rng.normal(size=(24, 24)).astype(np.float32) / 5)
    draw.node("Add", ["tokens", draw.node("MatMul", ["tokens", weights], "mix")], "mixed")
    draw.node("ReduceMean", ["mixed"], "mean", axes=[1], keepdims=0)
    dense = draw.array("dense/kernel", draw.rng.normal(size=(24, 4)).astype(np.float32))
    draw.node("MatMul", ["mean", dense], "points")
    return draw.model([picture(shape=(1, SIDE, SIDE, 3))], [("points", (1, 4))])


def spotter(side: int = 64, spot: int = 16) -> ModelProto:
    """A detector with CenterNet's outputs: it finds white squares of `spot` pixels, whose edges are multiples of 4."""
    draw, cells = Drawing(), side // 4
    before = 4  # a cell sees so many pixels to the left and above of its corner, and the rest of the square behind it
    pads = [before] * 2 + [spot - before - 4] * 2
    draw.node("AveragePool", ["image"], "seen", kernel_shape=[spot] * 2, strides=[4, 4], pads=pads, count_include_pad=1)
    grey = draw.array("grey", np.full((1, 3, 1, 1), 1 / 3, np.float32))
    draw.node("Conv", ["seen", grey], "heatmap")
    nothing = draw.array("nothing", np.zeros((4, 1, 1, 1), np.float32))
    sides = np.array([before, before, spot - before, spot - before], np.float32)
    draw.node("Conv", ["heatmap", nothing, draw.array("sides", sides)], "wh")
    outputs = [("heatmap", (1, 1, cells, cells)), ("wh", (1, 4, cells, cells))]
    return draw.model([picture(shape=(1, 3, side, side))], outputs)


def written(model: ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path
