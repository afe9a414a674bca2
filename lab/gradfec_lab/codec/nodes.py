"""The nodes of an ONNX graph as PyTorch operations: how an imported network goes on from the decoder's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .operators import OPERATORS

NodeDict = Mapping[str, Any]  # "kind", "inputs" (names, "" for one left out), "output", "options"


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
            tensors[node["output"]] = OPERATORS[node["kind"]](sources, node["options"])
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
