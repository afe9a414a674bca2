"""LiteRT models (TensorFlow Lite's flatbuffer format), written from weights without TensorFlow.

Only this module knows the format, from the schema that the runtime ships:
https://github.com/google-ai-edge/LiteRT, tflite/schema/schema.fbs. All tensors are float32, images NHWC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

Floats = npt.NDArray[np.float32]
Shape = tuple[int, ...]

Operator = schema.BuiltinOperator
Options = schema.BuiltinOptions
RELU = schema.ActivationFunctionType.RELU
NO_ACTIVATION = schema.ActivationFunctionType.NONE
PADDING = {"same": schema.Padding.SAME, "valid": schema.Padding.VALID}
SCHEMA_VERSION, IDENTIFIER = 3, b"TFL3"


class Tensor(NamedTuple):
    """A tensor of the graph, with its index in the list of all tensors."""

    place: int
    shape: Shape


class Graph:
    """A model under construction: each method adds one operation and returns its output."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers = [schema.BufferT()]  # the first is empty, for all computed tensors
        self._operators: list[Any] = []
        self._codes: dict[int, int] = {}
        self._inputs: list[int] = []

    def input(self, name: str, shape: Shape) -> Tensor:
        """Add a float32 input of this shape, behind those that were added before."""
        tensor = self._tensor(shape, name)
        self._inputs.append(tensor.place)
        return tensor

    def constant(self, array: npt.NDArray[Any]) -> Tensor:
        """Add an array, float32 or int32."""
        assert array.dtype in (np.float32, np.int32), f"{array.dtype} would be misread"  # noqa: S101
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self._buffers.append(buffer)
        kind = schema.TensorType.INT32 if array.dtype == np.int32 else schema.TensorType.FLOAT32
        return self._tensor(array.shape, buffer=len(self._buffers) - 1, kind=kind)

    def convolution(
        self,
        x: Tensor,
        kernel: Floats,
        bias: Floats,
        strides: int = 1,
        padding: str = "valid",
        activation: int = NO_ACTIVATION,
    ) -> Tensor:
        """Convolve with a kernel (height, width, in, out)."""
        height, width, _, filters = kernel.shape
        options = schema.Conv2DOptionsT()
        options.padding, options.fusedActivationFunction = PADDING[padding], activation
        options.strideH = options.strideW = strides
        inputs = [x, self.constant(kernel.transpose(3, 0, 1, 2)), self.constant(bias)]  # -> (out, height, width, in)
        shape = (x.shape[0], *_window_counts(x.shape, (height, width), strides, padding), filters)
        return self._add(Operator.CONV_2D, inputs, shape, Options.Conv2DOptions, options)

    def enlarging_convolution(
        self, x: Tensor, kernel: Floats, bias: Floats, strides: int, activation: int = NO_ACTIVATION
    ) -> Tensor:
        """Convolve transposed, without overlap, with a kernel (strides, strides, out, in)."""
        height, width, filters, _ = kernel.shape
        assert height == width == strides, "windows overlap"  # noqa: S101
        shape = (x.shape[0], x.shape[1] * strides, x.shape[2] * strides, filters)
        options = schema.TransposeConvOptionsT()
        options.padding, options.fusedActivationFunction = PADDING["valid"], activation
        options.strideH = options.strideW = strides
        size = self.constant(np.array(shape, np.int32))
        inputs = [size, self.constant(kernel.transpose(2, 0, 1, 3)), x, self.constant(bias)]
        return self._add(Operator.TRANSPOSE_CONV, inputs, shape, Options.TransposeConvOptions, options)

    def dense(self, x: Tensor, kernel: Floats, bias: Floats) -> Tensor:
        """Multiply (..., in) by a kernel (in, out), and add the bias."""
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        inputs = [x, self.constant(kernel.T), self.constant(bias)]  # -> (out, in)
        shape = (*x.shape[:-1], kernel.shape[1])
        return self._add(Operator.FULLY_CONNECTED, inputs, shape, Options.FullyConnectedOptions, options)

    def pool(self, x: Tensor, size: tuple[int, int], strides: tuple[int, int], mean: bool = False) -> Tensor:
        """Take the maximum of each window, or the mean."""
        options = schema.Pool2DOptionsT()
        options.padding = PADDING["valid"]
        options.filterHeight, options.filterWidth = size
        options.strideH, options.strideW = strides
        height, width = ((x.shape[1 + n] - size[n]) // strides[n] + 1 for n in (0, 1))
        code = Operator.AVERAGE_POOL_2D if mean else Operator.MAX_POOL_2D
        return self._add(code, [x], (x.shape[0], height, width, x.shape[3]), Options.Pool2DOptions, options)

    def pad(self, x: Tensor, border: int) -> Tensor:
        """Put a border of zeros, that many pixels wide, around (N, H, W, C)."""
        widths = self.constant(np.array([[0, 0], [border, border], [border, border], [0, 0]], np.int32))
        batch, height, width, channels = x.shape
        shape = (batch, height + 2 * border, width + 2 * border, channels)
        return self._add(Operator.PAD, [x, widths], shape, Options.PadOptions, schema.PadOptionsT())

    def add(self, x: Tensor, y: Tensor | Floats, activation: int = NO_ACTIVATION) -> Tensor:
        """Add element by element; y may be an array, and is broadcast."""
        options = schema.AddOptionsT()
        options.fusedActivationFunction = activation
        return self._add(Operator.ADD, [x, self._operand(y)], x.shape, Options.AddOptions, options)

    def multiply(self, x: Tensor, y: Tensor | Floats) -> Tensor:
        """Multiply element by element; y may be an array, and is broadcast."""
        return self._add(Operator.MUL, [x, self._operand(y)], x.shape, Options.MulOptions, schema.MulOptionsT())

    def relu(self, x: Tensor) -> Tensor:
        """Return max(x, 0)."""
        return self._add(Operator.RELU, [x], x.shape)

    def log(self, x: Tensor) -> Tensor:
        """Return the natural logarithm."""
        return self._add(Operator.LOG, [x], x.shape)

    def sqrt(self, x: Tensor) -> Tensor:
        """Return the square root."""
        return self._add(Operator.SQRT, [x], x.shape)

    def softmax(self, x: Tensor) -> Tensor:
        """Return the probabilities (N, classes)."""
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self._add(Operator.SOFTMAX, [x], x.shape, Options.SoftmaxOptions, options)

    def sum_over(self, x: Tensor, axis: int) -> Tensor:
        """Sum along an axis, and remove it."""
        axes = self.constant(np.array([axis], np.int32))
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        return self._add(Operator.SUM, [x, axes], shape, Options.ReducerOptions, schema.ReducerOptionsT())

    def over_image(self, x: Tensor, mean: bool) -> Tensor:
        """Reduce (N, H, W, C) to (N, C): the mean or the maximum of each channel."""
        axes = self.constant(np.array([1, 2], np.int32))
        code = Operator.MEAN if mean else Operator.REDUCE_MAX
        shape = (x.shape[0], x.shape[3])
        return self._add(code, [x, axes], shape, Options.ReducerOptions, schema.ReducerOptionsT())

    def concatenate(self, parts: Sequence[Tensor]) -> Tensor:
        """Join along the last axis."""
        options = schema.ConcatenationOptionsT()
        options.axis = len(parts[0].shape) - 1
        shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
        return self._add(Operator.CONCATENATION, parts, shape, Options.ConcatenationOptions, options)

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        """Return the same elements in another shape, in the same order."""
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        target = self.constant(np.array(shape, np.int32))
        return self._add(Operator.RESHAPE, [x, target], shape, Options.ReshapeOptions, options)

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """Reorder the axes: axis n of the result is `order[n]` of x."""
        axes = self.constant(np.array(order, np.int32))
        shape = tuple(x.shape[axis] for axis in order)
        return self._add(Operator.TRANSPOSE, [x, axes], shape, Options.TransposeOptions, schema.TransposeOptionsT())

    def enlarge(self, x: Tensor, height: int, width: int) -> Tensor:
        """Repeat the pixels of (N, h, w, C) until it is (N, height, width, C)."""
        size = self.constant(np.array([height, width], np.int32))
        options = schema.ResizeNearestNeighborOptionsT()
        shape = (x.shape[0], height, width, x.shape[3])
        return self._add(
            Operator.RESIZE_NEAREST_NEIGHBOR, [x, size], shape, Options.ResizeNearestNeighborOptions, options
        )

    def matrix_product(self, x: Tensor, y: Tensor) -> Tensor:
        """Multiply the matrices (batch, n, m) and (batch, m, k)."""
        shape = (*x.shape[:2], y.shape[2])
        return self._add(Operator.BATCH_MATMUL, [x, y], shape, Options.BatchMatMulOptions, schema.BatchMatMulOptionsT())

    def model(self, outputs: Sequence[Tensor]) -> bytes:
        """Return the model file's bytes."""
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators = self._tensors, self._operators
        subgraph.inputs, subgraph.outputs = self._inputs, [tensor.place for tensor in outputs]
        model = schema.ModelT()
        model.version, model.subgraphs = SCHEMA_VERSION, [subgraph]
        model.buffers, model.operatorCodes = self._buffers, []
        for builtin in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
            model.operatorCodes.append(code)
        builder = flatbuffers.Builder(sum(len(buffer.data) for buffer in self._buffers[1:]) + (1 << 20))
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())

    def _tensor(self, shape: Shape, name: str = "", buffer: int = 0, kind: int = schema.TensorType.FLOAT32) -> Tensor:
        made = schema.TensorT()
        made.shape, made.type, made.buffer = list(shape), kind, buffer
        made.name = name or f"tensor_{len(self._tensors)}"
        self._tensors.append(made)
        return Tensor(len(self._tensors) - 1, tuple(shape))

    def _operand(self, y: Tensor | Floats) -> Tensor:
        return self.constant(y) if isinstance(y, np.ndarray) else y

    def _add(
        self, code: int, inputs: Sequence[Tensor], shape: Shape, kind: int = Options.NONE, options: Any = None
    ) -> Tensor:
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        output = self._tensor(shape)
        operator.inputs, operator.outputs = [tensor.place for tensor in inputs], [output.place]
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self._operators.append(operator)
        return output


def _window_counts(shape: Shape, size: tuple[int, int], strides: int, padding: str) -> tuple[int, int]:
    """Count the windows down and across images (N, H, W, C)."""
    cut = (0, 0) if padding == "same" else (size[0] - 1, size[1] - 1)
    return -(-(shape[1] - cut[0]) // strides), -(-(shape[2] - cut[1]) // strides)
