"""Layers as PyTorch operations. Layers are dicts with the fields of `gradfec_common.networks.Layer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LayerDict = Mapping[str, Any]

CONVOLUTIONS = {"Conv2D", "Conv2DTranspose"}
RESIDUAL = 0.2  # how much of a residual block's branch there is at first
EPSILON, MOMENTUM = 1e-4, 0.02  # of normalisations


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
        for layer in self.layers:
            if layer["kind"] in {"Conv2D", "Conv2DTranspose", "Dense"}:
                found = _given(layer, arrays) if arrays is not None else _random(layer)
                for part, value in zip(("kernel", "bias"), found, strict=True):
                    self.weights[f"{layer['name']}/{part}"] = nn.Parameter(value, requires_grad=arrays is None)
        if arrays is not None:
            self._fold(arrays)

    def normalise(self) -> None:
        """Normalise the outputs of all convolutions but the last over each batch.

        Without it, such a long chain of convolutions learns little in its first hundreds of steps. `fold` ends it.
        """
        names = [layer["name"] for layer in self.layers if layer["kind"] in CONVOLUTIONS]
        for name in names[:-1]:
            bias = self.weights[f"{name}/bias"]
            self.weights[f"{name}/scale"] = nn.Parameter(torch.full_like(bias, RESIDUAL if _ends_block(name) else 1.0))
            self.register_buffer(f"{name}_mean", torch.zeros_like(bias))
            self.register_buffer(f"{name}_variance", torch.ones_like(bias))

    @torch.no_grad()
    def fold(self) -> None:
        """Make all normalisations part of the convolutions, with their averages."""
        for name in [key.removesuffix("/scale") for key in self.weights if key.endswith("/scale")]:
            kernel, bias = self.kernel_and_bias(name)
            self.weights[f"{name}/kernel"], self.weights[f"{name}/bias"] = nn.Parameter(kernel), nn.Parameter(bias)
            del self.weights[f"{name}/scale"]
            delattr(self, f"{name}_mean")
            delattr(self, f"{name}_variance")

    def kernel_and_bias(self, name: str) -> tuple[Tensor, Tensor]:
        """Return a convolution's weights with the normalisation after it."""
        kernel, bias = self.weights[f"{name}/kernel"], self.weights[f"{name}/bias"]
        if f"{name}/scale" not in self.weights:
            return kernel, bias
        variance: Tensor = getattr(self, f"{name}_variance")
        scale = self.weights[f"{name}/scale"] / torch.sqrt(variance + EPSILON)
        is_transposed = next(layer for layer in self.layers if layer["name"] == name)["kind"] == "Conv2DTranspose"
        shape = (1, -1, 1, 1) if is_transposed else (-1, 1, 1, 1)
        return kernel * scale.reshape(shape), bias - getattr(self, f"{name}_mean") * scale

    def _normalised(self, name: str, x: Tensor) -> Tensor:
        """Normalise a convolution's output without its bias, and add the bias."""
        bias, scale = self.weights[f"{name}/bias"], self.weights[f"{name}/scale"]
        mean, variance = getattr(self, f"{name}_mean"), getattr(self, f"{name}_variance")
        return F.batch_norm(x, mean, variance, scale, bias, training=True, momentum=MOMENTUM, eps=EPSILON)

    def _fold(self, arrays: Mapping[str, Any]) -> None:
        convolutions = {layer["name"] for layer in self.layers if layer["kind"] == "Conv2D"}
        for layer in self.layers:
            if layer["kind"] != "BatchNormalization":
                continue
            (source,) = layer["inbound"]
            if source not in convolutions:
                raise NotImplementedError(f"{layer['name']} does not follow a convolution")
            names = ("gamma", "beta", "moving_mean", "moving_variance")
            gamma, beta, mean, variance = (torch.tensor(arrays[f"{layer['name']}/{name}"]) for name in names)
            scale = gamma / torch.sqrt(variance + float(layer["options"]["epsilon"]))
            kernel, bias = self.weights[f"{source}/kernel"], self.weights[f"{source}/bias"]
            kernel.data = kernel.data * scale[:, None, None, None]
            bias.data = (bias.data - mean) * scale + beta

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
            case "Conv2D" | "Conv2DTranspose":
                kernel, normalised = self.weights[f"{name}/kernel"], f"{name}/scale" in self.weights
                bias = None if normalised else self.weights[f"{name}/bias"]
                x = _convolved(layer, x, kernel, bias)
                return self._normalised(name, x) if normalised else x
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
                applied, bias = (one.detach().float().cpu() for one in self.kernel_and_bias(layer["name"]))
                found[f"{layer['name']}/kernel"] = applied.permute(order[layer["kind"]]).contiguous().numpy()
                found[f"{layer['name']}/bias"] = bias.numpy()
        return found


def _convolved(layer: LayerDict, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    strides, size = int(layer["options"]["strides"]), kernel.shape[2]
    if layer["kind"] == "Conv2DTranspose":
        return F.conv_transpose2d(x, kernel, bias, strides)
    if layer["options"]["padding"] == "valid":
        return F.conv2d(x, kernel, bias, strides)
    total = max((-(-x.shape[2] // strides) - 1) * strides + size - x.shape[2], 0)
    if total % 2:
        raise NotImplementedError(f"{layer['name']} pads unevenly")
    return F.conv2d(x, kernel, bias, strides, total // 2)


def _ends_block(name: str) -> bool:
    """Return whether a layer is a residual block's last convolution: small at first, so that the block does little."""
    return name.endswith("_2")


def _given(layer: LayerDict, arrays: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    kernel, bias = (torch.tensor(arrays[f"{layer['name']}/{part}"]).float() for part in ("kernel", "bias"))
    # (h, w, in, out) -> (out, in, h, w), or (h, w, out, in) -> (in, out, h, w); (in, out) -> (out, in)
    return (kernel.T if kernel.ndim == 2 else kernel.permute(3, 2, 0, 1)).contiguous(), bias


def _random(layer: LayerDict) -> tuple[Tensor, Tensor]:
    """Draw as He et al. (2015)."""
    height, width, channels, filters = layer["arrays"]["kernel"]
    if layer["kind"] == "Conv2DTranspose":  # (h, w, out, in), and each output pixel has one source pixel
        kernel = torch.empty(filters, channels, height, width)
        return kernel.normal_(0, (2 / filters) ** 0.5), torch.zeros(channels)
    gain = RESIDUAL if _ends_block(layer["name"]) else 1.0
    kernel = torch.empty(filters, channels, height, width)
    return kernel.normal_(0, gain * (2 / (height * width * channels)) ** 0.5), torch.zeros(filters)
