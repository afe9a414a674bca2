"""A simulated link: both ways, under conditions that change at given times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from gradfec_cli.channel import HEADER_BYTES, Channel, ChannelSettings
from gradfec_lab.drive.clock import Alarm, Clock

Receive = Callable[[list[bytes]], None]


@dataclass(frozen=True)
class Stretch:
    """What a link is like from `since` seconds on: on the way to the cloud, and back."""

    since: float
    there: ChannelSettings
    back: ChannelSettings = field(default_factory=lambda: ChannelSettings(delay_s=0.001))


class Way:
    """One way. When it changes, what is under way still arrives under the old conditions."""

    def __init__(self, clock: Clock, changes: Sequence[tuple[float, ChannelSettings]], seed: Sequence[int]) -> None:
        """Change to each of the settings at its time."""
        self.bytes = 0  # that were sent into it, with 28 bytes of IP and UDP header a datagram
        self._clock = clock
        self._receive: Receive = _nowhere
        self._channels: list[tuple[Channel[None], Alarm]] = []
        for number, (since, settings) in enumerate(changes):
            channel: Channel[None] = Channel(settings, np.random.default_rng([*seed, number]))
            clock.at(since, partial(self._change, channel))

    def leads_to(self, receive: Receive) -> None:
        """Hand what arrives to `receive`, a list of datagrams at a time."""
        self._receive = receive

    def send(self, datagrams: Sequence[bytes]) -> None:
        """Put datagrams onto the link, now by the clock."""
        self.bytes += sum(len(datagram) + HEADER_BYTES for datagram in datagrams)
        channel, alarm = self._channels[-1]
        channel.send([(None, datagram) for datagram in datagrams], self._clock.now)
        alarm.set(channel.next_timer())

    def _change(self, channel: Channel[None]) -> None:
        def deliver() -> None:
            arrived = [datagram for _, datagram in channel.deliver(self._clock.now)]
            alarm.set(channel.next_timer())
            if arrived:
                self._receive(arrived)

        alarm = Alarm(self._clock, deliver)
        self._channels.append((channel, alarm))


def _nowhere(datagrams: list[bytes]) -> None:
    raise AssertionError("a way that leads nowhere")


class Road:
    """The link of a drive: `there` from edge to cloud, and `back`."""

    def __init__(self, clock: Clock, stretches: Sequence[Stretch], seed: int) -> None:
        """Follow the stretches, of which the first begins at 0."""
        self.there = Way(clock, [(one.since, one.there) for one in stretches], (seed, 0))
        self.back = Way(clock, [(one.since, one.back) for one in stretches], (seed, 1))
