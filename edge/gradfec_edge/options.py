"""What the user asked for, for one camera's session with its cloud."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from gradfec_common.errors import UsageError
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.wire import Hello
from gradfec_host.console import Endpoint


@dataclass(frozen=True)
class EdgeOptions:
    """A camera's part of the options, checked and in their units."""

    cloud: Endpoint
    hello: Hello
    key: HandshakeKey
    in_flight: int
    timeout_s: float
    rate_mbit_s: float | None
    max_rate_mbit_s: float | None = None
    queue_s: float = 0.05  # that frames may wait on the link, with the policy `auto`
    batched_udp: bool = True  # if the kernel and the device can do it
    wait_s: float = math.inf  # for the cloud, at a frame that cannot be skipped
    thumbnail: bool = False  # whether sketches contain a small picture of the frame
    settings: Mapping[str, object] = field(default_factory=dict)  # all that was decided, by name
    differing: Mapping[str, object] = field(default_factory=dict)  # what the user has set, for the first line

    def __post_init__(self) -> None:
        """Check the rate; UsageError if it is not a positive number."""
        if self.rate_mbit_s is not None and not (math.isfinite(self.rate_mbit_s) and self.rate_mbit_s > 0):
            raise UsageError(f"--rate {self.rate_mbit_s:g} is not a rate: use Mbit/s above 0, for example 20")
