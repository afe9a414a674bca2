"""ONNX's operators as PyTorch operations, by name. Each takes its sources, None for one left out, and its options."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Options = Mapping[str, Any]
Sources = Sequence[Any]  # tensors, or None for one that is left out
Operator = Callable[[Sources, Options], Tensor]


def _conv(sources: Sources, options: Options) -> Tensor:
    bias = sources[2] if len(sources) > 2 else None
    strides, dilations = options.get("strides", [1, 1]), options.get("dilations", [1, 1])
    return F.conv2d(_padded(sources[0], options), sources[1], bias, strides, 0, dilations, options.get("group", 1))


def _conv_transpose(sources: Sources, options: Options) -> Tensor:
    bias = sources[2] if len(sources) > 2 else None
    strides, dilations = options.get("strides", [1, 1]), options.get("dilations", [1, 1])
    more, group = options.get("output_padding", [0, 0]), options.get("group", 1)
    made = F.conv_transpose2d(sources[0], sources[1], bias, strides, 0, more, group, dilations)
    top, left, bottom, right = options.get("pads", [0] * 4)
    return made[:, :, top : made.shape[2] - bottom, left : made.shape[3] - right]


def _max_pool(sources: Sources, options: Options) -> Tensor:
    return F.max_pool2d(_padded(sources[0], options, -torch.inf), options["kernel_shape"], options.get("strides", 1))


def _batch_normalisation(sources: Sources, options: Options) -> Tensor:
    x, scale, bias, mean, variance = sources
    return F.batch_norm(x, mean, variance, scale, bias, eps=options.get("epsilon", 1e-5))


def _layer_normalisation(sources: Sources, options: Options) -> Tensor:
    x, scale, bias = (*sources, None)[:3]
    return F.layer_norm(x, x.shape[options.get("axis", -1) :], scale, bias, options.get("epsilon", 1e-5))


def _instance_normalisation(sources: Sources, options: Options) -> Tensor:
    x, scale, bias = sources
    return F.instance_norm(x, weight=scale, bias=bias, eps=options.get("epsilon", 1e-5))


def _clip(sources: Sources, options: Options) -> Tensor:
    low, high = (*sources[1:], None, None)[:2]
    made: Tensor = sources[0].clamp(options.get("min", low), options.get("max", high))
    return made


def _gemm(sources: Sources, options: Options) -> Tensor:
    a = sources[0].T if options.get("transA") else sources[0]
    b = sources[1].T if options.get("transB") else sources[1]
    made: Tensor = options.get("alpha", 1.0) * (a @ b)
    return made if len(sources) < 3 else made + options.get("beta", 1.0) * sources[2]


def _hard_sigmoid(sources: Sources, options: Options) -> Tensor:
    made: Tensor = options.get("alpha", 0.2) * sources[0] + options.get("beta", 0.5)
    return made.clamp(0, 1)


def _flatten(sources: Sources, options: Options) -> Tensor:
    made: Tensor = sources[0].reshape(math.prod(sources[0].shape[: options.get("axis", 1)]), -1)
    return made


def _reshape(sources: Sources, options: Options) -> Tensor:
    x, sides = sources[0], sources[1].tolist()
    made: Tensor = x.reshape([x.shape[axis] if side == 0 else side for axis, side in enumerate(sides)])
    return made


def _squeeze(sources: Sources, options: Options) -> Tensor:
    axes = _axes(sources, options)
    return torch.squeeze(sources[0]) if axes is None else torch.squeeze(sources[0], tuple(axes))


def _unsqueeze(sources: Sources, options: Options) -> Tensor:
    x, axes = sources[0], _axes(sources, options) or []
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    made: Tensor = x
    return made


def _reduced(reduce: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def run(sources: Sources, options: Options) -> Tensor:
        axes = _axes(sources, options) or [*range(sources[0].ndim)]
        return reduce(sources[0], axes, bool(options.get("keepdims", 1)))

    return run


def _split(sources: Sources, options: Options) -> Tensor:
    """Return one of the parts, the `number`th `of` so many."""
    x, axis = sources[0], options.get("axis", 0)
    sizes = sources[1].tolist() if len(sources) > 1 else options.get("split")
    equal = -(-x.shape[axis] // options["of"])
    return torch.split(x, sizes or equal, axis)[options["number"]]


def _slice(sources: Sources, options: Options) -> Tensor:
    x = sources[0]
    starts, ends = sources[1].tolist(), sources[2].tolist()
    axes, steps = (None if one is None else one.tolist() for one in (*sources[3:], None, None)[:2])
    parts = [slice(None)] * x.ndim
    for at, axis in enumerate(axes or range(len(starts))):
        parts[axis] = slice(starts[at], ends[at], steps[at] if steps else 1)  # a step back is an error
    made: Tensor = x[tuple(parts)]
    return made


def _gather(sources: Sources, options: Options) -> Tensor:
    x, places = sources
    axis = options.get("axis", 0) % x.ndim
    made: Tensor = x[(slice(None),) * axis + (places % x.shape[axis],)]
    return made


def _pad(sources: Sources, options: Options) -> Tensor:
    x, sides = sources[0], sources[1].tolist()
    value = float(sources[2]) if len(sources) > 2 and sources[2] is not None else 0.0
    before, behind = sides[: x.ndim], sides[x.ndim :]
    last_first = [side for axis in reversed(range(x.ndim)) for side in (before[axis], behind[axis])]
    return F.pad(x, last_first, value=value)


def _resize(sources: Sources, options: Options) -> Tensor:
    """Resize axis by axis, by `scales` (the third of the sources) or to `sizes` (the fourth), as ONNX defines it."""
    x, sizes = sources[0], sources[3].tolist() if len(sources) > 3 else None
    scales = sources[2].tolist() if sizes is None else [a / b for a, b in zip(sizes, x.shape, strict=True)]
    for axis, scale in enumerate(scales):
        before = x.shape[axis]
        places = torch.arange(round(before * scale) if sizes else int(before * scale), device=x.device) / scale
        if options.get("coordinate_transformation_mode", "half_pixel") == "half_pixel":
            places = (places + 0.5 / scale - 0.5).clamp(min=0)
        low = places.long()  # rounded down
        share = (places - low).reshape(-1, *[1] * (x.ndim - axis - 1)) if options.get("mode") == "linear" else 0
        if scale != 1:
            high = (low + 1).clamp(max=before - 1)
            x = x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share
    made: Tensor = x
    return made


def _padded(x: Tensor, options: Options, value: float = 0.0) -> Tensor:
    top, left, bottom, right = options.get("pads", [0] * 4)
    return F.pad(x, (left, right, top, bottom), value=value) if top or left or bottom or right else x


def _axes(sources: Sources, options: Options) -> list[int] | None:
    """Return the axes, which are a source in newer files, and an option in older ones."""
    given = sources[1].tolist() if len(sources) > 1 and sources[1] is not None else options.get("axes")
    return given or None


OPERATORS: Mapping[str, Operator] = {
    "Abs": lambda sources, options: sources[0].abs(),
    "Add": lambda sources, options: sources[0] + sources[1],
    "AveragePool": lambda sources, options: F.avg_pool2d(
        sources[0], options["kernel_shape"], options.get("strides", 1)
    ),
    "BatchNormalization": _batch_normalisation,
    "Cast": lambda sources, options: sources[0],  # from one kind of floating-point number to another
    "Clip": _clip,
    "Concat": lambda sources, options: torch.cat([*sources], options["axis"]),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": lambda sources, options: sources[0] / sources[1],
    "Elu": lambda sources, options: F.elu(sources[0], options.get("alpha", 1.0)),
    "Erf": lambda sources, options: torch.erf(sources[0]),
    "Exp": lambda sources, options: sources[0].exp(),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda sources, options: sources[0].mean((2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda sources, options: F.hardswish(sources[0]),
    "Identity": lambda sources, options: sources[0],
    "InstanceNormalization": _instance_normalisation,
    "LayerNormalization": _layer_normalisation,
    "LeakyRelu": lambda sources, options: F.leaky_relu(sources[0], options.get("alpha", 0.01)),
    "Log": lambda sources, options: sources[0].log(),
    "MatMul": lambda sources, options: sources[0] @ sources[1],
    "Max": lambda sources, options: torch.maximum(*sources),
    "MaxPool": _max_pool,
    "Min": lambda sources, options: torch.minimum(*sources),
    "Mul": lambda sources, options: sources[0] * sources[1],
    "Neg": lambda sources, options: -sources[0],
    "PRelu": lambda sources, options: torch.where(sources[0] > 0, sources[0], sources[0] * sources[1]),
    "Pad": _pad,
    "Pow": lambda sources, options: sources[0] ** sources[1],
    "ReduceMax": _reduced(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMean": _reduced(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": _reduced(lambda x, axes, keep: x.sum(axes, keep)),
    "Relu": lambda sources, options: F.relu(sources[0]),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": lambda sources, options: sources[0].sigmoid(),
    "Slice": _slice,
    "Softmax": lambda sources, options: sources[0].softmax(options.get("axis", -1)),
    "Softplus": lambda sources, options: F.softplus(sources[0]),
    "Split": _split,
    "Sqrt": lambda sources, options: sources[0].sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda sources, options: sources[0] - sources[1],
    "Tanh": lambda sources, options: sources[0].tanh(),
    "Transpose": lambda sources, options: sources[0].permute(options["perm"]),
    "Unsqueeze": _unsqueeze,
}
