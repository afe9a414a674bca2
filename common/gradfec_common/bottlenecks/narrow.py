"""`narrow`: for small networks. It halves a tensor's sides to about 14, and has 64 channels.

Like `compact`, it follows "BottleNet++" (Shao, Zhang, ICC Workshops 2020), with residual blocks, and its decoder may
stand for a later layer than the cut (`joins`).
"""

from __future__ import annotations

from gradfec_common.bottlenecks.bottleneck import Bottleneck
from gradfec_common.bottlenecks.layers import convolution, enlarged, relu, residual
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut, Layer
from gradfec_common.networks.imported import ImportedCut
from gradfec_common.networks.network import Shape

NAME = "narrow"
LATENTS, ENCODER, DECODER = 64, 96, 128  # channels
BLOCKS = 3  # in the decoder
LARGE = 20  # sides are halved as long as they are even and longer
HALVINGS = 2  # at most


def narrow(cut: Cut, joins: str = "") -> Bottleneck:
    """Return the bottleneck for a cut, its decoder in place of the layers up to `joins`, by default `best_joins`.

    UsageError if the sides at `joins` are not those of the latents, or 2, 4, 8 times as long.
    """
    layers, target = _encoder(cut), cut.network.cut(joins) if joins else best_joins(cut)
    latents = layers[-1].shape
    doublings = doublings_to(latents, target.shape)
    if doublings is None:
        height, width, _ = target.shape
        raise UsageError(
            f"{NAME} needs a tensor whose sides are {latents[0]} x {latents[1]}, or 2, 4, 8 times as long, to decode "
            f"latents to, not {height} x {width} as at {target.name}"
        )
    return Bottleneck(NAME, cut, layers, _decoder(latents, target, doublings), target.name)


def best_joins(cut: Cut) -> Cut:
    """Return where the decoder ends by default: of the cuts that fit, the one that the fewest elements cross.

    A cut fits if maps cross it, with the latents' sides or 2, 4, 8 times these, and if it is in the first two thirds of
    the network and not before `cut`. Of equal cuts, it is the last: the decoder learns what the layers in between do,
    and features are worth more there.
    """
    cuts, latents = cut.network.cuts, latent_sides(cut.shape)
    first = cuts.index(cut)
    near = cuts[first : max(2 * len(cuts) // 3, first + 1)]
    fitting = [one for one in near if has_maps(one) and doublings_to(latents, one.shape) is not None]
    return min(reversed(fitting), key=lambda one: one.elements, default=cut)


def has_maps(cut: Cut) -> bool:
    """Return whether what crosses a cut has rows and columns: the features of convolutions, not tokens or vectors."""
    return not isinstance(cut, ImportedCut) or {one.layout for one in cut.carried} <= {"nchw", "nhwc"}


def latent_sides(shape: Shape) -> tuple[int, int]:
    """Return the height and the width of the latents of a tensor."""
    height, width, _ = shape
    for _ in range(HALVINGS):
        if height % 2 == 0 and width % 2 == 0 and min(height, width) > LARGE:
            height, width = height // 2, width // 2
    return height, width


def doublings_to(latents: tuple[int, ...], target: Shape) -> int | None:
    """Return how often the latents' sides must be doubled to become the target's; None if doubling never gets there."""
    times = target[0] // latents[0]
    same = (latents[0] * times, latents[1] * times) == target[:2]
    return times.bit_length() - 1 if same and times and times & (times - 1) == 0 else None


def _encoder(cut: Cut) -> tuple[Layer, ...]:
    there = Layer(cut.name, "InputLayer", (), cut.shape)
    layers = [relu("encoder_in", there)] if cut.rectified else []
    height, _ = latent_sides(cut.shape)
    side = cut.shape[0]
    while side > height:
        side //= 2
        layers += convolution(f"encoder_{side}", [there, *layers][-1], ENCODER, 4, strides=2)
    if side == cut.shape[0]:
        layers += convolution("encoder_squeeze", [there, *layers][-1], ENCODER, 1)
    layers += residual("encoder_block", layers[-1], ENCODER)
    layers += convolution("encoder_out", layers[-1], LATENTS, 1, activated=False)
    return tuple(layers)


def _decoder(latents: Shape, target: Cut, doublings: int) -> tuple[Layer, ...]:
    height, width, channels = latents
    layers = [Layer("latents", "InputLayer", (), (height, width, 2 * channels))]
    layers += convolution("decoder_in", layers[-1], DECODER, 3)
    for n in range(BLOCKS):
        layers += residual(f"decoder_block{n}", layers[-1], DECODER)
    for n in range(doublings):
        layers += enlarged(f"decoder_{height << n + 1}", layers[-1], DECODER)
    layers += convolution("decoder_out", layers[-1], target.shape[2], 1, activated=target.rectified)
    return tuple(layers)
