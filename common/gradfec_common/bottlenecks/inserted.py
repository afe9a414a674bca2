"""A network with a trained bottleneck in it is a network of its own, with a cut between encoder and decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from gradfec_common.bottlenecks.bottleneck import Bottleneck
from gradfec_common.networks import Cut, Network
from gradfec_common.networks.network import MASKED, Layer

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class WithBottleneck(Network):
    """A network with a bottleneck: `base` is the one without, `trained` has the bottleneck's arrays by layer.

    The encoder follows the cut `at`. `ranking` has what was learned of the packets' importance, by name.
    """

    base: Network = field(kw_only=True)
    at: Cut = field(kw_only=True)
    trained: Mapping[str, list[Floats]] = field(kw_only=True, repr=False)
    ranking: Mapping[str, Floats] = field(default_factory=dict, kw_only=True, repr=False)


def base_of(network: Network) -> Network:
    """Return a network without its bottleneck, if it has one."""
    return network.base if isinstance(network, WithBottleneck) else network


def with_bottleneck(
    bottleneck: Bottleneck,
    trained: Mapping[str, list[Floats]],
    digest: bytes,
    ranking: Mapping[str, Floats] = MappingProxyType({}),
) -> Cut:
    """Return the cut at the latents of a network into which a trained bottleneck is inserted.

    `digest` tells trainings apart. It is part of the network's name, and so of what edge and cloud compare.
    """
    base, cut = bottleneck.cut.network, bottleneck.cut
    front = (base.input, *cut.front_layers)
    mask = Layer(bottleneck.decoder[0].name, MASKED, (bottleneck.encoder[-1].name,), bottleneck.decoder[0].shape)
    layers = (*front, *bottleneck.encoder, mask, *bottleneck.decoder[1:], *bottleneck.renamed_rest)
    network = WithBottleneck(
        f"{base.name}+{bottleneck.name}-{digest.hex()[:8]}",
        f"{base.title} with the bottleneck {bottleneck.name}",
        layers,
        base.preprocess,
        base.head,
        base.labels,
        base=base,
        at=cut,
        trained=trained,
        ranking=ranking,
    )
    return network.cut(bottleneck.encoder[-1].name)
