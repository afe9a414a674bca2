"""What the link carries, learned from the cloud's reports: an estimate for the policy, and when a frame may go.

Only the policy `auto` uses it. With the others, frames are sent as the user says.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradfec_common.congestion import CongestionControl, Train
from gradfec_common.protect import LinkEstimate, LinkWatch, Plan
from gradfec_common.protect.link import rounded
from gradfec_common.reassembly import Mask, read_map
from gradfec_common.session.edge import Closed
from gradfec_common.wire import Report
from gradfec_host.recent import percent

UDP_HEADER_BYTES = 28  # with IPv4's
SILENCE_S = 1.0  # without news, while some are expected
MOST_ROUNDS = 3  # of requests for more of a frame: the cloud's limit
REORDER_S = 0.03  # for which the cloud waits for late datagrams before it asks
ROUND_TRIPS = 1.25  # for which it awaits what it has asked for
SAMPLES = 20  # of the round trip: the least of them counts, the others waited somewhere
PASS_S = 0.1  # in which the link should carry a frame: latency matters more than the last point of agreement
IN_TIME = 0.5  # of the cloud's deadline, likewise, if no frame rate is asked for; the rest is for requests
LEAST_PASS_S = 0.08  # on a link whose round trip leaves no time for more
ANSWERED_S, WORK_S = 0.3, 0.1  # when a frame should be answered, and how much of that edge and cloud take
BESIDE = 0.1  # of the budget is for what goes beside frames: sketches and thumbnails
PACE = 2.0  # times as fast as the budget: a frame leaves in half of its share of the time


@dataclass
class Leaving:
    """A tensor on its way: its plan, the bytes of each datagram, and the moments at which (count, when) had left."""

    plan: Plan
    datagram_bytes: int
    left: list[tuple[int, float]]

    def left_at(self, position: int) -> float:
        """Return when the datagram at a position had left."""
        return next((when for count, when in self.left if count > position), self.left[-1][1])


class Adaptation:
    """What `auto` plans by: follows one link's reports, estimates its losses, and keeps to its budget."""

    def __init__(
        self, control: CongestionControl, interval_s: Callable[[], float | None], most_rounds: int = MOST_ROUNDS
    ) -> None:
        """Begin with a usual link; `interval_s` returns the time between two frames, None without a frame rate."""
        self.control, self._most_rounds = control, most_rounds
        self._interval_s = interval_s
        self._watch = LinkWatch()
        self._leaving: dict[int, Leaving] = {}
        self._round_trips: deque[float] = deque(maxlen=SAMPLES)
        self._deadline_s = 0.0
        self._heard_at = 0.0
        self._owed, self._owed_at = 0.0, 0.0  # bytes by which we are ahead of the budget, and when
        self._newest: Plan | None = None
        self._may_say_at = 0.0

    @property
    def round_trip_s(self) -> float | None:
        """The time to the cloud and back, without the cloud's own, and without a frame's wait behind its own start."""
        return min(self._round_trips, default=None)

    def connected(self, deadline_s: float, now: float) -> None:
        """Note that the cloud is there, and decides each tensor after `deadline_s`."""
        self._deadline_s, self._heard_at = deadline_s, now

    def estimate(self, now: float) -> LinkEstimate:
        """Return what is known of the link, rounded, so that frames are often planned alike."""
        if self._leaving and now - self._heard_at > SILENCE_S:
            self.control.silent(now)
            self._heard_at = now  # until the next second of silence is over
        carried_s = self._carried_s
        frame_bytes = None if carried_s is None else rounded(self.control.bytes_per_s * carried_s)
        if self.round_trip_s is None:
            return LinkEstimate(self._watch.losses, frame_bytes=frame_bytes)
        request_s = rounded(ROUND_TRIPS * self.round_trip_s + REORDER_S)
        left_s = self._deadline_s - PASS_S - REORDER_S
        rounds = min(max(int(left_s / request_s), 0), self._most_rounds)
        gives = self.control.gives_bytes_per_s
        bits_per_s = None if gives is None else 8 * gives
        return LinkEstimate(self._watch.losses, rounds, request_s, frame_bytes, bits_per_s, self.round_trip_s)

    @property
    def _carried_s(self) -> float | None:
        """In how many seconds the link shall carry a frame, None if no frame rate is asked for and it has room so far.

        Without a frame rate nothing else limits a frame, and on a slow link most of a large one would come too late.
        """
        interval_s = self._interval_s()
        if interval_s is not None:
            return min(interval_s, self._pass_s)
        return None if self.control.gives_bytes_per_s is None else IN_TIME * self._deadline_s

    @property
    def _pass_s(self) -> float:
        left_s = ANSWERED_S - WORK_S - (self.round_trip_s or 0.0)
        return min(max(left_s, LEAST_PASS_S), PASS_S)

    def wait_s(self, now: float) -> float:
        """Return how long the next frame has to wait, so that no more is sent than the budget allows."""
        return max(self._owes(now) / self.control.bytes_per_s - (self._interval_s() or 0.0), 0.0)

    def extra_s(self, size: int, now: float) -> float:
        """Return in how many seconds an answer to `size` bytes more can be here; infinity if frames would have to wait.

        The next frame may be late by one interval. A link that has shown no limit so far may carry more than the
        budget, which grows with what is sent.
        """
        passes_s = (self._owes(now) + size) / self.control.bytes_per_s
        interval_s, has_limit = self._interval_s(), self.control.gives_bytes_per_s is not None
        if has_limit and interval_s is not None and passes_s > 2 * interval_s:
            return math.inf
        return passes_s + (self.round_trip_s or 0.0)

    def spread_s(self, size: int) -> float:
        """Return over how many seconds to spread a frame of `size` bytes, at most."""
        return size / (PACE * self.control.bytes_per_s)

    def _owes(self, now: float) -> float:
        """Return the bytes by which we are ahead: the debt falls at the rate of the current budget."""
        return max(self._owed - max(now - self._owed_at, 0.0) * self.control.bytes_per_s, 0.0)

    def _owe(self, size: int, now: float) -> None:
        self._owed, self._owed_at = self._owes(now) + size, now

    # --- what happens ---

    def sends(self, number: int, plan: Plan, datagram_bytes: int, left: list[tuple[int, float]], now: float) -> None:
        """Note that a tensor is about to be sent; `left` gets the moments at which its datagrams have left."""
        if not self._leaving:  # until now, no report was expected
            self._heard_at = now
        self._newest = plan
        datagram_bytes += UDP_HEADER_BYTES
        self._leaving[number] = Leaving(plan, datagram_bytes, left)
        size = plan.unasked * datagram_bytes
        pauses = max((self._interval_s() or 0.0) / self._pass_s, 1.0)  # which are left out of the rate that is sent
        self.control.sent(round(pauses * size), now)
        self._owe(size, now)

    def may_say(self, now: float) -> bool:
        """Return whether the budget has room for what goes beside frames, as sketches do."""
        return now >= self._may_say_at

    def says(self, size: int, now: float) -> None:
        """Note that `size` bytes go beside a frame. They count as the frame's do."""
        self._may_say_at = max(self._may_say_at, now + size / (BESIDE * self.control.bytes_per_s))
        if size:
            self.control.sent(size, now)
            self._owe(size, now)

    def reported(self, report: Report, now: float) -> None:
        """Learn from a report what the link lost, in which runs, and what rate it carried."""
        self._heard_at = now
        leaving = self._leaving.get(report.tensor)
        arrived = _arrived(report, leaving.plan) if leaving else None
        if leaving is None or not leaving.left or arrived is None or not arrived.any():
            return
        unasked = leaving.plan.unasked
        first, last = np.flatnonzero(arrived)[[0, -1]].tolist()
        self._watch.saw(arrived[: min(last + 1, unasked) if self._ran_out(report, unasked) else unasked])
        self._count_asked(report, leaving, now)
        if first >= unasked:  # nothing of what was sent at first
            return
        whole = last < unasked  # otherwise the last one was asked for, and it is not known when it left
        first_at, span_s = report.first_us / 1e6, report.span_us / 1e6 if whole else 0.0
        first_left_at, last_left_at = leaving.left_at(first), leaving.left_at(last if whole else first)
        if whole:
            stretched_s = max(span_s - (last_left_at - first_left_at), 0.0)  # the last one waited behind the others
            self._round_trips.append(max(now - last_left_at - report.held_us / 1e6 - stretched_s, 0.0))
        received = int(arrived[:unasked].sum()) if whole else 1
        train = Train(
            first_left_at,
            last_left_at,
            first_at,
            first_at + span_s,
            unasked if whole else 1,
            received,
            leaving.datagram_bytes,
        )
        self.control.reported(train, now)

    def _ran_out(self, report: Report, unasked: int) -> bool:
        """Return whether the cloud's deadline ended a tensor: what had not arrived may still be on a slow link."""
        waited_s = (report.span_us + report.held_us) / 1e6
        return report.sent <= unasked and waited_s >= self._deadline_s - REORDER_S

    def _count_asked(self, report: Report, leaving: Leaving, now: float) -> None:
        """Count the datagrams that the cloud has asked for towards what was sent."""
        plan = leaving.plan
        more = max(min(report.sent, plan.sent) - plan.unasked, 0) * leaving.datagram_bytes  # the cloud may lie
        if more:
            self.control.sent(more, now)
            self._owe(more, now)

    def closed(self, event: Closed) -> None:
        """Forget a tensor; if nothing was heard of it, all of it was lost."""
        leaving = self._leaving.pop(event.tensor, None)
        if leaving is not None and event.report is None and event.result is None and event.sent:
            self._watch.saw(np.zeros(min(event.sent, leaving.plan.unasked), bool))

    def why(self, plan: Plan) -> dict[str, float]:
        """Return, by name, what a plan was made for."""
        losses = self._watch.losses
        link = LinkEstimate(losses)
        return {
            "loss": round(link.loss, 4),
            "burst": round(link.burst, 2),
            "budget_kbit_s": round(8 * self.control.bytes_per_s / 1000, 1),
            **({"round_trip_ms": round(1000 * self.round_trip_s, 1)} if self.round_trip_s is not None else {}),
            **({} if (queue := self.control.queueing_delay_s) is None else {"queue_ms": round(1000 * queue, 1)}),
            **({} if plan.expected is None else {"expected": round(plan.expected, 4)}),
        }

    def known(self) -> dict[str, float]:
        """Return, by the same names, what is known now, and what the newest plan expects; nothing before the first."""
        return {} if self._newest is None else self.why(self._newest)


def _arrived(report: Report, plan: Plan) -> Mask | None:
    """Return which datagrams (sent,) have arrived; None if the report does not say."""
    if report.received == plan.unasked == report.sent:
        return np.arange(plan.sent) < plan.unasked
    return read_map(report.arrived, plan.sent)


def in_words(why: dict[str, float], plan: Plan) -> str:
    """Say why a plan is what it is."""
    runs = f" in runs of {why['burst']:.1f}" if why["loss"] >= 0.01 else ""
    expected = f", {percent(why['expected'])} expected" if "expected" in why else ""
    return (
        f"loss {percent(why['loss'])}{runs}{expected}, {plan.unasked} datagrams of which {plan.parity} parity, "
        f"budget {why['budget_kbit_s']:.0f} kbit/s"
    )
