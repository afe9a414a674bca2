"""The cloud's protocol core: sessions of many edges, regrouping, deciding, answering until acknowledged.

Its parts each own their state: who may come in (`Reception`), the sessions, their tensors, the messages that are not
acknowledged yet, the sketches, and what is to be sent. A part returns what it asks for as effects, and `CloudSessions`
carries them out: it alone counts datagrams and limits, and tells the shell.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common import wire
from gradfec_common.heads import Answer
from gradfec_common.keys import Entropy
from gradfec_common.networks import Cut
from gradfec_common.replay import Verdict
from gradfec_common.seal import UNSEALED
from gradfec_common.session.effects import Bite, Deliver, Effect, Say
from gradfec_common.session.events import CloudLimits, Decided, Event, SessionEnded, SessionOpened
from gradfec_common.session.greeter import Keys
from gradfec_common.session.offer import Offer
from gradfec_common.session.outbox import Outbox
from gradfec_common.session.reception import Reception
from gradfec_common.session.repeater import Repeater
from gradfec_common.session.sessions import Rows, Session, Sessions
from gradfec_common.session.sketches import Sketches
from gradfec_common.session.states import SessionEvent, SessionState
from gradfec_common.session.tensors import Tensors
from gradfec_common.session.unseal import alike, by_tensor, open_symbols
from gradfec_common.wire import Ack, Batch, Bye, Drop, Kind, Ping, Pong, Result, SketchPart, Welcome, message_body

PONG, BYE = message_body(Pong()), message_body(Bye())
GIVEN = 8  # datagrams that a session may send more, at most, for each that has arrived of an answered tensor


class CloudSessions:
    """The cloud's end of the protocol, for all its edges."""

    def __init__(
        self,
        cuts: Sequence[Cut],
        deadline_s: float,
        keys: Keys,
        entropy: Entropy,
        limits: CloudLimits | None = None,
        *,
        sketches: bool = False,
    ) -> None:
        """Serve tensors of `cuts`, each decided at the latest `deadline_s` after its first datagram.

        Edges come in with one of `keys`; `entropy` gives random bytes; `sketches` asks edges for some.
        """
        self.limits = limits or CloudLimits()
        self.deadline_s = deadline_s
        self.counts: Counter[str] = Counter()  # datagrams received, by fate: each adds one to exactly one
        self.bites: Counter[str] = Counter()  # how often each limit bit, by its name in CloudLimits
        self.leaving = False  # no new sessions or tensors
        welcome = Welcome(round(deadline_s * 1000), sketches)
        self._reception = Reception(keys, Offer(cuts), welcome, entropy, self.limits)
        self._sessions = Sessions(self.limits)
        self._tensors = Tensors(self.limits, deadline_s)
        self._repeater = Repeater(self.limits)
        self._sketches = Sketches(self.limits, wanted=sketches)
        self._outbox = Outbox()
        self._events: deque[Event] = deque()

    # --- the five verbs ---

    def receive(self, batch: Batch, now: float) -> None:
        """Take in untrusted datagrams from any sender."""
        found = wire.sort_batch(batch)
        self._count({reason.value: len(rows) for reason, rows in found.drops.items()})
        if len(found.welcomes):
            self._count({Drop.UNEXPECTED.value: len(found.welcomes)})
        for mine in alike(found.headers["session"]):
            self._receive_sealed(batch, found.sealed[mine], found.headers[mine], now)
        for (
            row
        ) in found.hellos.tolist():  # last, because an edge that also asks for a new session prefers to keep its own
            self.counts[self._receive_hello(batch.datagram(row).tobytes(), batch.peer(row), now)] += 1

    def datagrams_to_send(self) -> list[tuple[bytes, Hashable]]:
        """Return the datagrams that are due, each with its destination."""
        return self._outbox.drain()

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is next due, or None."""
        dues = (self._tensors.next_timer, self._repeater.next_timer, self._sessions.look_at)
        return min((due for due in dues if due is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do what is due, in order: decide and close tensors, repeat answers, end idle sessions."""
        while (due := self.next_timer()) is not None and due <= now:
            if due == self._tensors.next_timer:
                self._carry_out(self._tensors.handle_timer(now))
            elif due == self._repeater.next_timer:
                self._carry_out(self._repeater.handle_timer(now))
            else:
                for session in self._sessions.silent(now):
                    self._end(session, SessionEvent.SILENCE)

    def next_event(self) -> Event | None:
        """Return the next event, or None."""
        return self._events.popleft() if self._events else None

    # --- for the shell ---

    def answer(
        self,
        decided: Decided,
        answer: Answer,
        recovered: int,
        missing: int,
        stages_ms: dict[str, float],
        now: float,
    ) -> None:
        """Hand back the network's answer to a decided tensor."""
        outcome = "complete" if decided.complete else "partial"
        result = Result(decided.tensor, outcome, answer.packed(), recovered, missing, stages_ms)
        effects = self._tensors.answer(decided, result, answer, now)
        if effects:  # only answers that the edge still awaits raise its allowance
            sent, received = decided.arrived.sent, decided.arrived.received  # the first is only what the edge says
            self._sessions[decided.session].allowance.give(min(2 * sent, GIVEN * received))
        self._carry_out(effects)

    def fail(self, decided: Decided) -> None:
        """Note that a decided tensor will have no answer: decoding or inference failed."""
        self._tensors.fail(decided)

    @property
    def tensors(self) -> Counter[str]:
        """Tensors by fate: opened = the sum of the others + those still open."""
        return self._tensors.fates

    @property
    def open_sessions(self) -> int:
        """Sessions that an edge uses."""
        return len(self._sessions.open)

    @property
    def open_tensors(self) -> int:
        """Tensors that are not finished yet."""
        return self._tensors.open

    @property
    def held_bytes(self) -> int:
        """Bytes of symbols held for tensors that are being collected."""
        return self._tensors.held_bytes

    @property
    def unacknowledged(self) -> int:
        """Results and reports that are still being repeated."""
        return len(self._repeater)

    def leave(self) -> None:
        """Begin no session and no tensor from now on, tell the edges so, and finish the tensors at hand."""
        self.leaving = True
        for session in self._sessions.open:  # the others may come from replayed hellos, and get no message
            self._carry_out([Say(session.id, BYE)])

    def say_goodbye(self) -> None:
        """Tell every edge that its session is over."""
        for session in self._sessions:
            self._end(session, SessionEvent.CLOUD_LEAVES, tell=True)

    @property
    def keys(self) -> Keys:
        """The keys that admit edges."""
        return self._reception.keys

    def change_keys(self, keys: Keys) -> None:
        """From now on, admit only edges with one of `keys`; the sessions of other keys end."""
        self._reception.change_keys(keys)
        for session in self._sessions:
            if session.key.id not in keys:
                self._end(session, SessionEvent.KEY_REMOVED, tell=True)

    # --- sessions ---

    def _receive_hello(self, datagram: bytes, peer: Hashable, now: float) -> str:
        """Take in a hello, and return its fate."""
        received = self._reception.receive(datagram, peer, self._sessions, now, leaving=self.leaving)
        self._carry_out(received.bites)
        if received.answer is not None:
            self._outbox.welcome(received.answer, peer)
        if received.session is not None:
            if (displaced := self._sessions.in_the_way(received.session.key)) is not None:
                self._end(displaced, SessionEvent.DISPLACED)
            self._sessions.add(received.session, now)
        return received.fate

    def _end(self, session: Session, event: SessionEvent, *, tell: bool = False) -> None:
        """End a session, and forget everything about it."""
        if session.is_open:
            if tell:
                self._carry_out([Say(session.id, BYE)])
            self._carry_out(self._tensors.end(session.id))
            self._events.append(SessionEnded(session.id, session.edge, event.value))
        self._sketches.end(session.id)
        self._repeater.end(session.id)
        self._sessions.end(session, event)

    # --- sealed datagrams ---

    def _receive_sealed(self, batch: Batch, rows: Rows, headers: npt.NDArray[Any], now: float) -> None:
        """Take in the datagrams in (m,) `rows` of a batch, all with the number of one session."""
        session = self._sessions.get(int(headers["session"][0]))
        if session is None:
            self._count({Drop.UNKNOWN_SESSION.value: len(rows)})
            return
        if not session.allowance.has_any(now):
            self._count({Drop.RATE_LIMIT.value: len(rows)})
            self.bites["tensors_per_s"] += 1
            return
        is_symbol = headers["kind"] == Kind.SYMBOL
        if is_symbol.all():  # mostly
            self._receive_symbols(session, batch, rows, headers["counter"], now)
            return
        if is_symbol.any():
            self._receive_symbols(session, batch, rows[is_symbol], headers["counter"][is_symbol], now)
        for row in rows[~is_symbol].tolist():
            ended = session.state is SessionState.ENDED  # by a goodbye before this
            fate = Drop.UNKNOWN_SESSION.value if ended else self._receive_message(session, batch, row, now)
            self.counts[fate] += 1

    def _receive_symbols(
        self, session: Session, batch: Batch, rows: Rows, counters: npt.NDArray[Any], now: float
    ) -> None:
        tensors: list[tuple[int, wire.Bytes, npt.NDArray[np.float64]]] = []
        for opened in open_symbols(session, batch, rows, counters):
            self._count(opened.drops)
            if len(opened.rows):
                self._hear(session, batch, opened.rows, opened.counters, now)
                came_at = now - batch.waited_s[opened.rows]
                tensors += [(number, opened.bodies[mine], came_at[mine]) for number, mine in by_tensor(opened.bodies)]
        for number, bodies, came_at in sorted(tensors, key=itemgetter(0)):  # a newer one may close an older one
            fates, effects = self._tensors.collect(session.id, number, bodies, came_at, now, leaving=self.leaving)
            self._count(fates)
            self._carry_out(effects)

    def _receive_message(self, session: Session, batch: Batch, row: int, now: float) -> str:
        """Open a control message, do what it asks for, and return its fate."""
        datagram = batch.datagram(row).tobytes()
        body = session.opener.open_one(datagram)
        if isinstance(body, Verdict):
            return UNSEALED[body].value
        counter = int.from_bytes(datagram[8:16], "big")
        self._hear(session, batch, np.array([row]), np.array([counter]), now)
        message, effects = wire.read_message(body), list[Effect]()
        match message:
            case Drop():
                return message.value
            case Ping():  # while the cloud leaves: the goodbye of `leave` may have been lost
                fate, effects = "ping", [Say(session.id, BYE if self.leaving else PONG)]
            case Ack():
                for round_trip_s in self._repeater.acknowledge(session.id, message, now):
                    self._tensors.learn_round_trip(session.id, round_trip_s)
                fate, effects = "ack", self._tensors.give_up(session.id, message.results)
            case SketchPart():
                fate, effects = self._sketches.receive_part(session, message)
            case Bye():
                self._end(session, SessionEvent.GOODBYE, tell=True)
                fate = "bye"
            case _:
                fate = Drop.UNEXPECTED.value
        self._carry_out(effects)
        return fate

    def _hear(self, session: Session, batch: Batch, rows: Rows, counters: npt.NDArray[Any], now: float) -> None:
        """Note that (m,) `rows` of a batch are authentic and new."""
        greeted_at = session.heard_at
        news = session.hear(batch, rows, counters, now)
        if isinstance(news, SessionOpened):
            self._reception.settle(session)
            self._tensors.begin(session, now - greeted_at)
        if news is not None:
            self._events.append(news)

    # --- effects ---

    def _count(self, fates: Mapping[str, int]) -> None:
        for fate, count in fates.items():
            self.counts[fate] += count

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        """Do what a part of the core asks for, in order."""
        for effect in effects:
            match effect:
                case Bite(limit):
                    self.bites[limit] += 1
                case Say(number, body):
                    self._carry_out(self._outbox.say(self._sessions[number], body))
                case Deliver(number, message, now):
                    self._carry_out(self._repeater.send(number, message, now))
                case _:
                    self._events.append(effect)
