"""Models of a lossy datagram link, in virtual time; the loss injector and the simulations use the same ones.

A `Channel` is one direction of a link. Datagrams go in with `send(batch, now)` and come out with `deliver(now)`;
`next_timer()` says when the next one is due. Every datagram passes these steps in order:

    loss -> duplicate -> corrupt -> rate limit and its queue -> delay, jitter, reorder -> delivered

Loss comes first, as in Linux's netem: a lost datagram takes no place in the queue. Each impairment has its own random
generator, and draws a fixed number of values for each datagram received. So the fate of the i-th datagram depends only
on the seed and on i, and not on how arrivals were batched or which other impairments are on. (Only the queue, and the
limit on datagrams in flight, depend on when datagrams arrive.) `change(settings)` makes it another link from then on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from itertools import compress
from typing import Generic, TypeVar

import numpy as np

from gradfec_cli.loss_models import (
    GilbertElliottLoss,
    IndependentLoss,
    LossModel,
    Mask,
    TraceLoss,
    gilbert_elliott_transitions,
)
from gradfec_common.errors import UsageError

Route = TypeVar("Route")  # says where a datagram goes; only the caller looks at it

HEADER_BYTES = 28  # IPv4 and UDP: the rate limit counts them


@dataclass(frozen=True)
class ChannelSettings:
    """One direction of a link; the default link is perfect. Probabilities are per datagram, times in seconds.

    UsageError, which says what would work, if the values contradict each other or no channel can have them.
    """

    loss: float = 0.0
    burst: float | None = None  # mean length of a run of losses, in datagrams; None: losses are independent
    trace: bytes | None = None  # one byte for each datagram, 0 delivered, 1 lost; repeats at its end
    duplicate: float = 0.0
    corrupt: float = 0.0
    rate_bps: float | None = None  # bits a second, headers included
    queue_datagrams: int = 1000  # how many may wait for the rate limit, besides the one being sent
    delay_s: float = 0.0
    jitter_s: float = 0.0  # uniform, both ways around the delay
    reorder: float = 0.0  # probability that a datagram is held back
    reorder_by_s: float = 0.005  # for how long
    in_flight_limit_datagrams: int = 100_000  # queued and delayed datagrams together
    header_bytes: int = HEADER_BYTES  # of each datagram, besides its payload, for the rate limit

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "corrupt", "reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} {getattr(self, name)!r} is not a probability: use 0% to 100%")
        for name in ("delay_s", "jitter_s", "reorder_by_s", "queue_datagrams", "in_flight_limit_datagrams"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} {getattr(self, name)!r} must be a finite number, at least 0")
        if self.rate_bps is not None and not 0 < self.rate_bps < math.inf:
            raise UsageError(f"rate_bps {self.rate_bps!r} must be a finite number above 0")
        if self.jitter_s > self.delay_s:
            raise UsageError(
                f"a jitter of {self.jitter_s * 1e3:g} ms around a delay of {self.delay_s * 1e3:g} ms would "
                f"deliver datagrams before they were sent: make the delay at least {self.jitter_s * 1e3:g} ms"
            )
        if self.trace is not None and (self.loss or self.burst is not None):
            raise UsageError("a trace already says which datagrams are lost: leave out loss and burst")
        if self.trace is not None and (not self.trace or self.trace.strip(b"\0\1")):
            raise UsageError("a trace needs at least one datagram, and only the bytes 0 (delivered) and 1 (lost)")
        if self.burst is not None:
            gilbert_elliott_transitions(self.loss, self.burst)


@dataclass
class Totals:
    """What became of the datagrams of one direction. Each has exactly one fate, so `unaccounted()` is always 0.

    The fates are delivered, dropped_* and in_flight; received and duplicated count what came in. The other counters are
    extra information. The sockets around the channel, not the channel, set the last four.
    """

    received: int = 0  # including those that the kernel dropped, or that had no free client slot
    received_bytes: int = 0  # their payloads, as far as the channel saw them
    delivered: int = 0
    dropped_loss: int = 0  # by the loss model or the trace
    dropped_queue: int = 0  # the rate limit's queue was full, or too many were in flight
    duplicated: int = 0  # second copies made
    corrupted: int = 0  # datagrams and copies with a bit flipped
    reordered: int = 0  # delivered after one that came in later
    in_flight: int = 0  # queued or delayed now
    dropped_send: int = 0  # the kernel refused to send it
    dropped_kernel: int = 0  # the socket's receive buffer overflowed
    dropped_clients: int = 0  # no room for another client
    refused: int = 0  # ICMP reports that nobody listens at the far end, for delivered datagrams

    def unaccounted(self) -> int:
        """Count the datagrams that came in, or were duplicated, and have no fate; anything but 0 is a bug."""
        dropped: int = sum(count for name, count in asdict(self).items() if name.startswith("dropped_"))
        return self.received + self.duplicated - self.delivered - self.in_flight - dropped


def loss_model(settings: ChannelSettings, rng: np.random.Generator) -> LossModel:
    """Build the loss model that the settings name."""
    if settings.trace is not None:
        return TraceLoss(settings.trace)
    if settings.burst is not None:
        return GilbertElliottLoss(settings.loss, settings.burst, rng)
    return IndependentLoss(settings.loss, rng)


class Channel(Generic[Route]):
    """One direction of a link. Pure: `now` (seconds, never decreasing) and the generator are arguments."""

    def __init__(self, settings: ChannelSettings, rng: np.random.Generator) -> None:
        """Spawn one generator for each impairment from `rng`; their order must not change, or seeds change meaning."""
        self.totals = Totals()
        self._loss_rng, self._duplicate_rng, self._corrupt_rng, self._jitter_rng, self._reorder_rng = rng.spawn(5)
        self.change(settings)
        self._at_once: list[tuple[Route, bytes]] = []  # all that a channel without delays ever holds
        self._at_once_since = 0.0
        # (arrival, 2 x number + copy, datagram), ordered by arrival, then as they were received
        self._in_flight: list[tuple[float, int, tuple[Route, bytes]]] = []
        self._received = 0  # the number of the next datagram
        self._latest_delivered = -1
        self._queued_until: deque[float] = deque()  # when each waiting datagram's transmission starts
        self._link_free_at = -math.inf

    def change(self, settings: ChannelSettings) -> None:
        """Treat the datagrams that come from now on by other settings; those in the channel come out when they would.

        So a queue that has formed still drains at the old rate. The loss model starts again.
        """
        self.settings = s = settings
        self._loss = loss_model(settings, self._loss_rng)
        self._only_loses = s.rate_bps is None and not (s.duplicate or s.corrupt or s.delay_s or s.reorder)

    def send(self, batch: Sequence[tuple[Route, bytes]], now: float) -> Mask:
        """Take datagrams in order of arrival; return (len(batch),) booleans, True for those that the loss model lost.

        Call `deliver(now)` next, because datagrams without delay are ready at once.
        """
        lost = self._loss.draw(len(batch))
        self.totals.received += len(batch)
        self.totals.received_bytes += sum(len(payload) for _, payload in batch)
        self.totals.dropped_loss += int(np.count_nonzero(lost))
        if self._only_loses:
            self._at_once.extend(compress(batch, (~lost).tolist()))
            self._at_once_since = now
        else:
            self._send_impaired(batch, lost, now)
        self.totals.in_flight = len(self._in_flight) + len(self._at_once)
        return lost

    def next_timer(self) -> float | None:
        """Return when the next datagram is due, or None if the channel is empty."""
        if self._at_once:
            return self._at_once_since
        return self._in_flight[0][0] if self._in_flight else None

    def deliver(self, now: float) -> list[tuple[Route, bytes]]:
        """Remove and return all datagrams that are due, in order of arrival at the far end."""
        due, self._at_once = self._at_once, []
        while self._in_flight and self._in_flight[0][0] <= now:
            _, order, datagram = heappop(self._in_flight)
            number = order // 2
            self.totals.reordered += number < self._latest_delivered
            self._latest_delivered = max(number, self._latest_delivered)
            due.append(datagram)
        self.totals.delivered += len(due)
        self.totals.in_flight = len(self._in_flight)
        return due

    def _send_impaired(self, batch: Sequence[tuple[Route, bytes]], lost: Mask, now: float) -> None:
        count = len(batch)
        s = self.settings
        twice = self._duplicate_rng.random(count) < s.duplicate
        # (count, 2 copies, [whether to corrupt, which bit]); always drawn for the second copy too
        corrupt = self._corrupt_rng.random((count, 2, 2))
        travel_s = (
            s.delay_s
            + (self._jitter_rng.random(count) * 2 - 1) * s.jitter_s
            + (self._reorder_rng.random(count) < s.reorder) * s.reorder_by_s
        )
        for i in np.flatnonzero(~lost).tolist():
            route, payload = batch[i]
            self.totals.duplicated += int(twice[i])
            for copy in range(1 + int(twice[i])):
                whether, which = corrupt[i, copy].tolist()
                arriving = payload
                if whether < s.corrupt and payload:
                    arriving = flip_bit(payload, int(which * len(payload) * 8))
                    self.totals.corrupted += 1
                self._transmit((route, arriving), 2 * (self._received + i) + copy, now, float(travel_s[i]))
        self._received += count

    def _transmit(self, datagram: tuple[Route, bytes], order: int, now: float, travel_s: float) -> None:
        if len(self._in_flight) >= self.settings.in_flight_limit_datagrams:
            left_at = None
        else:
            left_at = self._leave_queue_at(len(datagram[1]), now)
        if left_at is None:
            self.totals.dropped_queue += 1
        else:
            heappush(self._in_flight, (left_at + travel_s, order, datagram))

    def _leave_queue_at(self, size_bytes: int, now: float) -> float | None:
        """Return when the rate limit lets the last bit through, or None if the queue is full (tail drop)."""
        if self.settings.rate_bps is None:
            return now
        while self._queued_until and self._queued_until[0] <= now:
            self._queued_until.popleft()
        begins_at = max(now, self._link_free_at)
        if begins_at > now:
            if len(self._queued_until) >= self.settings.queue_datagrams:
                return None
            self._queued_until.append(begins_at)
        self._link_free_at = begins_at + (size_bytes + self.settings.header_bytes) * 8 / self.settings.rate_bps
        return self._link_free_at


def flip_bit(payload: bytes, bit: int) -> bytes:
    """Return `payload` with bit number `bit` flipped, counted from the lowest bit of the first byte."""
    flipped = bytearray(payload)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)
