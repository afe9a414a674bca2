"""A bottleneck: an encoder that ends the edge's half of a network, and a decoder that begins the cloud's.

The latents between them are a tensor like any other: a grid of packets, each of which can be decoded alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from gradfec_common.networks import Cut, Layer
from gradfec_common.networks.network import Shape, parameters


@dataclass(frozen=True, eq=False)
class Bottleneck:
    """The layers of both halves. The encoder's first layer takes the cut; the decoder stands for the layer `joins`.

    The decoder's input, its first layer, has twice the channels of the latents: their values, zeros where a packet is
    missing, and behind them a mask that is zero there too, and 1 / (1 + step) elsewhere.
    """

    name: str
    cut: Cut
    encoder: tuple[Layer, ...]
    decoder: tuple[Layer, ...]
    joins: str

    @property
    def shape(self) -> Shape:
        """The shape (H, W, C) of the latents."""
        return self.encoder[-1].shape

    @cached_property
    def rest(self) -> tuple[Layer, ...]:
        """The layers of the network that the cloud still runs after the decoder."""
        gone = {layer.name for layer in self.cut.network.above(self.joins)} | {self.cut.network.input.name}
        return tuple(layer for layer in self.cut.network.layers if layer.name not in gone)

    @cached_property
    def renamed_rest(self) -> tuple[Layer, ...]:
        """The layers of `rest`, with the decoder's output in place of that of `joins`."""
        made = {self.joins: self.decoder[-1].name}
        return tuple(
            replace(layer, inbound=tuple(made.get(name, name) for name in layer.inbound)) for layer in self.rest
        )

    @property
    def parameters(self) -> tuple[int, int]:
        """The number of parameters of the encoder, and of the decoder."""
        return parameters(self.encoder), parameters(self.decoder)
