"""The networks that gradfec can run in two halves. Each built-in one is a file here and a line in NETWORKS."""

from __future__ import annotations

from gradfec_common.errors import UsageError
from gradfec_common.networks.network import Cut, Layer, Network, Preprocess, parameters
from gradfec_common.networks.resnet50 import RESNET50

__all__ = [
    "DEFAULT_CUT", "DEFAULT_NETWORK", "NETWORKS", "Cut", "Layer", "Network", "Preprocess", "full_name", "named_cut",
    "named_network", "network_of_digest", "parameters",
]  # fmt: skip

NETWORKS: dict[str, Network] = {network.name: network for network in (RESNET50,)}
DEFAULT_NETWORK = RESNET50.name
DEFAULT_CUT = "conv2_block1_add"  # of the default network


def named_network(name: str) -> Network:
    """Return the network of that name; UsageError, with the names, if there is none."""
    if name not in NETWORKS:
        raise UsageError(f"no network is called {name!r}: use one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def named_cut(name: str) -> Cut:
    """Return the cut `LAYER` of the default network, or `NETWORK:LAYER`; UsageError if there is none."""
    network, colon, layer = name.partition(":")
    return named_network(network).cut(layer) if colon else named_network(DEFAULT_NETWORK).cut(name)


def full_name(cut: Cut) -> str:
    """Return the name by which `named_cut` finds a cut."""
    return cut.name if cut.network.name == DEFAULT_NETWORK else f"{cut.network.name}:{cut.name}"


def network_of_digest(digest: bytes) -> Network | None:
    """Return the network whose manifest has that digest, or None."""
    return next((network for network in NETWORKS.values() if network.digest == digest), None)
