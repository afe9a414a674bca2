"""What the edge's core tells its shell, and the bounds within which it works."""

from __future__ import annotations

from dataclasses import dataclass

from gradfec_common.heads import Answer
from gradfec_common.wire import Report, Result


@dataclass(frozen=True)
class EdgeLimits:
    """Every time and bound of the edge's core."""

    answer_timeout_s: float = 2.0  # a tensor without an answer is given up
    report_timeout_s: float = 1.0  # an answered tensor without a report is closed without its loss counts
    probe_after_s: float = 0.5  # silence, while something is expected, before asking the cloud for a sign of life
    lost_after_s: float = 1.5  # such silence before the link counts as lost
    keepalive_s: float = 5.0  # silence, while nothing is expected, before asking
    repeat_s: float = 0.25  # between hellos and questions at first; the interval then doubles
    repeat_max_s: float = 1.0
    hello_renew_s: float = 3.0  # an unanswered hello is replaced by a new one: a cloud answers each for a while only
    hello_after_s: float = 0.5  # a lost link, before the edge looks for a new session besides the old one
    bye_repeat_s: float = 0.1  # the goodbye is repeated until the cloud says its own
    bye_patience_s: float = 1.0
    tensors_in_flight: int = 256
    sketch_every_s: float = 1.0
    numbers_per_ack: int = 100  # of results and as many of reports: an ACK must fit a datagram


@dataclass(frozen=True)
class Connected:
    """The cloud is there, and takes tensors of some `forms`; `fresh` when the session is a new one."""

    session: int
    deadline_s: float
    fresh: bool
    forms: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class LinkLost:
    """The cloud is silent or has said that it leaves; the edge goes on looking for it."""

    leaving: bool


@dataclass(frozen=True)
class Refused:
    """The cloud does not take this edge; `detail` is a sentence for the user."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Answered:
    """The answer for a tensor has arrived, for the first time."""

    tensor: int
    result: Result
    answer: Answer  # what the network's head read in the result


@dataclass(frozen=True)
class Reported:
    """The report on a tensor has arrived, for the first time."""

    report: Report


@dataclass(frozen=True)
class Closed:
    """The edge awaits nothing more for a tensor, once for each; without `result` and `answer` if none came in time.

    `sent` counts its symbols that were sealed: not all, where the edge gave up before the rest.
    """

    tensor: int
    result: Result | None
    report: Report | None
    sent: int
    answer: Answer | None = None


Event = Connected | LinkLost | Refused | Answered | Reported | Closed
