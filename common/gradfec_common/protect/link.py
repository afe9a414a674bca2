"""What the edge knows about the link, for policies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LinkEstimate:
    """An estimate of a link; None is unknown.

    `loss` is the share of datagrams lost, `burst` the mean length of a run of losses in datagrams, `round_trip_s` a
    time in seconds, `bytes_per_s` the rate that the link carries.
    """

    loss: float | None = None
    burst: float | None = None
    round_trip_s: float | None = None
    bytes_per_s: float | None = None


UNKNOWN_LINK = LinkEstimate()
