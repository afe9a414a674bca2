"""The nodes of an ONNX graph as PyTorch operations: how an imported network goes on from the decoder's features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NodeDict = Mapping[str, Any]  # "kind", "inputs" (names, "" for one left out), "output", "options"

ARITHMETIC = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div}
POINTWISE: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Identity": lambda x: x,
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "HardSwish": F.hardswish,
}


class Nodes(nn.Module):
    """A part of a graph, with its weights, which do not change. Images are (N, C, H, W)."""

    def __init__(self, nodes: Sequence[NodeDict], arrays: Mapping[str, Any]) -> None:
        """Take the arrays by their names; float16 ones are float32 from here on."""
        super().__init__()
        self.nodes = nodes
        self._names = {name: f"array_{number}" for number, name in enumerate(arrays)}
        for name, array in arrays.items():
            tensor = torch.from_numpy(array)
            self.register_buffer(self._names[name], tensor.float() if tensor.is_floating_point() else tensor)

    def forward(self, there: Mapping[str, Tensor], last: str) -> Tensor:
        """Return the tensor `last` that follows from those that are there, by their names."""
        return self.all(there, [last])[0]

    def all(self, there: Mapping[str, Tensor], wanted: Sequence[str]) -> list[Tensor]:
        """Return the tensors that are wanted, as `forward` does."""
        tensors = dict(there)
        for node in self._needed({*wanted}, set(there)):
            sources = [None if not name else self._source(name, tensors) for name in node["inputs"]]
            tensors[node["output"]] = _run(node["kind"], node["options"], sources)
        return [tensors[name] for name in wanted]

    def _source(self, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
        return tensors[name] if name in tensors else getattr(self, self._names[name])

    def _needed(self, wanted: set[str], there: set[str]) -> list[NodeDict]:
        needed, found = wanted - there, []
        for node in reversed(self.nodes):
            if node["output"] in needed:
                found.append(node)
                needed |= set(node["inputs"]) - there
        return found[::-1]


def _run(kind: str, options: Mapping[str, Any], sources: list[Any]) -> Tensor:
    x = sources[0]
    if kind in ARITHMETIC:
        return ARITHMETIC[kind](x, sources[1])
    if kind in POINTWISE:
        return POINTWISE[kind](x)
    if kind in ARRANGING:
        return ARRANGING[kind](sources, options)
    match kind:
        case "Conv":
            bias = sources[2] if len(sources) > 2 else None
            strides, dilations = options.get("strides", [1, 1]), options.get("dilations", [1, 1])
            return F.conv2d(_padded(x, options), sources[1], bias, strides, 0, dilations, options.get("group", 1))
        case "MaxPool":
            return F.max_pool2d(_padded(x, options, -torch.inf), options["kernel_shape"], options.get("strides", 1))
        case "AveragePool":
            return F.avg_pool2d(x, options["kernel_shape"], options.get("strides", 1))
        case "GlobalAveragePool":
            return x.mean((2, 3), keepdim=True)
        case "BatchNormalization":
            scale, bias, mean, variance = sources[1:5]
            return F.batch_norm(x, mean, variance, scale, bias, eps=options.get("epsilon", 1e-5))
        case "Clip":
            low, high = (*sources[1:], None, None)[:2]
            return x.clamp(options.get("min", low), options.get("max", high))
        case "Gemm":
            weights = sources[1].T if options.get("transB") else sources[1]
            made = options.get("alpha", 1.0) * ((x.T if options.get("transA") else x) @ weights)
            return made if len(sources) < 3 else made + options.get("beta", 1.0) * sources[2]
    raise NotImplementedError(kind)


def _reshaped(sources: Sequence[Any], options: Mapping[str, Any]) -> Tensor:
    x, sides = sources[0], sources[1].tolist()
    return x.reshape([x.shape[axis] if side == 0 else side for axis, side in enumerate(sides)])


def _padded(x: Tensor, options: Mapping[str, Any], value: float = 0.0) -> Tensor:
    top, left, bottom, right = options.get("pads", [0] * 4)
    return F.pad(x, (left, right, top, bottom), value=value) if top or left or bottom or right else x


def _resized(sources: Sequence[Any], options: Mapping[str, Any]) -> Tensor:
    """Resize axis by axis, by `scales` (the third of the sources) or to `sizes` (the fourth), as ONNX defines it."""
    x, sizes = sources[0], sources[3].tolist() if len(sources) > 3 else None
    scales = sources[2].tolist() if sizes is None else [a / b for a, b in zip(sizes, x.shape, strict=True)]
    for axis, scale in enumerate(scales):
        before = x.shape[axis]
        places = torch.arange(round(before * scale) if sizes else int(before * scale)) / scale
        if options.get("coordinate_transformation_mode", "half_pixel") == "half_pixel":
            places = (places + 0.5 / scale - 0.5).clamp(min=0)
        low = places.long()  # rounded down
        share = (places - low).reshape(-1, *[1] * (x.ndim - axis - 1)) if options.get("mode") == "linear" else 0
        if scale != 1:
            high = (low + 1).clamp(max=before - 1)
            x = x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share
    return x


ARRANGING: Mapping[str, Callable[[Sequence[Any], Mapping[str, Any]], Tensor]] = {
    "Concat": lambda sources, options: torch.cat(sources, options["axis"]),
    "Flatten": lambda sources, options: sources[0].reshape(math.prod(sources[0].shape[: options.get("axis", 1)]), -1),
    "MatMul": lambda sources, options: sources[0] @ sources[1],
    "Reshape": _reshaped,
    "Resize": _resized,
    "Softmax": lambda sources, options: sources[0].softmax(options.get("axis", -1)),
    "Transpose": lambda sources, options: sources[0].permute(options["perm"]),
}
