"""What became of each frame: one record a frame, in the results file and in the totals."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gradfec_common.heads import WHOLE, Answer, Head, Place
from gradfec_common.protect import Plan
from gradfec_common.session.edge import Answered, Closed
from gradfec_common.wire import Report, Result
from gradfec_edge.adaptation import in_words
from gradfec_edge.frames import Frame
from gradfec_edge.losses import ImportanceShares
from gradfec_host.results import ResultsFile
from gradfec_host.wall_clock import UnixTime, rfc3339, unix_time

Record = dict[str, object]
FALLBACK = "fallback"  # the outcome of a frame that the edge answered itself
OnAnswer = Callable[[Frame, Answer | None], object]


class Sent(NamedTuple):
    """What a frame was sent as: a tensor of a session, with its plan, and the bytes of UDP payload of a datagram.

    With its `importance`, its losses are weighed. `why` says by name what the plan was made for. `codec` made its
    packets, of what crosses the `split`. The network sees the `part` of the frame.
    """

    session: int
    tensor: int
    plan: Plan
    datagram_bytes: int
    importance: ImportanceShares | None = None
    why: Mapping[str, float] = {}
    codec: str = ""
    split: str = ""
    part: Place = WHOLE


@dataclass
class Story:
    """A frame on its way, and in the end what became of it."""

    frame: Frame
    answer: Answer  # with places in the frame; the head's `no_answer` if there is none
    as_sent: Sent | None = None  # this and the following are unset if it was never sent
    stages_ms: dict[str, float] = field(default_factory=dict)
    latency_ms: float = 0.0  # if there is an answer
    result: Result | None = None
    report: Report | None = None
    sent: int = 0  # datagrams
    ended_at: float = 0.0  # by time.monotonic(): when the answer came, or was given up
    fallback: str = ""  # the model that answered in the cloud's place, if one did

    @property
    def outcome(self) -> str:
        """What the record calls it."""
        if self.fallback:
            return FALLBACK
        return self.result.outcome if self.result else "timeout"

    @property
    def answered(self) -> bool:
        """Whether there is an answer, from the cloud or the fallback."""
        return self.result is not None or bool(self.fallback)

    @property
    def plan(self) -> Plan | None:
        """The plan, if it was sent."""
        return self.as_sent.plan if self.as_sent else None

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
    def asked(self) -> int:
        """Datagrams that were sent because the cloud asked for them."""
        return max(self.sent - self.plan.unasked, 0) if self.plan else 0

    @property
    def datagrams(self) -> dict[str, int | None]:
        """The totals' counts of datagrams; what is not known is None.

        Of those that were asked for, some may come after the report. Nobody counts these, so they are not called lost.
        """
        due = min(self.report.sent, self.sent) if self.report else None  # the cloud may lie
        received = min(self.report.received, due) if self.report and due is not None else None
        return {
            "sent": self.sent,
            "parity": self.plan.parity if self.plan else 0,
            "received": received,
            "lost": None if due is None or received is None else due - received,
        }

    @property
    def bytes(self) -> int:
        """Bytes of UDP payload that were sent, parity, headers and seals included."""
        return self.sent * self.as_sent.datagram_bytes if self.as_sent else 0

    @property
    def importance(self) -> dict[str, float]:
        """The share of the importance that had each fate, 1 in all; empty if nothing was sent, or weighed."""
        importance = self.as_sent.importance if self.as_sent else None
        return importance.fates(self.result, self.report) if importance else {}

    @property
    def why(self) -> str:
        """Why it was planned as it was, in words; empty if its policy does not follow the link."""
        sent = self.as_sent
        if sent is None or not sent.why:
            return ""
        return in_words(dict(sent.why), sent.plan) + (f", as {sent.codec}" if sent.codec else "")

    @property
    def all_stages_ms(self) -> dict[str, float]:
        """Milliseconds spent in each stage, the cloud's among them."""
        return self.stages_ms | (self.result.stages_ms if self.result else {})

    def record(self) -> Record:
        """Return the frame's line in the results file, without the time of day: its answer, its packets, its times.

        The cloud's record of the same tensor has the same `session` and `tensor`.
        """
        return {
            "frame": self.frame.number,
            "source": self.frame.source,
            "session": self.as_sent.session if self.as_sent else None,
            "tensor": self.as_sent.tensor if self.as_sent else None,
            "outcome": self.outcome,
            **({"fallback": self.fallback} if self.fallback else {}),
            **self.answer.record(),
            "packets": self.packets,
            "datagrams": {**self.datagrams, "asked": self.asked},
            "split": self.as_sent.split if self.as_sent else None,
            "codec": self.as_sent.codec if self.as_sent else None,
            "bytes": self.bytes,
            **({"link": dict(self.as_sent.why)} if self.as_sent and self.as_sent.why else {}),
            "latency_ms": round(self.latency_ms, 3) if self.answered else None,
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
        clock: UnixTime = unix_time,
        on_answer: OnAnswer | None = None,
    ) -> None:
        """Write to `results`, if any, and tell each story to `on_story`; `remarks` are in all records.

        `clock` turns time.monotonic() into the time of day. `on_answer` gets each frame's answer as soon as it is
        there, before its story is over; or None, once it is clear that there will be none.
        """
        self._remarks, self._clock = remarks or {}, clock
        self.outcomes: Counter[str] = Counter()
        self.packets: Counter[str] = Counter()
        self.datagrams: Counter[str] = Counter()
        self._results = results
        self._head, self._on_story = head, on_story
        self._on_answer = on_answer or (lambda *_: None)
        self._sent: dict[int, Story] = {}

    @property
    def has_results(self) -> bool:
        """Whether there is a results file."""
        return self._results is not None

    def sent(self, frame: Frame, sent: Sent, stages_ms: dict[str, float]) -> None:
        """Note that a frame is being sent."""
        self._sent[sent.tensor] = Story(frame, self._head.no_answer, sent, stages_ms)

    def answered(self, event: Answered) -> None:
        """Note the answer, and when it came."""
        story = self._sent[event.tensor]
        story.ended_at = time.monotonic()
        story.latency_ms = 1000 * (story.ended_at - story.frame.captured_at)
        story.answer = event.answer.placed(story.as_sent.part if story.as_sent else WHOLE)
        self._on_answer(story.frame, story.answer)

    def closed(self, event: Closed) -> Story:
        """Write the record of a frame that was sent, and return its story."""
        story = self._sent.pop(event.tensor)
        story.result, story.report, story.sent = event.result, event.report, event.sent
        return self._write(story)

    def unsent(self, frame: Frame) -> Story:
        """Write the record of a frame that was never sent, because the cloud was away, and return its story."""
        return self._write(Story(frame, self._head.no_answer))

    def fell_back(self, frame: Frame, answer: Answer, model: str, stages_ms: dict[str, float]) -> Story:
        """Write the record of a frame that a model on the edge answered, and return its story."""
        now = time.monotonic()
        self._on_answer(frame, answer)
        latency_ms = 1000 * (now - frame.captured_at)
        return self._write(
            Story(frame, answer, stages_ms=stages_ms, latency_ms=latency_ms, ended_at=now, fallback=model)
        )

    def _write(self, story: Story) -> Story:
        if not story.ended_at:  # no answer came
            story.ended_at = time.monotonic()
            self._on_answer(story.frame, None)
        if self._results:
            when = {"time": rfc3339(self._clock(story.ended_at))}
            self._results.write(when | story.record() | self._remarks)
        self.outcomes[story.outcome] += 1
        self.packets.update({name: count or 0 for name, count in story.packets.items()})
        self.datagrams.update({name: count or 0 for name, count in story.datagrams.items()})
        self._on_story(story)
        return story
