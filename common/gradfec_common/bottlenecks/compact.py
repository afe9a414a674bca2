"""`compact`: the encoder halves the tensor's sides twice, to 96 channels; the decoder doubles them as often as needed.

After "BottleNet++" (Shao, Zhang, ICC Workshops 2020), with residual blocks. The decoder may stand for a later layer
than the cut (`joins`): it then learns what the network's own layers in between would compute.
"""

from __future__ import annotations

from gradfec_common.bottlenecks.bottleneck import Bottleneck
from gradfec_common.bottlenecks.layers import convolution, enlarged, relu, residual
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut, Layer
from gradfec_common.networks.network import Shape

NAME = "compact"
LATENTS = 96  # channels
JOINS = {"resnet50:conv2_block1_add": "conv3_block4_out"}  # else the cut itself


def compact(cut: Cut, joins: str = "") -> Bottleneck:
    """Return the bottleneck for a cut, its decoder in place of the layers up to `joins` if that is given.

    UsageError if the cut's sides are not multiples of 4.
    """
    height, width, channels = cut.shape
    if height % 4 or width % 4:
        raise UsageError(f"{NAME} needs a tensor whose height and width are multiples of 4, not {height} x {width}")
    joins = joins or JOINS.get(f"{cut.network.name}:{cut.name}", cut.name)
    latents, joined = (height // 4, width // 4, LATENTS), cut.network.cut(joins)
    return Bottleneck(NAME, cut, _encoder(cut, channels), _decoder(latents, joined), joins)


def _encoder(cut: Cut, channels: int) -> tuple[Layer, ...]:
    there = Layer(cut.name, "InputLayer", (), cut.shape)
    layers = [relu("encoder_in", there)] if cut.rectified else []
    layers += convolution("encoder_squeeze", [there, *layers][-1], min(64, channels), 1)
    layers += convolution("encoder_half", layers[-1], 128, 4, strides=2)
    layers += residual("encoder_block", layers[-1], 128)
    layers += convolution("encoder_quarter", layers[-1], LATENTS, 4, strides=2, activated=False)
    return tuple(layers)


def _decoder(latents: Shape, target: Cut) -> tuple[Layer, ...]:
    height, width, channels = latents
    layers = [Layer("latents", "InputLayer", (), (height, width, 2 * channels))]
    layers += convolution("decoder_in", layers[-1], 192, 3)
    for n in (1, 2):
        layers += residual(f"decoder_wide{n}", layers[-1], 96)
    side = height
    while side < target.shape[0]:
        side *= 2
        layers += enlarged(f"decoder_{side}", layers[-1], 128)
    for n in (1, 2):
        layers += residual(f"decoder_block{n}", layers[-1], 128)
    layers += convolution("decoder_out", layers[-1], target.shape[2], 1, activated=target.rectified)
    return tuple(layers)
