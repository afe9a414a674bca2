"""Bottlenecks: small networks around the cut that make the tensor small.

To add one: a file here, and a line in BOTTLENECKS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gradfec_common.bottlenecks import compact
from gradfec_common.bottlenecks.bottleneck import Bottleneck as Bottleneck
from gradfec_common.bottlenecks.inserted import WithBottleneck as WithBottleneck
from gradfec_common.bottlenecks.inserted import with_bottleneck as with_bottleneck
from gradfec_common.networks import Cut

BOTTLENECKS: Mapping[str, Callable[[Cut], Bottleneck]] = {compact.NAME: compact.compact}
