"""The layers that bottlenecks are made of."""

from __future__ import annotations

from gradfec_common.networks import Layer


def convolution(
    name: str, source: Layer, filters: int, size: int, strides: int = 1, activated: bool = True
) -> list[Layer]:
    """Convolve with kernels of `size` x `size` and zero padding; if `activated`, a ReLU follows."""
    height, width, channels = source.shape
    options = {"filters": filters, "kernel_size": size, "strides": strides, "padding": "same"}
    arrays = {"kernel": (size, size, channels, filters), "bias": (filters,)}
    made = Layer(
        name, "Conv2D", (source.name,), (-(-height // strides), -(-width // strides), filters), options, arrays
    )
    return [made, relu(f"{name}_relu", made)] if activated else [made]


def enlarged(name: str, source: Layer, filters: int) -> list[Layer]:
    """Double both sides: a 1x1 convolution to four pixels each."""
    height, width, channels = source.shape
    options = {"filters": filters, "kernel_size": 2, "strides": 2, "padding": "valid"}
    arrays = {"kernel": (2, 2, filters, channels), "bias": (filters,)}
    made = Layer(name, "Conv2DTranspose", (source.name,), (2 * height, 2 * width, filters), options, arrays)
    return [made, relu(f"{name}_relu", made)]


def residual(name: str, source: Layer, filters: int) -> list[Layer]:
    """Make a residual block: two 3x3 convolutions of `filters` channels, or 1x1, 3x3, 1x1 if the source has others."""
    channels = source.shape[2]
    wide = channels != filters
    layers = convolution(f"{name}_0", source, filters, 1) if wide else []
    layers += convolution(f"{name}_1", [source, *layers][-1], filters, 3)
    layers += convolution(f"{name}_2", layers[-1], channels, 1 if wide else 3, activated=False)
    add = Layer(f"{name}_add", "Add", (source.name, layers[-1].name), source.shape)
    return [*layers, add, relu(f"{name}_out", add)]


def relu(name: str, source: Layer) -> Layer:
    """Return max(x, 0)."""
    return Layer(name, "Activation", (source.name,), source.shape, {"activation": "relu"})
