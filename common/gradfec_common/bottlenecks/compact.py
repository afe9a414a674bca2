"""`compact`: the encoder halves the tensor's sides twice, to 96 channels; the decoder doubles them as often as needed.

After "BottleNet++" (Shao, Zhang, ICC Workshops 2020), with residual blocks. The decoder may stand for a later layer
than the cut (`joins`): it then learns what the network's own layers in between would compute.
"""

from __future__ import annotations

from gradfec_common.bottlenecks.bottleneck import Bottleneck
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut, Layer
from gradfec_common.networks.network import Shape

NAME = "compact"
LATENTS = 96  # channels
JOINS = {"resnet50:conv2_block1_add": "conv3_block4_out"}  # else the cut itself


def compact(cut: Cut) -> Bottleneck:
    """Return the bottleneck for a cut; UsageError if its sides are not multiples of 4."""
    height, width, channels = cut.shape
    if height % 4 or width % 4:
        raise UsageError(f"{NAME} needs a tensor whose height and width are multiples of 4, not {height} x {width}")
    joins = JOINS.get(f"{cut.network.name}:{cut.name}", cut.name)
    latents, joined = (height // 4, width // 4, LATENTS), cut.network.cut(joins)
    return Bottleneck(NAME, cut, _encoder(cut, channels), _decoder(latents, joined), joins)


def _encoder(cut: Cut, channels: int) -> tuple[Layer, ...]:
    there = Layer(cut.name, "InputLayer", (), cut.shape)
    layers = [_relu("encoder_in", there)] if cut.rectified else []
    layers += _convolution("encoder_squeeze", [there, *layers][-1], min(64, channels), 1)
    layers += _convolution("encoder_half", layers[-1], 128, 4, strides=2)
    layers += _residual("encoder_block", layers[-1], 128)
    layers += _convolution("encoder_quarter", layers[-1], LATENTS, 4, strides=2, relu=False)
    return tuple(layers)


def _decoder(latents: Shape, target: Cut) -> tuple[Layer, ...]:
    height, width, channels = latents
    layers = [Layer("latents", "InputLayer", (), (height, width, 2 * channels))]
    layers += _convolution("decoder_in", layers[-1], 192, 3)
    for n in (1, 2):
        layers += _residual(f"decoder_wide{n}", layers[-1], 96)
    side = height
    while side < target.shape[0]:
        side *= 2
        layers += _enlarged(f"decoder_{side}", layers[-1], 128)
    for n in (1, 2):
        layers += _residual(f"decoder_block{n}", layers[-1], 128)
    layers += _convolution("decoder_out", layers[-1], target.shape[2], 1, relu=target.rectified)
    return tuple(layers)


def _convolution(name: str, source: Layer, filters: int, size: int, strides: int = 1, relu: bool = True) -> list[Layer]:
    height, width, channels = source.shape
    options = {"filters": filters, "kernel_size": size, "strides": strides, "padding": "same"}
    arrays = {"kernel": (size, size, channels, filters), "bias": (filters,)}
    made = Layer(
        name, "Conv2D", (source.name,), (-(-height // strides), -(-width // strides), filters), options, arrays
    )
    return [made, _relu(f"{name}_relu", made)] if relu else [made]


def _enlarged(name: str, source: Layer, filters: int) -> list[Layer]:
    """Double both sides: a 1x1 convolution to four pixels each."""
    height, width, channels = source.shape
    options = {"filters": filters, "kernel_size": 2, "strides": 2, "padding": "valid"}
    arrays = {"kernel": (2, 2, filters, channels), "bias": (filters,)}
    made = Layer(name, "Conv2DTranspose", (source.name,), (2 * height, 2 * width, filters), options, arrays)
    return [made, _relu(f"{name}_relu", made)]


def _residual(name: str, source: Layer, filters: int) -> list[Layer]:
    """Two 3x3 convolutions of `filters` channels; a wider source is made that narrow before, and wide again after."""
    channels = source.shape[2]
    wide = channels != filters
    layers = _convolution(f"{name}_0", source, filters, 1) if wide else []
    layers += _convolution(f"{name}_1", [source, *layers][-1], filters, 3)
    layers += _convolution(f"{name}_2", layers[-1], channels, 1 if wide else 3, relu=False)
    add = Layer(f"{name}_add", "Add", (source.name, layers[-1].name), source.shape)
    return [*layers, add, _relu(f"{name}_out", add)]


def _relu(name: str, source: Layer) -> Layer:
    return Layer(name, "Activation", (source.name,), source.shape, {"activation": "relu"})
