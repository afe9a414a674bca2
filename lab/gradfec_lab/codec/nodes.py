"""The nodes of an ONNX graph as PyTorch operations: how an imported network goes on from the decoder's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .operators import OPERATORS

NodeDict = Mapping[str, Any]  # "kind", "inputs" (names, "" for one left out), "output", "options"
CarriedDict = Mapping[str, Any]  # the fields of `gradfec_common.networks.carried.Carried`


class Nodes(nn.Module):
    """A part of a graph, with its weights, which do not change. Images are (N, C, H, W)."""

    def __init__(
        self, nodes: Sequence[NodeDict], arrays: Mapping[str, Any], joined: Sequence[CarriedDict] = ()
    ) -> None:
        """Take the arrays by their names; float16 ones are float32 from here on.

        `joined` are the tensors that `after` begins with.
        """
        super().__init__()
        self.nodes, self.joined = nodes, joined
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

    def after(self, x: Tensor, wanted: Sequence[str]) -> list[Tensor]:
        """Return the tensors that are wanted, from those that are `joined`, which lie together in x (N, C, H, W)."""
        return self.all(apart(self.joined, x), wanted)

    def _source(self, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
        return tensors[name] if name in tensors else getattr(self, self._names[name])

    def _needed(self, wanted: set[str], there: set[str]) -> list[NodeDict]:
        needed, found = wanted - there, []
        for node in reversed(self.nodes):
            if node["output"] in needed:
                found.append(node)
                needed |= set(node["inputs"]) - there
        return found[::-1]


def apart(joined: Sequence[CarriedDict], x: Tensor) -> dict[str, Tensor]:
    """Return by name the tensors that lie together in x (N, C, H, W), a part of an image or all of it.

    As `gradfec_common.networks.carried.apart` does.
    """
    high, wide = (min(_sides(one)[axis] for one in joined) for axis in (0, 1))
    found, first = {}, 0
    for one in joined:
        height, width, channels = _sides(one)
        down, across = height // high, width // wide
        last = first + down * across * channels
        # (N, f f C, H, W) -> (N, f, f, C, H, W) -> (N, C, H, f, W, f)
        blocks = x[:, first:last].unflatten(1, (down, across, channels)).permute(0, 3, 4, 1, 5, 2)
        tensor = blocks.flatten(4).flatten(2, 3) * (one["scale"] if len(joined) > 1 else 1.0)
        found[one["name"]] = tensor if one["layout"] == "nchw" else tensor.permute(0, 2, 3, 1)
        first = last
    return found


def _sides(one: CarriedDict) -> tuple[int, int, int]:
    """Return height, width and channels."""
    _, *sides = one["dims"]
    return (sides[1], sides[2], sides[0]) if one["layout"] == "nchw" else (sides[0], sides[1], sides[2])
