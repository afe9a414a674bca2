"""What the last ten seconds' frames say about the link: the evidence for the warnings."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gradfec_common.reassembly import read_map
from gradfec_edge.adaptation import UDP_HEADER_BYTES
from gradfec_edge.story import Story

WINDOW_S = 10.0
MOST_FRAMES = 4096
HEAD, TAIL = 8, 2  # the first eighth, and the last half, of a frame's datagrams


class Seen(NamedTuple):
    """A frame that was sent and has ended; None for unknown values."""

    at: float
    answered: bool
    partial: bool
    size: int  # bytes of UDP payload
    sent: int  # datagrams, without those that the cloud asked for and that came after its report
    received: int | None
    is_enough: bool  # as many have arrived as the frame has data
    growth: float | None  # how much more of the frame's end was lost than of its start, as a share
    send_s: float | None  # from when it was ready until its last datagram had left
    pass_s: float | None  # how long all of its datagrams take to arrive
    budget_kbit_s: float | None  # that it was planned for, if the link decides
    takes_s: float | None  # how many seconds of that budget it takes up


def seen(story: Story, now: float) -> Seen | None:
    """Read a story that is over; None if the frame was never sent."""
    if story.as_sent is None or not story.sent:
        return None
    result, report, stages = story.result, story.report, story.stages_ms
    budget_kbit_s = story.as_sent.why.get("budget_kbit_s")
    whole_kbit = 8 * (story.bytes + sum(one.sent for one in story.looks) * UDP_HEADER_BYTES) / 1000
    due = min(report.sent, story.sent) if report else story.sent  # the other side may lie
    received = min(report.received, due) if report else None
    return Seen(
        now,
        result is not None,
        story.outcome == "partial",
        story.bytes,
        due,
        received,
        received is not None and story.plan is not None and received >= story.plan.unasked - story.plan.parity,
        _growth(story),
        stages["send"] / 1000 if "send" in stages else None,
        _pass_s(story),
        budget_kbit_s,
        whole_kbit / budget_kbit_s if budget_kbit_s else None,
    )


def _growth(story: Story) -> float | None:
    """Compare the losses at the end of a frame with those at its start, by the map in the report."""
    plan, report = story.plan, story.report
    if plan is None or report is None or story.sent != plan.sent or plan.sent < HEAD:
        return None
    arrived = read_map(report.arrived, plan.sent)
    if arrived is None:
        return 0.0 if report.received == plan.sent else None
    head, tail = arrived[: plan.sent // HEAD], arrived[-(plan.sent // TAIL) :]
    return float(np.mean(head) - np.mean(tail))


def _pass_s(story: Story) -> float | None:
    """Return how long the link takes for a frame, from the time that the cloud took to collect it.

    A complete frame was decided by the arrival of a datagram. Without losses, that was the last one before the parity.
    """
    plan, result = story.plan, story.result
    if plan is None or result is None or story.outcome != "complete" or "collect" not in result.stages_ms:
        return None
    return result.stages_ms["collect"] / 1000 * plan.sent / max(plan.sent - plan.parity, 1)


class Window:
    """The frames of the last WINDOW_S seconds."""

    def __init__(self) -> None:
        self._frames: list[Seen] = []
        self._since = 0.0  # when the first one came

    def add(self, frame: Seen) -> None:
        """Add the newest frame, and forget old ones."""
        if not self._frames or frame.at - self._frames[-1].at > WINDOW_S:  # after a pause, start again
            self._since = frame.at
        kept = [one for one in self._frames if one.at > frame.at - WINDOW_S]
        self._frames = [*kept[-MOST_FRAMES + 1 :], frame]

    @property
    def full(self) -> bool:
        """Whether the first frame was seen WINDOW_S seconds before the last one."""
        return bool(self._frames) and self._frames[-1].at - self._since >= WINDOW_S

    @property
    def frame_bytes(self) -> float:
        """The mean size of a frame."""
        return statistics.mean(frame.size for frame in self._frames)

    @property
    def interval_s(self) -> float:
        """The mean time between two frames of a full window."""
        return WINDOW_S / len(self._frames)

    @property
    def loss(self) -> float | None:
        """The share of the datagrams that were lost, of frames with a report; None without any."""
        told = [(frame.sent, frame.received) for frame in self._frames if frame.received is not None]
        sent = sum(of for of, _ in told)
        return 1 - sum(got for _, got in told) / sent if sent else None

    @property
    def partial(self) -> float | None:
        """The share of the answers that are partial; None without answers."""
        answers = [frame.partial for frame in self._frames if frame.answered]
        return statistics.mean(answers) if answers else None

    @property
    def complete(self) -> float:
        """The share of all frames whose answer is complete."""
        return statistics.mean(frame.answered and not frame.partial for frame in self._frames)

    @property
    def answered_fps(self) -> float:
        """How many frames a second are answered, in a full window."""
        return sum(frame.answered for frame in self._frames) / WINDOW_S

    @property
    def arrived_in_vain(self) -> float:
        """The share of all frames that have no answer, though enough of their datagrams have arrived."""
        return statistics.mean(not frame.answered and frame.is_enough for frame in self._frames)

    def values(self, of: Callable[[Seen], float | None]) -> list[float]:
        """Return what is known of the frames."""
        return [value for frame in self._frames if (value := of(frame)) is not None]

    def median(self, of: Callable[[Seen], float | None]) -> float | None:
        """Return the median of what is known; None if less than half of the frames know it."""
        values = self.values(of)
        return statistics.median(values) if 2 * len(values) >= len(self._frames) else None

    @property
    def growth(self) -> tuple[float, float] | None:
        """How much more of a frame's end is lost than of its start: the mean, and its standard error."""
        values = self.values(lambda frame: frame.growth)
        if len(values) < 2:
            return None
        return statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))
