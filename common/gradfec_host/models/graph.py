"""An ONNX file as a graph: its one input, its nodes in order, and the places where it can be cut."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks.carried import MAX_ELEMENTS, Carried

MAX_BYTES = 2**31 - 1  # of a file: protobuf has no room for more
MAX_CARRIED = 4  # tensors at one cut

NEVER_NEGATIVE = {"Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Softplus"}
KEEP_SIGN = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Flatten", "Reshape", "Transpose",
             "Squeeze", "Unsqueeze", "Identity", "Dropout", "Concat"}  # fmt: skip
SAME_ELEMENTS = {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast"}
IMAGE_OPERATORS = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
                   "BatchNormalization", "InstanceNormalization", "DepthToSpace", "SpaceToDepth", "LRN"}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Graph:
    """A model with one picture as its input, whose batch is 1."""

    proto: ModelProto
    sha256: str  # of the file, with its external data
    bytes: int
    input: str
    dims: tuple[int, ...]
    layout: str

    @classmethod
    def read(cls, path: Path, size: tuple[int, int] | None = None) -> Graph:
        """Read and check an ONNX file; GradfecError if it cannot be read, UsageError if it cannot be used.

        `size` is the height and width of the input, if the file leaves them open.
        """
        proto, alone = _loaded(path)
        data = path.read_bytes() if alone else proto.SerializeToString()
        graph = proto.graph
        constants = {one.name for one in graph.initializer} | {one.values.name for one in graph.sparse_initializer}
        inputs = [one for one in graph.input if one.name not in constants]
        if len(inputs) != 1:
            named = ", ".join(one.name for one in inputs) or "none"
            raise UsageError(f"{path} has {len(inputs)} inputs ({named}): gradfec feeds one, the picture")
        tensor = inputs[0].type.tensor_type
        if tensor.elem_type != TensorProto.FLOAT:
            kind = TensorProto.DataType.Name(tensor.elem_type).lower()
            raise UsageError(f"{path} takes {kind} at its input {inputs[0].name}: export it with a float32 input")
        dims, layout = _picture(path, inputs[0], size)
        for axis, number in enumerate(dims):
            tensor.shape.dim[axis].Clear()
            tensor.shape.dim[axis].dim_value = number
        del graph.value_info[:]  # some may say another batch
        return cls(proto, hashlib.sha256(data).hexdigest(), len(data), inputs[0].name, dims, layout)

    @property
    def fed(self) -> Carried:
        """The input, as it is carried to a cut there."""
        return Carried(self.input, self.dims, self.layout)

    @property
    def nodes(self) -> Sequence[NodeProto]:
        """The nodes, each after those that it needs."""
        nodes: Sequence[NodeProto] = self.proto.graph.node
        return nodes

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs, each once."""
        return [*dict.fromkeys(one.name for one in self.proto.graph.output)]

    @cached_property
    def producer(self) -> dict[str, NodeProto]:
        """The node that makes each tensor."""
        return {name: node for node in self.nodes for name in node.output}

    @cached_property
    def consumers(self) -> dict[str, list[NodeProto]]:
        """The nodes that need each tensor."""
        found: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in needed_by(node):
                found.setdefault(name, []).append(node)
        return found

    def frontiers(self) -> list[tuple[str, ...]]:
        """Return each set of tensors that is all that the rest needs, once the nodes up to some place have run.

        Sets of one are the dominators of the outputs. An output that is there already is in every later set. The first
        is the input alone, the last are the outputs. There are at most MAX_CARRIED in each. Where a node only arranges
        elements anew, there is no other set: it would be a cut like the one before.
        """
        nodes = self._narrow_order()
        end = len(nodes)
        last = {name: place for place, node in enumerate(nodes) for name in needed_by(node)}
        last |= dict.fromkeys(self.outputs, end)
        found: list[tuple[str, ...]] = [(self.input,)]
        alive = [self.input]
        moving = {self.input}  # the tensors that depend on the picture
        for place, node in enumerate(nodes):
            if moving.isdisjoint(needed_by(node)):
                continue
            moving.update(node.output)
            alive = [name for name in (*alive, *node.output) if last.get(name, -1) > place]
            fits = 0 < len(alive) <= MAX_CARRIED and node.op_type not in SAME_ELEMENTS
            if fits and tuple(alive) != found[-1]:
                found.append(tuple(alive))
        return found

    def _narrow_order(self) -> list[NodeProto]:
        """Return the nodes in an order that keeps few elements between them: at each step, the best node comes next.

        So a branch that gets wider waits, and one that gets narrower does not: what crosses a cut is then small.
        """
        sizes, left = self._sizes(), {name: len(nodes) for name, nodes in self.consumers.items()}
        waits = [sum(source in self.producer for source in needed_by(node)) for node in self.nodes]
        ready = [at for at, count in enumerate(waits) if not count]
        place = {id(node): at for at, node in enumerate(self.nodes)}
        kept = set(self.outputs)
        order: list[NodeProto] = []

        def growth(at: int) -> tuple[int, int]:
            node = self.nodes[at]
            gone = sum(sizes.get(name, 0) for name in needed_by(node) if left[name] == 1 and name not in kept)
            return sum(sizes.get(name, 0) for name in node.output) - gone, at

        while ready:
            ready.remove(best := min(ready, key=growth))
            order.append(self.nodes[best])
            for name in needed_by(self.nodes[best]):
                left[name] -= 1
            for name in self.nodes[best].output:
                for consumer in self.consumers.get(name, []):
                    waits[place[id(consumer)]] -= 1
                    if not waits[place[id(consumer)]]:
                        ready.append(place[id(consumer)])
        return order

    def _sizes(self) -> dict[str, int]:
        """Return the elements of the tensors whose shapes can be inferred."""
        inferred = onnx.shape_inference.infer_shapes(self.proto)
        shapes = {one.name: one.type.tensor_type.shape.dim for one in inferred.graph.value_info}
        return {name: math.prod(dim.dim_value or 1 for dim in dims) for name, dims in shapes.items()}

    def never_negative(self, name: str) -> bool:
        """Return whether no element of a tensor is below zero, or all nodes that need it treat such ones as zero."""
        after = self.consumers.get(name, [])
        return self._positive(name) or (bool(after) and name not in self.outputs and all(map(self._rectifies, after)))

    def _positive(self, name: str) -> bool:
        node = self.producer.get(name)
        if node is None:
            return False
        if node.op_type in KEEP_SIGN:
            return all(map(self._positive, node.input if node.op_type == "Concat" else node.input[:1]))
        return node.op_type in NEVER_NEGATIVE or self._rectifies(node)

    def _rectifies(self, node: NodeProto) -> bool:
        """Return whether a node is a ReLU, also one with an upper limit."""
        if node.op_type != "Clip":
            return node.op_type == "Relu"
        low = self._constant(node.input[1]) if len(node.input) > 1 else None
        return low is not None and low >= 0

    def _constant(self, name: str) -> float | None:
        for one in self.proto.graph.initializer:
            if one.name == name:
                value: npt.NDArray[np.generic] = onnx.numpy_helper.to_array(one)
                return float(value) if value.size == 1 else None
        node = self.producer.get(name)
        if node is not None and node.op_type == "Constant":
            return next((float(onnx.numpy_helper.to_array(a.t)) for a in node.attribute if a.name == "value"), None)
        return None

    def layouts(self) -> dict[str, str]:
        """Return for each tensor of rank 4 whether its channels come before its rows ("nchw") or last ("nhwc").

        A guess, and a wrong one only makes worse packets: convolutions and pools are "nchw", a transposition may change
        it, anything else keeps that of its first input.
        """
        found = {self.input: self.layout}
        for node in self.nodes:
            layout = next((found[name] for name in node.input if name in found), None)
            if node.op_type in IMAGE_OPERATORS:
                layout = "nchw"
            elif node.op_type == "Transpose":
                order = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), ())
                layout = {(0, 2, 3, 1): "nhwc", (0, 3, 1, 2): "nchw"}.get(order, layout)
            if layout:
                found.update(dict.fromkeys(node.output, layout))
        return found


