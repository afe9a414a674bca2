"""A frame's story: what it was sent as, what was heard of it, and the record that is made of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gradfec_common.heads import WHOLE, Answer, Place
from gradfec_common.heads.head import DIGITS
from gradfec_common.protect import Plan
from gradfec_common.wire import Report, Result
from gradfec_edge.adaptation import in_words
from gradfec_edge.frames import Frame
from gradfec_edge.losses import ImportanceShares

Record = dict[str, object]
FALLBACK = "fallback"  # the outcome of a frame that the edge answered itself
MS_DIGITS = 3
LOOKS = ("changed", "confirmed", "unanswered")  # the first answer, by the second look


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
    """A frame on its way, and in the end what became of it.

    A frame of which the cloud was unsure is sent again, as the picture: its second look has a story of its own, whose
    `first` is the first one's. In the end the story of the look whose answer stands has the `other` one.
    """

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
    first: Story | None = None
    other: Story | None = None
    is_over: bool = False  # whether nothing more will be heard of it

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
    def tensor(self) -> int | None:
        """The number of the tensor that it was sent as."""
        return self.as_sent.tensor if self.as_sent else None

    @property
    def looks(self) -> list[Story]:
        """The stories of the frame's looks, one or two, in their order."""
        if self.other is None:
            return [self]
        return [self.first, self] if self.first else [self, self.other]

    @property
    def second_look(self) -> str:
        """What became of the second look, one of LOOKS; "" if there was none."""
        if self.other is None:
            return ""
        if self.first is None:  # the first answer stands
            return "unanswered"
        return "confirmed" if self.answer.agreement(self.first.answer) == 1 else "changed"

    @property
    def asked(self) -> int:
        """Datagrams that were sent because the cloud asked for them, in all looks."""
        return sum(max(one.sent - one.plan.unasked, 0) for one in self.looks if one.plan)

    @property
    def datagrams(self) -> dict[str, int | None]:
        """The totals' counts of datagrams, in all looks; what is not known is None."""
        counts = [one._datagrams for one in self.looks]
        known = {name: [one[name] for one in counts] for name in counts[0]}
        return {name: None if None in of else sum(filter(None, of)) for name, of in known.items()}

    @property
    def _datagrams(self) -> dict[str, int | None]:
        """The counts of this look alone.

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
        """Bytes of UDP payload that were sent in all looks, parity, headers and seals included."""
        return sum(one._bytes for one in self.looks)

    @property
    def _bytes(self) -> int:
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
        looked = f"; a second look, after {self.first.answer.summary()}" if self.first else ""
        return in_words(dict(sent.why), sent.plan) + (f", as {sent.codec}" if sent.codec else "") + looked

    @property
    def all_stages_ms(self) -> dict[str, float]:
        """Milliseconds spent in each stage, the cloud's among them."""
        return self.stages_ms | (self.result.stages_ms if self.result else {})

    def record(self) -> Record:
        """Return the frame's line in the results file, without the time of day: its answer, its packets, its times.

        The cloud's record of the same tensor has the same `session` and `tensor`. If there were two looks, `datagrams`
        and `bytes` are those of both.
        """
        return {
            "frame": self.frame.number,
            "source": self.frame.source,
            "session": self.as_sent.session if self.as_sent else None,
            "tensor": self.tensor,
            "outcome": self.outcome,
            **({"fallback": self.fallback} if self.fallback else {}),
            **self.answer.record(),
            "packets": self.packets,
            "datagrams": {**self.datagrams, "asked": self.asked},
            "split": self.as_sent.split if self.as_sent else None,
            "codec": self.as_sent.codec if self.as_sent else None,
            "bytes": self.bytes,
            **({"link": dict(self.as_sent.why)} if self.as_sent and self.as_sent.why else {}),
            "latency_ms": self._rounded_latency_ms,
            **({"looks": [one._look() for one in self.looks]} if self.other else {}),
            "stages_ms": self.all_stages_ms,
        }

    @property
    def _rounded_latency_ms(self) -> float | None:
        return round(self.latency_ms, MS_DIGITS) if self.answered else None

    def _look(self) -> dict[str, Any]:
        """Return what a record says of one of two looks; nothing of the answer to a picture that is not whole."""
        lines = self.answer.lines() if self.first is None or self.outcome == "complete" else []
        label, score = next(iter(lines), (None, None))
        return {
            "tensor": self.tensor,
            "outcome": self.outcome,
            "label": label,
            "score": score if score is None else round(score, DIGITS),
            "codec": self.as_sent.codec if self.as_sent else None,
            "bytes": self._bytes,
            "latency_ms": self._rounded_latency_ms,
        }
