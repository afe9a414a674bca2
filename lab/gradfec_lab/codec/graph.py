"""Layers as PyTorch operations. Layers are dicts with the fields of `gradfec_common.networks.Layer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LayerDict = Mapping[str, Any]


class Graph(nn.Module):
    """A part of a network: takes the outputs, by layer, that it starts from, and returns that of its last layer.

    Images are (N, C, H, W) in channels-last memory. A normalisation is part of the convolution before it.
    """

    def __init__(self, layers: Sequence[LayerDict], arrays: Mapping[str, Any] | None = None) -> None:
        """Use the weights in `arrays`, by "layer/array", or random ones to be trained."""
        super().__init__()
        self.layers = [layer for layer in layers if layer["inbound"]]
        self.last = self.layers[-1]["name"]
        self.weights = nn.ParameterDict()
        self.folded: dict[str, str] = {}  # normalisation -> its convolution
        frozen = arrays is not None
        for layer in self.layers:
            if layer["kind"] in {"Conv2D", "Conv2DTranspose", "Dense"}:
                found = _given(layer, arrays) if arrays is not None else _random(layer)
                for part, value in zip(("kernel", "bias"), found, strict=True):
                    self.weights[f"{layer['name']}/{part}"] = nn.Parameter(value, requires_grad=not frozen)
        if arrays is not None:
            self._fold(arrays)

    def _fold(self, arrays: Mapping[str, Any]) -> None:
        convolutions = {layer["name"] for layer in self.layers if layer["kind"] == "Conv2D"}
        for layer in self.layers:
            if layer["kind"] != "BatchNormalization":
                continue
            (source,) = layer["inbound"]
            if source not in convolutions:
                raise NotImplementedError(f"{layer['name']} does not follow a convolution")
            names = ("gamma", "beta", "moving_mean", "moving_variance")
            gamma, beta, mean, variance = (torch.from_numpy(arrays[f"{layer['name']}/{name}"]) for name in names)
            scale = gamma / torch.sqrt(variance + float(layer["options"]["epsilon"]))
            kernel, bias = self.weights[f"{source}/kernel"], self.weights[f"{source}/bias"]
            kernel.data = kernel.data * scale[:, None, None, None]
            bias.data = (bias.data - mean) * scale + beta
            self.folded[layer["name"]] = source

    def forward(self, there: Mapping[str, Tensor], last: str = "", *, logits: bool = False) -> Tensor:
        """Return the output of layer `last`; `logits` leaves out the last softmax."""
        tensors, last = dict(there), last or self.last
        for layer in self._needed(last, tensors):
            sources = [tensors[name] for name in layer["inbound"]]
            tensors[layer["name"]] = self._run(layer, sources, logits)
        return tensors[last]

    def _needed(self, last: str, there: Mapping[str, Tensor]) -> list[LayerDict]:
        needed, found = {last}, []
        for layer in reversed(self.layers):
            if layer["name"] in needed and layer["name"] not in there:
                needed.update(layer["inbound"])
                found.append(layer)
        return found[::-1]

    def _run(self, layer: LayerDict, sources: list[Tensor], logits: bool) -> Tensor:
        name, options, x = layer["name"], layer["options"], sources[0]
        match layer["kind"]:
            case "Conv2D":
                kernel, bias = self.weights[f"{name}/kernel"], self.weights[f"{name}/bias"]
                size, strides = kernel.shape[2], int(options["strides"])
                if options["padding"] == "same":
                    total = max((-(-x.shape[2] // strides) - 1) * strides + size - x.shape[2], 0)
                    if total % 2:
                        raise NotImplementedError(f"{name} pads unevenly")
                    return F.conv2d(x, kernel, bias, strides, total // 2)
                return F.conv2d(x, kernel, bias, strides)
            case "Conv2DTranspose":
                return F.conv_transpose2d(
                    x, self.weights[f"{name}/kernel"], self.weights[f"{name}/bias"], int(options["strides"])
                )
            case "BatchNormalization":
                return x
            case "Activation":
                return F.relu(x)
            case "Add":
                return sources[0] + sources[1]
            case "ZeroPadding2D":
                return F.pad(x, [int(options["padding"])] * 4)
            case "MaxPooling2D":
                return F.max_pool2d(x, int(options["pool_size"]), int(options["strides"]))
            case "GlobalAveragePooling2D":
                return x.mean((2, 3))
            case "Dense":
                x = F.linear(x.flatten(1), self.weights[f"{name}/kernel"], self.weights[f"{name}/bias"])
                return x if logits or options.get("activation") != "softmax" else x.float().softmax(1)
        raise NotImplementedError(f"{name} is a {layer['kind']}, which training does not know")

    def arrays(self) -> dict[str, Any]:
        """Return the weights as numpy arrays in Keras's order of axes."""
        order = {"Conv2D": (2, 3, 1, 0), "Conv2DTranspose": (2, 3, 1, 0), "Dense": (1, 0)}
        found = {}
        for layer in self.layers:
            if layer["kind"] in order:
                kernel = self.weights[f"{layer['name']}/kernel"].detach().float().cpu()
                found[f"{layer['name']}/kernel"] = kernel.permute(order[layer["kind"]]).contiguous().numpy()
                found[f"{layer['name']}/bias"] = self.weights[f"{layer['name']}/bias"].detach().float().cpu().numpy()
        return found


def _given(layer: LayerDict, arrays: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    kernel, bias = (torch.from_numpy(arrays[f"{layer['name']}/{part}"]).float() for part in ("kernel", "bias"))
    # (h, w, in, out) -> (out, in, h, w), or (h, w, out, in) -> (in, out, h, w); (in, out) -> (out, in)
    return (kernel.T if kernel.ndim == 2 else kernel.permute(3, 2, 0, 1)).contiguous(), bias


def _random(layer: LayerDict) -> tuple[Tensor, Tensor]:
    """Draw as He et al. (2015); a residual block's last convolution is small, so that the block starts as itself."""
    height, width, channels, filters = layer["arrays"]["kernel"]
    if layer["kind"] == "Conv2DTranspose":  # (h, w, out, in), and each output pixel has one source pixel
        kernel = torch.empty(filters, channels, height, width)
        return kernel.normal_(0, (2 / filters) ** 0.5), torch.zeros(channels)
    gain = 0.2 if layer["name"].endswith("_2") else 1.0
    kernel = torch.empty(filters, channels, height, width)
    return kernel.normal_(0, gain * (2 / (height * width * channels)) ** 0.5), torch.zeros(filters)
