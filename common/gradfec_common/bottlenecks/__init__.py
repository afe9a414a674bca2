"""Bottlenecks: small networks around the cut that make the tensor small.

To add one: a file here, and a line in BOTTLENECKS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gradfec_common.bottlenecks import compact, narrow
from gradfec_common.bottlenecks.bottleneck import Bottleneck as Bottleneck
from gradfec_common.bottlenecks.inserted import WithBottleneck as WithBottleneck
from gradfec_common.bottlenecks.inserted import base_of as base_of
from gradfec_common.bottlenecks.inserted import with_bottleneck as with_bottleneck
from gradfec_common.networks import Cut


class MakeBottleneck(Protocol):
    """Makes a bottleneck for a cut; UsageError if it does not suit the cut's tensor."""

    def __call__(self, cut: Cut, joins: str = "") -> Bottleneck:
        """Make it, with a decoder that stands for the layers up to `joins` if that is given."""


BOTTLENECKS: Mapping[str, MakeBottleneck] = {compact.NAME: compact.compact, narrow.NAME: narrow.narrow}
