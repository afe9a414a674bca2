"""What became of each frame: one record a frame, in the results file and in the totals."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from gradfec_common.heads import Answer, Head
from gradfec_common.protect import Plan
from gradfec_common.session.edge import Answered, Closed
from gradfec_common.wire import Report, Result
from gradfec_edge.frames import Frame
from gradfec_edge.losses import Weights
from gradfec_host.results import ResultsFile

Record = dict[str, object]


@dataclass
class Story:
    """A frame on its way, and in the end what became of it."""

    frame: Frame
    answer: Answer  # the head's `no_answer` if there is none
    tensor: int | None = None  # this and the following are unset if it was never sent
    plan: Plan | None = None
    weights: Weights | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    latency_ms: float = 0.0  # if there is a result
    result: Result | None = None
    report: Report | None = None
    sent: int = 0  # datagrams

    @property
    def outcome(self) -> str:
        """What the record calls it."""
        return self.result.outcome if self.result else "timeout"

    @property
    def packets(self) -> dict[str, int | None]:
        """The record's counts of packets; what is not known is None."""
        plan, result = self.plan, self.result
        return {
            "total": plan.total if plan else 0,
            "dropped_by_plan": len(plan.dropped) if plan else 0,
            "recovered": result.recovered if result else None,
            "missing": result.missing if result else None,
        }

    @property
    def datagrams(self) -> dict[str, int | None]:
        """The record's counts of datagrams; what is not known is None."""
        report = self.report
        return {
            "sent": self.sent,
            "parity": self.plan.parity if self.plan else 0,
            "received": report.received if report else None,
            "lost": self.sent - report.received if report else None,
        }

    @property
    def importance(self) -> dict[str, float]:
        """The share of the importance that had each fate, 1 in all; empty if nothing was sent, or weighed."""
        return self.weights.fates(self.result, self.report) if self.weights else {}

    @property
    def all_stages_ms(self) -> dict[str, float]:
        """Milliseconds spent in each stage, the cloud's among them."""
        return self.stages_ms | (self.result.stages_ms if self.result else {})

    def record(self) -> Record:
        """Return the frame's line in the results file: its answer, its packets, its times."""
        return {
            "frame": self.frame.number,
            "source": self.frame.source,
            "tensor": self.tensor,
            "outcome": self.outcome,
            **self.answer.record(),
            "packets": self.packets,
            "datagrams": self.datagrams,
            "latency_ms": round(self.latency_ms, 3) if self.result else None,
            "stages_ms": self.all_stages_ms,
        }


class Journal:
    """Keeps the frames in flight and writes each one's record once its story is over."""

    def __init__(
        self,
        results: ResultsFile | None,
        head: Head,
        on_story: Callable[[Story], None],
        remarks: Record | None = None,
    ) -> None:
        """Write to `results`, if any, and tell each story to `on_story`; `remarks` are in all records."""
        self._remarks = remarks or {}
        self.outcomes: Counter[str] = Counter()
        self.packets: Counter[str] = Counter()
        self.datagrams: Counter[str] = Counter()
        self._results = results
        self._head, self._on_story = head, on_story
        self._sent: dict[int, Story] = {}

    def sent(
        self, tensor: int, frame: Frame, plan: Plan, stages_ms: dict[str, float], weights: Weights | None = None
    ) -> None:
        """Note that a frame is being sent as `tensor`; with its `weights`, its losses are weighed."""
        self._sent[tensor] = Story(frame, self._head.no_answer, tensor, plan, weights, stages_ms)

    def answered(self, event: Answered) -> None:
        """Note when the answer came."""
        story = self._sent[event.tensor]
        story.latency_ms = 1000 * (time.monotonic() - story.frame.captured_at)

    def closed(self, event: Closed) -> Story:
        """Write the record of a frame that was sent, and return its story."""
        story = self._sent.pop(event.tensor)
        story.result, story.report, story.sent = event.result, event.report, event.sent
        story.answer = event.answer or story.answer
        return self._write(story)

    def unsent(self, frame: Frame) -> Story:
        """Write the record of a frame that was never sent, because the cloud was away, and return its story."""
        return self._write(Story(frame, self._head.no_answer))

    def _write(self, story: Story) -> Story:
        if self._results:
            self._results.write(story.record() | self._remarks)
        self.outcomes[story.outcome] += 1
        self.packets.update({name: count or 0 for name, count in story.packets.items()})
        self.datagrams.update({name: count or 0 for name, count in story.datagrams.items()})
        self._on_story(story)
        return story
