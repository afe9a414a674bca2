"""A training job: a folder with the network, both halves of the bottleneck as layers, weights and pictures."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .graph import Graph, LayerDict
from .nodes import NodeDict, Nodes


class Job:
    """What `gradfec train-codec` writes: job.json, weights.npz, and images.npy (n, side, side, 3), uint8, RGB.

    One image in twenty, the first ones, is held out. Of an imported network, the layers are only names and shapes, and
    the features are in the job already. What follows the layer `joins` is given by `nodes`, as far as PyTorch can run
    it, and `joined` says which tensors lie there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        said = json.loads((folder / "job.json").read_text())
        self.layers: list[LayerDict] = said["layers"]
        self.encoder: list[LayerDict] = said["encoder"]
        self.decoder: list[LayerDict] = said["decoder"]
        self.cut: str = said["cut"]
        self.joins: str = said["joins"]
        self.watched: list[list[list[str]]] = said["watched"]  # choices of layers for each stage, best first
        self.rows: int = said["rows"]  # of latents, in each packet
        self.preprocess: dict[str, Any] = said["preprocess"]
        self.nodes: list[NodeDict] | None = said.get("nodes")
        self.joined: list[dict[str, Any]] = said.get("joined", [])  # the tensors that lie together at `joins`
        self.input: str = self.layers[0]["name"]
        self.outputs = int(self.layers[-1]["shape"][2]) if self.nodes is None else 0
        self.images: npt.NDArray[np.uint8] = np.load(folder / "images.npy", mmap_mode="r")

    @cached_property
    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The network's weights, by "layer/array"."""
        with np.load(self.folder / "weights.npz") as arrays:
            return dict(arrays)

    def rest(self) -> Graph | Nodes:
        """Return what follows the layer that the decoder stands for."""
        if self.nodes is not None:
            return Nodes(self.nodes, self.weights, self.joined)
        above = {self.joins}
        for layer in reversed(self.layers):
            if layer["name"] in above:
                above.update(layer["inbound"])
        return Graph([layer for layer in self.layers if layer["name"] not in above], self.weights)

    @property
    def held_out(self) -> int:
        """The number of images that are held out."""
        return len(self.images) // 20

    def shape(self, layer: str) -> tuple[int, int, int]:
        """Return the shape (H, W, C) of a layer's output."""
        return tuple(next(one["shape"] for one in self.layers if one["name"] == layer))

    def pictures(self, rows: slice) -> Tensor:
        """Return images as the network's input (N, 3, H, W)."""
        rgb = np.asarray(self.images[rows], np.float32)
        ordered = rgb[..., ::-1] if self.preprocess["order"] == "bgr" else rgb
        means, scales = (np.array(self.preprocess[name], np.float32) for name in ("means", "scales"))
        scaled = (ordered - means) * scales
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))
