"""A simulated link between an edge and its cloud: `gradfec-netem`'s channel, frames through it, and their stories."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tests.common.answers import HEAD, TIGER_CAT

from gradfec_cli.channel import HEADER_BYTES, Channel, ChannelSettings
from gradfec_common.wire import Report, Result
from gradfec_edge.coding import Coding
from gradfec_edge.frames import Frame
from gradfec_edge.pacing import INTERVAL_S, Pacing, due
from gradfec_edge.story import Sent, Story

IN_FLIGHT = 4  # the edge's default
DEADLINE_S, REORDER_S, TIMEOUT_S = 0.5, 0.03, 2.0  # the cloud's, and the edge's patience
IMAGE = np.zeros((4, 4, 3), np.uint8)


@dataclass
class Simulated:
    """An edge that sends frames of a coding, at most `fps` a second, over a channel; None is as fast as they go."""

    coding: Coding
    channel: Channel[int]
    fps: float | None
    rate_mbit_s: float | None = None
    frame_every_s: float = 0.05  # without `fps`: what the front-end takes

    def run(self, seconds: float) -> Iterator[tuple[float, Story]]:
        """Yield each story with the time at which it is over.

        The cloud decides as the real one: at the k-th datagram, or a while after the last, or at the deadline.
        """
        plan = self.coding.trial_plan()
        assert plan is not None
        size = (self.coding.check() or 0) // plan.sent
        pacing = Pacing(self.rate_mbit_s, None if self.fps is None else 1 / self.fps)
        busy: deque[float] = deque([0.0] * IN_FLIGHT)  # when each slot becomes free
        ready = free = 0.0
        number = 0
        while ready < seconds:
            ready = max(ready + (1 / self.fps if self.fps else self.frame_every_s), busy.popleft())
            pacing.frame(ready)
            begun = max(ready, free)
            spread_s = pacing.spread_s(8 * size * plan.sent)
            arrivals = self._arrivals(number, plan.sent, size, begun, spread_s)
            free = begun + spread_s
            first = float(np.nanmin(arrivals)) if not np.isnan(arrivals).all() else np.nan
            closes = first + DEADLINE_S if np.isnan(first) else min(first + DEADLINE_S, np.nanmax(arrivals) + REORDER_S)
            in_time = arrivals <= closes
            needed = plan.sent - plan.parity
            order = np.sort(arrivals[in_time])
            complete = len(order) >= needed
            decided = float(order[needed - 1]) if complete else closes
            answered = decided < begun + TIMEOUT_S  # and not NaN
            over = decided if answered else begun + TIMEOUT_S
            busy.append(over)
            missing = 0 if complete else 9
            outcome, stages = "complete" if complete else "partial", {"collect": 1000 * (decided - first)}
            result = Result(number, outcome, TIGER_CAT.packed(), 0, missing, stages) if answered else None
            arrived = np.packbits(in_time).tobytes()
            report = Report(number, plan.sent, int(in_time.sum()), 0, arrived) if answered else None
            frame = Frame(number, "door", IMAGE, ready)
            yield (
                over,
                Story(
                    frame,
                    TIGER_CAT if answered else HEAD.no_answer,
                    Sent(1, number, plan, size),
                    {"send": 1000 * (free - ready)},
                    result=result,
                    report=report,
                    sent=plan.sent,
                ),
            )
            number += 1

    def _arrivals(self, number: int, count: int, size: int, begun: float, spread_s: float) -> np.ndarray:
        """Send a frame's datagrams as they are due; return when each arrives (count,), NaN for the lost ones."""
        arrivals, done, now = np.full(count, np.nan), 0, begun
        payload = bytes(size)
        while done < count:
            until = due(now - begun, spread_s, count)
            for index in range(done, until):
                # The time of arrival is known at once: whatever a later datagram does, an earlier one is not later.
                self.channel.send([(index, payload)], now)
            done, now = until, now + INTERVAL_S
        while (at := self.channel.next_timer()) is not None:
            for index, _ in self.channel.deliver(at):
                arrivals[index] = at
        return arrivals


def link(kbit_s: float | None = None, queue: int = 100, seed: int = 1, **settings: float) -> Channel[int]:
    """Return a channel of so many kbit/s of UDP payload in datagrams of about 1,060 B."""
    rate = None if kbit_s is None else 1000 * kbit_s * (1 + HEADER_BYTES / 1060)
    return Channel(ChannelSettings(rate_bps=rate, queue_datagrams=queue, **settings), np.random.default_rng(seed))
