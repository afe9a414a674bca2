"""The nodes of an ONNX graph as PyTorch operations: how an imported network goes on from the decoder's features."""

from __future__ import annotations

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
        tensors = dict(there)
        for node in self._needed(last, set(there)):
            sources = [None if not name else self._source(name, tensors) for name in node["inputs"]]
            tensors[node["output"]] = _run(node["kind"], node["options"], sources)
        return tensors[last]

    def _source(self, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
        return tensors[name] if name in tensors else getattr(self, self._names[name])

    def _needed(self, last: str, there: set[str]) -> list[NodeDict]:
        needed, found = {last} - there, []
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
        case "Concat":
            return torch.cat(sources, options["axis"])
    raise NotImplementedError(kind)


def _padded(x: Tensor, options: Mapping[str, Any], value: float = 0.0) -> Tensor:
    top, left, bottom, right = options.get("pads", [0] * 4)
    return F.pad(x, (left, right, top, bottom), value=value) if top or left or bottom or right else x