def needed_by(node: NodeProto) -> set[str]:
    """Return the tensors that a node needs, those that its own graphs take from around them among them."""
    return {name for name in node.input if name} | {name for graph in _inner(node) for name in _taken(graph)}


def _inner(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _taken(graph: GraphProto) -> set[str]:
    own = {one.name for one in (*graph.input, *graph.initializer)} | {
        name for node in graph.node for name in node.output
    }
    return {name for node in graph.node for name in needed_by(node)} - own


def _loaded(path: Path) -> tuple[ModelProto, bool]:
    """Return a checked file, and whether it is all there is, without external data."""
    try:
        if not (path.is_file() or path.is_dir()) and path.exists():
            raise UsageError(f"{path} is not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} has more than 2 GB")
        proto = onnx.load(path, load_external_data=False)
        if not proto.graph.node:
            raise UsageError(f"{path} is not an ONNX file, or has no layers")
        alone = all(one.data_location != TensorProto.EXTERNAL for one in proto.graph.initializer)
        onnx.load_external_data_for_model(proto, str(path.parent))
        onnx.checker.check_model(proto)
    except OSError as error:
        raise GradfecError(f"cannot read {path}: {error.strerror or error}") from None
    except DecodeError:
        raise UsageError(f"{path} is not an ONNX file, or is cut short") from None
    except onnx.checker.ValidationError as error:
        raise UsageError(f"{path} is not valid ONNX: {_first_line(error)}") from None
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"{path} cannot be loaded: {_first_line(error)}") from None
    if proto.ByteSize() > MAX_BYTES:
        raise UsageError(f"{path} has more than 2 GB with its external data")
    return proto, alone


def _picture(path: Path, given: onnx.ValueInfoProto, size: tuple[int, int] | None) -> tuple[tuple[int, ...], str]:
    """Return the input's dimensions and layout; UsageError if it is not a picture of three colours."""
    shape = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in given.type.tensor_type.shape.dim]
    said = " x ".join(str(number or "?") for number in shape)
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise UsageError(
            f"{path}: the input {given.name} is {said or 'of no known shape'}, not a picture (N x 3 x H x W)"
        )
    layout = "nchw" if shape[1] == 3 else "nhwc"
    sides = (2, 3) if layout == "nchw" else (1, 2)
    for axis, side in zip(sides, size or (0, 0), strict=True):
        if side and shape[axis] not in (0, side):
            raise UsageError(f"{path}: the input {given.name} is {said}: leave --size out")
        shape[axis] = shape[axis] or side
    if not all(shape[axis] for axis in sides):
        raise UsageError(
            f"{path}: the input {given.name} is {said}: give --size HEIGHTxWIDTH, for example --size 224x224"
        )
    if min(shape[1:]) < 0 or math.prod(shape[1:]) > MAX_ELEMENTS:
        raise UsageError(
            f"{path}: the input {given.name} is {said}: export it for pictures of at most {MAX_ELEMENTS // 3} pixels"
        )
    return (1, *shape[1:]), layout


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
