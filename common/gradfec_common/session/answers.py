"""Results and reports on their way to the edges, each repeated until it is acknowledged, or stale."""

from __future__ import annotations

from collections import Counter

from gradfec_common.session.events import CloudLimits
from gradfec_common.session.outbox import Outbox
from gradfec_common.session.records import Answer, Session
from gradfec_common.session.timers import Timers
from gradfec_common.wire import Ack, MessageKind, Report, Result, message_body

Key = tuple[MessageKind, int]  # of an answer: what it is, and of which tensor


class Answers:
    """Sends what must arrive; what is not acknowledged yet is kept with its session."""

    def __init__(self, limits: CloudLimits, timers: Timers, outbox: Outbox, bites: Counter[str]) -> None:
        """Say things through `outbox`; count in `bites` how often the limit bites."""
        self._limits, self._timers, self._outbox, self._bites = limits, timers, outbox, bites

    def send(self, session: Session, message: Result | Report, now: float) -> None:
        """Send a message until it is acknowledged, or stale; the oldest gives way where there are too many."""
        key = (message.kind, message.tensor)
        if len(session.answers) >= self._limits.answers_per_session:
            self._forget(session, next(iter(session.answers)))  # the oldest: the edge has given up on it by now
            self._bites["answers_per_session"] += 1
        session.answers[key] = Answer(message_body(message))
        self._repeat(session, key, now, self._limits.answer_repeat_s, now + self._limits.answer_stale_s)

    def _repeat(self, session: Session, key: Key, now: float, interval: float, stale_at: float) -> None:
        if now >= stale_at:
            del session.answers[key]
            return
        answer = session.answers[key]
        self._outbox.say(session, answer.body)
        longer = min(2 * interval, self._limits.answer_repeat_max_s)
        again = now + interval
        answer.timer = self._timers.at(again, lambda later: self._repeat(session, key, later, longer, stale_at))

    def acknowledge(self, session: Session, ack: Ack) -> None:
        """Repeat no more what the edge has."""
        for kind, numbers in ((MessageKind.RESULT, ack.results), (MessageKind.REPORT, ack.reports)):
            for number in numbers:
                self._forget(session, (kind, number))

    def forget_all(self, session: Session) -> None:
        """Repeat nothing more: the session is over."""
        for key in list(session.answers):
            self._forget(session, key)

    def _forget(self, session: Session, key: Key) -> None:
        if (answer := session.answers.pop(key, None)) is not None:
            self._timers.call_off(answer.timer)
