"""Links to drive along, by name. A policy is not told what lies ahead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gradfec_cli.channel import ChannelSettings
from gradfec_lab.drive.road import Stretch

DELAY_S = 0.04  # each way
BACK = ChannelSettings(delay_s=DELAY_S)
GOOD = ChannelSettings(delay_s=DELAY_S)
LOST = 1.0


def losing(loss: float, burst: float | None = None) -> ChannelSettings:
    """Return a way that loses a share of the datagrams, independently or in runs."""
    return replace(GOOD, loss=loss, burst=burst)


def road(*changes: tuple[float, ChannelSettings]) -> tuple[Stretch, ...]:
    """Return a road that changes to each of the settings at its time."""
    return tuple(Stretch(since, there, BACK) for since, there in changes)


def wave(low: float, high: float, period_s: float, burst: float | None = None) -> tuple[Stretch, ...]:
    """Return a road whose loss rises and falls, in steps, as over a day."""
    steps = [low, (low + high) / 2, high, (low + high) / 2] * 4
    return road(*((number * period_s / 4, losing(loss, burst)) for number, loss in enumerate(steps)))


# Losses only: no rate limit, so that plans of equal bytes can be compared.
LOSSES: Mapping[str, tuple[Stretch, ...]] = {
    **{f"{loss:.0%}": road((0, losing(loss))) for loss in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)},
    **{f"{loss:.0%} in runs of {burst}": road((0, losing(loss, burst)))
       for loss, burst in ((0.02, 4), (0.05, 8), (0.2, 4), (0.2, 8), (0.3, 8), (0.5, 8))},
    "2, 25, 2 %": road((0, losing(0.02)), (20, losing(0.25)), (40, losing(0.02))),
    "2, 25, 2 % in runs of 4": road((0, losing(0.02, 4)), (20, losing(0.25, 4)), (40, losing(0.02, 4))),
    "0, 50, 0 %": road((0, GOOD), (25, losing(0.5)), (35, GOOD)),
    "2 % and a blackout of 2 s": road((0, losing(0.02)), (30, losing(LOST)), (32, losing(0.02))),
    "20 % in runs of 8, and a blackout of 2 s": road(
        (0, losing(0.2, 8)), (30, losing(LOST)), (32, losing(0.2, 8))
    ),
    "1 to 30 % and back": wave(0.01, 0.3, 30),
    "1 to 30 % and back, in runs of 4": wave(0.01, 0.3, 30, 4),
}  # fmt: skip
