"""Results and reports on their way to the edges, each repeated until it is acknowledged, or stale."""

from __future__ import annotations

from dataclasses import dataclass

from gradfec_common.session.effects import Bite, Effect, Say
from gradfec_common.session.events import CloudLimits
from gradfec_common.session.timers import NEVER, Timers
from gradfec_common.wire import Ack, MessageKind, Report, Result, message_body

Key = tuple[MessageKind, int]  # a message's kind, and its tensor


@dataclass
class Unacknowledged:
    """A result or report that its edge has not acknowledged yet."""

    body: bytes
    sent_at: float  # for the first time
    stale_at: float
    interval_s: float  # until it is repeated next
    times: int = 0  # that it was sent
    timer: int = NEVER  # repeats it


class Repeater:
    """Sends messages that must arrive."""

    def __init__(self, limits: CloudLimits) -> None:
        self._limits = limits
        self._messages: dict[int, dict[Key, Unacknowledged]] = {}  # by session; no empty ones
        self._timers: Timers[tuple[int, Key]] = Timers()

    def __len__(self) -> int:
        """Return how many messages are still being repeated."""
        return sum(map(len, self._messages.values()))

    @property
    def next_timer(self) -> float | None:
        """When the next message is repeated, or None."""
        return self._timers.next_at

    def send(self, session: int, message: Result | Report, now: float) -> list[Effect]:
        """Send a message until it is acknowledged; if a session has too many, its oldest is dropped."""
        effects: list[Effect] = []
        if len(self._messages.get(session, ())) >= self._limits.answers_per_session:
            self._forget(session, next(iter(self._messages[session])))  # the edge has given up on it by now
            effects.append(Bite("answers_per_session"))
        key = (message.kind, message.tensor)
        unacknowledged = Unacknowledged(
            message_body(message), now, now + self._limits.answer_stale_s, self._limits.answer_repeat_s
        )
        self._messages.setdefault(session, {})[key] = unacknowledged
        return [*effects, *self._repeat(session, key, now)]

    def handle_timer(self, now: float) -> list[Effect]:
        """Repeat the message that is due next."""
        return self._repeat(*self._timers.pop(), now)

    def acknowledge(self, session: int, ack: Ack, now: float) -> list[float]:
        """Stop repeating messages that the edge has; return the round trips of those that were sent once."""
        round_trips = []
        for kind, numbers in ((MessageKind.RESULT, ack.results), (MessageKind.REPORT, ack.reports)):
            for number in numbers:
                message = self._forget(session, (kind, number))
                if message is not None and message.times == 1:
                    round_trips.append(now - message.sent_at)
        return round_trips

    def end(self, session: int) -> None:
        """Stop repeating the messages of a session."""
        for key in list(self._messages.get(session, ())):
            self._forget(session, key)

    def _repeat(self, session: int, key: Key, now: float) -> list[Effect]:
        message = self._messages[session][key]
        if now >= message.stale_at:
            self._forget(session, key)
            return []
        message.times += 1
        message.timer = self._timers.add(now + message.interval_s, (session, key))
        message.interval_s = min(2 * message.interval_s, self._limits.answer_repeat_max_s)
        return [Say(session, message.body)]

    def _forget(self, session: int, key: Key) -> Unacknowledged | None:
        mine = self._messages.get(session, {})
        if (message := mine.pop(key, None)) is not None:
            self._timers.call_off(message.timer)
            if not mine:
                del self._messages[session]
        return message
