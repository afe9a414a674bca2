"""What a refused edge is told to change at the cloud; the other advice is tested with the warnings that give it."""

from __future__ import annotations

import pytest

from gradfec_common.networks import DEFAULT_CUT, Network, named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.session.edge import Refused
from gradfec_edge.advice import with_cure
from gradfec_edge.coding import coding_of

WITH_BOTTLENECK = coding_of(named_cut(DEFAULT_CUT), None, "auto", None, "zfec").cut.network
ASKED = "; the edge asked for model a5febf2d"


@pytest.mark.parametrize(
    ("cloud_has", "network", "cure"),
    [
        ("yolo (0a) at image", RESNET50, "; this edge has resnet50: start the cloud with --model resnet50"),
        ("yolo (0a) at image", WITH_BOTTLENECK, ": start the cloud with --model resnet50"),
        ("resnet50 (2a) at input_layer", WITH_BOTTLENECK, ": give the cloud this edge's --codec"),
        ("resnet50 (2a) at input_layer", RESNET50, ASKED),  # another version: the cloud's own words say what to do
    ],
)
def test_an_edge_whose_network_the_cloud_lacks_is_told_its_name_and_what_the_cloud_needs(
    cloud_has: str, network: Network, cure: str
) -> None:
    refused = with_cure(Refused("model", f"this cloud has {cloud_has}{ASKED}"), network)
    assert refused.detail.endswith(cure)


def test_other_refusals_stay_as_they_are() -> None:
    full = Refused("full", "it serves 256 edges already")
    assert with_cure(full, RESNET50) == full
