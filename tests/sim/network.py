"""The simulated network: links with weather, strangers who inject, and an ear on the wire.

Where a datagram comes from is known here and only here: a `Parcel` says so to whoever checks what a core makes of it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import numpy as np

from gradfec_cli.channel import Channel, ChannelSettings
from gradfec_common.wire import Kind

from .nodes import Address

OVERHEARD = 64  # datagrams that an ear on the wire remembers
HANDSHAKES = 40  # hellos and welcomes, which it remembers longer


class Origin(Enum):
    """Who has sent a datagram, and whether it is still what was sent."""

    GENUINE = "genuine"  # a core's, unchanged
    DAMAGED = "damaged"  # a core's, changed on its way
    REPLAYED = "replayed"  # a core's, sent by a stranger
    FORGED = "forged"  # a stranger's
    INSIDER = "insider"  # of a key holder who lies


class Parcel(NamedTuple):
    """A datagram on its way."""

    source: Address
    destination: Address
    payload: bytes
    origin: Origin


@dataclass(frozen=True)
class Weather:
    """The state of one way of a link: what the loss injector's channel does, and what the path does besides."""

    channel: ChannelSettings = field(default_factory=lambda: ChannelSettings(delay_s=0.001))
    truncate: float = 0.0  # probability that the end of a datagram is cut off
    mtu_bytes: int = 65_535  # longer payloads vanish


CLEAN = Weather()
DEAD = Weather(ChannelSettings(loss=1.0))

Route = tuple[Address, Address, bytes, Origin]  # source, destination, payload when it was sent, origin then


class Way:
    """One way of a link, under changing weather: what is on its way when that changes still arrives."""

    def __init__(self, dice: random.Random) -> None:
        """Start in clean weather."""
        self._dice = dice
        self._channels: list[Channel[Route]] = []
        self.dark_until = 0.0  # nothing passes before
        self.change(CLEAN)

    def change(self, weather: Weather) -> None:
        """Change the weather for what is sent from now on."""
        self._weather = weather
        self._channels.append(Channel(weather.channel, np.random.default_rng(self._dice.getrandbits(63))))

    def send(self, parcels: Iterable[Parcel], now: float) -> None:
        """Take datagrams, in order."""
        if now < self.dark_until:
            return
        weather, batch = self._weather, []
        for source, destination, payload, origin in parcels:
            if len(payload) > weather.mtu_bytes:
                continue
            arriving = payload
            if weather.truncate and self._dice.random() < weather.truncate:
                arriving = payload[: self._dice.randrange(len(payload) + 1)]
            batch.append(((source, destination, payload, origin), arriving))
        if batch:
            self._channels[-1].send(batch, now)

    def next_timer(self) -> float | None:
        """Return when the next datagram is due, or None."""
        dues = [due for channel in self._channels if (due := channel.next_timer()) is not None]
        return min(dues, default=None)

    def deliver(self, now: float) -> list[Parcel]:
        """Take out what is due."""
        due = [arrived for channel in self._channels for arrived in channel.deliver(now)]
        if len(self._channels) > 1:
            self._channels[:-1] = [channel for channel in self._channels[:-1] if channel.next_timer() is not None]
        return [
            Parcel(source, destination, payload, origin if payload == sent else Origin.DAMAGED)
            for (source, destination, sent, origin), payload in due
        ]

    @property
    def settled(self) -> bool:
        """Whether nothing of former weather is on its way any more."""
        return len(self._channels) == 1


@dataclass
class Network:
    """The ways of all links, one by which strangers inject, and what crosses them."""

    dice: random.Random
    ways: dict[Address, tuple[Way, Way]] = field(default_factory=dict)  # up and down, by the edge's home
    overheard: deque[Parcel] = field(default_factory=lambda: deque(maxlen=OVERHEARD))
    handshakes: deque[Parcel] = field(default_factory=lambda: deque(maxlen=HANDSHAKES))
    datagrams: int = 0

    def __post_init__(self) -> None:
        """Lay the strangers' way, which is as good as any."""
        self.strangers = Way(self.dice)

    def connect(self, home: Address) -> tuple[Way, Way]:
        """Lay the two ways between an edge and the cloud."""
        self.ways[home] = Way(self.dice), Way(self.dice)
        return self.ways[home]

    def next_timer(self) -> float | None:
        """Return when the next datagram is due, or None."""
        dues = [way.next_timer() for pair in self.ways.values() for way in pair]
        return min((due for due in [*dues, self.strangers.next_timer()] if due is not None), default=None)

    def deliver(self, now: float) -> list[Parcel]:
        """Take out what is due, from everywhere."""
        parcels = [parcel for pair in self.ways.values() for way in pair for parcel in way.deliver(now)]
        parcels += self.strangers.deliver(now)
        self.datagrams += len(parcels)
        return parcels

    def send(self, way: Way, parcels: Sequence[Parcel], now: float) -> None:
        """Let a core's datagrams go, before everybody's ears."""
        self.overheard.extend(parcels)
        self.handshakes.extend(parcel for parcel in parcels if parcel.payload[2] in (Kind.HELLO, Kind.WELCOME))
        way.send(parcels, now)

    def inject(self, parcels: Sequence[Parcel], now: float) -> None:
        """Let a stranger put datagrams on the wire, with whatever source address."""
        self.strangers.send(parcels, now)
