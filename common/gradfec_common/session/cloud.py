"""The cloud's protocol core: sessions of many edges, regrouping, deciding, answering until acknowledged.

What is cheap to see is looked at first, then whether a datagram is authentic, then whether it is new; only then is
anything kept of it, or said in return.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.errors import UsageError
from gradfec_common.keys import Entropy
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid
from gradfec_common.replay import Verdict
from gradfec_common.seal import UNSEALED, Opener, Sealer
from gradfec_common.session.answers import Answers
from gradfec_common.session.events import CloudLimits, Decided, Event, SessionEnded, SessionMoved, SessionOpened
from gradfec_common.session.greeter import Greeter, Keys
from gradfec_common.session.handshake import AuthenticHello, Established, HandshakeKey, answer_hello
from gradfec_common.session.outbox import Outbox
from gradfec_common.session.rates import Allowance
from gradfec_common.session.records import Session
from gradfec_common.session.sketches import Sketches
from gradfec_common.session.tensors import Tensors
from gradfec_common.session.timers import Timers
from gradfec_common.wire import Ack, Batch, Bye, Drop, Hello, Kind, Ping, Pong, Refuse, Result, SketchPart, Welcome
from gradfec_common.wire.symbol import FIXED_BYTES, read_headers

Rows = npt.NDArray[np.intp]
MIN_SYMBOL_BYTES = wire.SEAL_BYTES + FIXED_BYTES  # of a datagram; one that carries symbols is longer


class CloudSessions:
    """The cloud's end of the protocol, for all its edges."""

    def __init__(
        self,
        cut: Cut,
        deadline_s: float,
        keys: Keys,
        entropy: Entropy,
        limits: CloudLimits | None = None,
        *,
        sketches: bool = False,
    ) -> None:
        """Serve tensors of `cut`, each decided at the latest `deadline_s` after its first datagram.

        Edges come in with one of `keys`; `entropy` gives random bytes; `sketches` asks edges for some.
        """
        self.limits = limits or CloudLimits()
        self.cut = cut
        self.deadline_s = deadline_s
        self.counts: Counter[str] = Counter()  # datagrams received, by fate: each adds one to exactly one
        self.bites: Counter[str] = Counter()  # how often each limit bit, by its name in CloudLimits
        self._entropy = entropy
        self._greeter = Greeter(keys, self.limits, self.bites)
        self._sessions: dict[int, Session] = {}
        self._watching = False  # whether a timer looks for idle sessions
        self._timers = Timers()
        self._outbox = Outbox(self.bites)
        self._events: deque[Event] = deque()
        self._answers = Answers(self.limits, self._timers, self._outbox, self.bites)
        self._sketches = Sketches(self.limits, sketches, self._events, self.bites)
        self._tensors = Tensors(
            self.limits, deadline_s, self._sessions, self._timers, self._answers, self._events, self.bites
        )

    # --- the five verbs ---

    def receive(self, batch: Batch, now: float) -> None:
        """Take in datagrams of any bytes from anyone."""
        found = wire.sort_batch(batch)
        for reason, rows in found.drops.items():
            self.counts[reason.value] += len(rows)
        if len(found.welcomes):
            self.counts[Drop.UNEXPECTED.value] += len(found.welcomes)
        for mine in alike(found.headers["session"]):
            self._take_sealed(batch, found.sealed[mine], found.headers[mine], now)
        for row in found.hellos.tolist():  # last: an edge that asks for a new session besides will rather keep its own
            self.counts[self._take_hello(batch.datagram(row).tobytes(), batch.peer(row), now)] += 1

    def datagrams_to_send(self) -> list[tuple[bytes, Hashable]]:
        """Return the datagrams that are due, each with its destination."""
        return self._outbox.take()

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is next due, or None."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Do what is due: decide and close tensors, repeat answers, end idle sessions."""
        self._timers.run(now)

    def next_event(self) -> Event | None:
        """Return the next event, or None."""
        return self._events.popleft() if self._events else None

    # --- what the shell asks for ---

    def answer(
        self,
        decided: Decided,
        top5: list[list[Any]],
        recovered: int,
        missing: int,
        stages_ms: dict[str, float],
        now: float,
    ) -> None:
        """Hand back the answer for a decided tensor: `top5` of [class index, label, score]."""
        outcome = "complete" if decided.complete else "partial"
        self._tensors.answer(decided, Result(decided.tensor, outcome, top5, recovered, missing, stages_ms), now)

    def fail(self, decided: Decided) -> None:
        """Take note that a decided tensor will have no answer: decoding or inference failed."""
        self._tensors.fail(decided)

    @property
    def tensors(self) -> Counter[str]:
        """Tensors by fate: opened = the sum of the others + those still open."""
        return self._tensors.fates

    @property
    def leaving(self) -> bool:
        """Whether no session and no tensor is taken any more."""
        return self._tensors.leaving

    @property
    def open_sessions(self) -> int:
        """Sessions that an edge uses."""
        return sum(session.confirmed for session in self._sessions.values())

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
        return sum(len(session.answers) for session in self._sessions.values())

    def leave(self) -> None:
        """Take no new session and no new tensor from now on, tell the edges so, and finish the tensors at hand."""
        self._tensors.leaving = True
        for session in self._sessions.values():
            if session.confirmed:  # else it may be a replayed hello's, and gets no word
                self._outbox.say(session, Bye())

    def say_goodbye(self) -> None:
        """Tell every edge that its session is over."""
        for session in list(self._sessions.values()):
            if session.confirmed:
                self._outbox.say(session, Bye())
            self._end(session, "leaving")

    def change_keys(self, keys: Keys) -> None:
        """Let in who has one of `keys` from now on; the sessions of other keys end."""
        self._greeter.keys = keys
        for session in [session for session in self._sessions.values() if session.key.id not in keys]:
            if session.confirmed:
                self._outbox.say(session, Bye())
            self._end(session, "key removed")

    # --- sessions ---

    def _take_hello(self, datagram: bytes, peer: Hashable, now: float) -> str:
        """Answer a hello and return its fate."""
        hello = self._greeter.read(datagram, peer, now)
        if isinstance(hello, Drop):
            return hello.value
        if not isinstance(hello, AuthenticHello):
            self._outbox.welcome(hello, peer)
            return "hello"
        wanted = wire.read_message(hello.body)
        if not isinstance(wanted, Hello):
            return Drop.BAD_MESSAGE.value
        refusal, grid = self._why_not(wanted, hello)
        number = 0 if grid is None else self._new_number()
        said = refusal if grid is None else Welcome(round(self.deadline_s * 1000), self._sketches.wanted)
        answer = answer_hello(hello, number, wire.message_body(said), self._entropy)
        if answer is None:
            return Drop.FORGED.value
        welcome, established = answer
        self._greeter.answered(hello, peer, welcome, now)
        self._outbox.welcome(welcome, peer)
        if grid is not None:
            spare = len(datagram) - len(welcome)
            self._open(hello, wanted, established, grid, peer, spare, now)
        return "hello"

    def _why_not(self, wanted: Hello, hello: AuthenticHello) -> tuple[Refuse, PacketGrid | None]:
        """Return the packets of the edge's tensors, or None with the refusal that says why it may not come in."""
        if self.leaving:
            return Refuse("leaving", "the cloud is shutting down"), None
        if wanted.split != self.cut.id:
            detail = f"this cloud continues from {self.cut.name}: use --split {self.cut.name} on the edge"
            return Refuse("split", detail), None
        if wanted.cipher not in {*Cipher}:
            return Refuse("cipher", f"this cloud has no cipher {wanted.cipher}: update it"), None
        try:
            grid = PacketGrid(self.cut.shape, wanted.rows)
        except UsageError as error:
            return Refuse("rows", str(error)[: wire.MAX_TEXT_BYTES // 2]), None
        edges = [session for session in self._sessions.values() if session.confirmed]
        if len(edges) >= self.limits.sessions:
            self.bites["sessions"] += 1
            return Refuse("full", f"the cloud serves {self.limits.sessions} edges already"), None
        of_key = sum(session.key.id == hello.key.id for session in edges)
        if of_key >= self.limits.sessions_per_key:
            self.bites["sessions_per_key"] += 1
            return Refuse("full", f"the cloud serves {of_key} edges with this key already"), None
        return Refuse("", ""), grid

    def _new_number(self) -> int:
        number = 0
        while number == 0 or number in self._sessions:
            number = int.from_bytes(self._entropy(4), "big")
        return number

    def _open(
        self,
        hello: AuthenticHello,
        wanted: Hello,
        established: Established,
        grid: PacketGrid,
        peer: Hashable,
        credit: int,
        now: float,
    ) -> None:
        """Keep a session until its edge uses it, or does not."""
        self._make_room(hello.key)
        cipher, limits = Cipher(wanted.cipher), self.limits
        self._sessions[established.session] = Session(
            id=established.session,
            key=hello.key,
            hello=hello.public,
            edge=hello.key.label or wanted.name,
            grid=grid,
            sealer=Sealer(established.cloud_to_edge, cipher, established.session),
            opener=Opener(established.edge_to_cloud, cipher),
            allowance=Allowance(limits.tensors_per_s * grid.count, limits.tensors_per_session * grid.count, now),
            peer=peer,
            heard_at=now,
            credit=credit,
        )
        self._look_for_idle(now)

    def _make_room(self, key: HandshakeKey) -> None:
        """End the oldest session that nobody uses yet, if need be: a flood of replayed hellos keeps no edge out."""
        others = [*self._sessions.values()]
        of_key = [session for session in others if session.key.id == key.id]
        for sessions, most in ((of_key, self.limits.sessions_per_key), (others, self.limits.sessions)):
            if len(sessions) >= most:
                self._end(next(session for session in sessions if not session.confirmed), "unused")
                return

    def _look_for_idle(self, now: float) -> None:
        """End the sessions that have been silent for too long; come back when the next one may have been."""
        if self._watching:  # one timer for all: a storm of hellos must not pile them up
            return
        self._watching = True
        self._timers.at(now + self.limits.greeting_s, self._end_idle)

    def _end_idle(self, now: float) -> None:
        for session in list(self._sessions.values()):
            patience_s = self.limits.session_idle_s if session.confirmed else self.limits.greeting_s
            if session.heard_at + patience_s <= now:
                self._end(session, "idle")
        self._watching = False
        if self._sessions:
            self._look_for_idle(now)

    def _end(self, session: Session, reason: str) -> None:
        self._tensors.abandon(session)
        del self._sessions[session.id]
        self._answers.forget_all(session)
        if session.confirmed:
            self._events.append(SessionEnded(session.id, session.edge, reason))

    # --- sealed datagrams ---

    def _take_sealed(self, batch: Batch, rows: Rows, headers: npt.NDArray[Any], now: float) -> None:
        """Open what is in (m,) `rows` of a batch, all with the number of one session, and take it in."""
        session = self._sessions.get(int(headers["session"][0]))
        if session is None:
            self.counts[Drop.UNKNOWN_SESSION.value] += len(rows)
            return
        if not session.allowance.has_any(now):
            self.counts[Drop.RATE_LIMIT.value] += len(rows)
            self.bites["tensors_per_s"] += 1
            return
        is_symbol = headers["kind"] == Kind.SYMBOL
        if is_symbol.all():
            self._open_symbols(session, batch, rows, headers["counter"], now)
            return
        self._open_symbols(session, batch, rows[is_symbol], headers["counter"][is_symbol], now)
        for row in rows[~is_symbol].tolist():
            if session.id in self._sessions:
                self._open_message(session, batch, row, now)
            else:  # one before it has said goodbye
                self.counts[Drop.UNKNOWN_SESSION.value] += 1

    def _open_symbols(self, session: Session, batch: Batch, rows: Rows, counters: npt.NDArray[Any], now: float) -> None:
        """Open symbols by their lengths: those of a tensor are all alike, so mostly it is one."""
        fits = batch.lengths[rows] > MIN_SYMBOL_BYTES
        if not fits.all():
            self.counts[Drop.BAD_LENGTH.value] += int((~fits).sum())
            rows, counters = rows[fits], counters[fits]
        for mine in alike(batch.lengths[rows]):
            self._open_alike(session, batch, rows[mine], counters[mine], now)

    def _open_alike(self, session: Session, batch: Batch, rows: Rows, counters: npt.NDArray[Any], now: float) -> None:
        """Open what is in (m,) `rows` of a batch, all of one length, and take it in."""
        length = int(batch.lengths[rows[0]])
        whole = batch.buffer if len(rows) == len(batch.buffer) else batch.buffer[rows]
        bodies, verdicts = session.opener.open(whole[:, :length])
        good = verdicts == Verdict.OK
        if not good.all():
            for verdict, reason in UNSEALED.items():
                self.counts[reason.value] += int((verdicts == verdict).sum())
            rows, counters, bodies = rows[good], counters[good], bodies[good]
        if not len(rows):
            return
        self._hear(session, batch, rows, counters, now)
        for mine in alike(read_headers(bodies)["tensor"]):
            self.counts.update(self._tensors.take(session, bodies[mine], now))

    def _open_message(self, session: Session, batch: Batch, row: int, now: float) -> None:
        datagram = batch.datagram(row).tobytes()
        body = session.opener.open_one(datagram)
        if isinstance(body, Verdict):
            self.counts[UNSEALED[body].value] += 1
            return
        counter = int.from_bytes(datagram[8:16], "big")
        self._hear(session, batch, np.array([row]), np.array([counter]), now)
        self.counts[self._take_message(session, wire.read_message(body))] += 1

    def _hear(self, session: Session, batch: Batch, rows: Rows, counters: npt.NDArray[Any], now: float) -> None:
        """Take note that (m,) `rows` of a batch are authentic and new: where their edge is, and that it is there."""
        session.heard_at = now
        session.allowance.take(len(rows))  # only what is authentic counts: nobody else can use it up
        latest = int(counters.argmax())
        peer = batch.peer(int(rows[latest]))
        if peer != session.peer and int(counters[latest]) == session.opener.newest:
            session.peer, session.credit = peer, 0  # whoever repeats what is older moves nobody
            if session.confirmed:
                self._events.append(SessionMoved(session.id, session.edge, peer))
        if session.peer in batch.peers:
            from_there = batch.senders[rows] == batch.peers.index(session.peer)
            session.credit += int(batch.lengths[rows][from_there].sum())
        if not session.confirmed:
            session.confirmed = True
            self._greeter.settled(session.hello)
            self._events.append(SessionOpened(session.id, session.edge, session.peer))

    def _take_message(self, session: Session, message: wire.Message | Drop) -> str:
        """Do what an edge's control message asks for, and return its fate."""
        match message:
            case Drop():
                return message.value
            case Ping():
                self._outbox.say(session, Bye() if self.leaving else Pong())  # `leave`'s goodbye may have been lost
                return "ping"
            case Ack():
                self._answers.acknowledge(session, message)
                self._tensors.give_up(session, message.results)
                return "ack"
            case SketchPart():
                return self._sketches.take(session, message)
            case Bye():
                self._outbox.say(session, Bye())
                self._end(session, "bye")
                return "bye"
        return Drop.UNEXPECTED.value


def alike(keys: npt.NDArray[Any]) -> Iterator[Rows | slice]:
    """Yield, for each distinct one of (m,) keys, where it is; all at once, as a slice, where they are all the same."""
    if not len(keys):
        return
    if (keys == keys[0]).all():  # mostly; copies of headers are what a batch would spend most of its time on
        yield slice(None)
        return
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    yield from np.split(order, 1 + np.flatnonzero(ranked[1:] != ranked[:-1]))
