"""The cloud's protocol core: sessions of many edges, regrouping, deciding, answering until acknowledged."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common import wire
from gradfec_common.errors import UsageError
from gradfec_common.network import SplitPoint
from gradfec_common.packets import PacketGrid
from gradfec_common.reassembly import judge
from gradfec_common.session.answers import Answers
from gradfec_common.session.events import CloudLimits, Decided, Event, SessionEnded, SessionOpened
from gradfec_common.session.records import Session
from gradfec_common.session.tensors import Tensors
from gradfec_common.session.timers import Timers
from gradfec_common.transmit import packet_grid
from gradfec_common.wire import Ack, Batch, Bye, Drop, Hello, Kind, Refuse, Result, Welcome


class CloudSessions:
    """The cloud's end of the protocol, for all its edges."""

    def __init__(
        self, split: SplitPoint, deadline_s: float, rng: np.random.Generator, limits: CloudLimits | None = None
    ) -> None:
        """Serve tensors of `split`, each decided at the latest `deadline_s` after its first datagram."""
        self.limits = limits or CloudLimits()
        self.split = split
        self.deadline_s = deadline_s
        self.counts: Counter[str] = Counter()  # datagrams received, by fate: each adds one to exactly one
        self._rng = rng
        self._sessions: dict[int, Session] = {}
        self._by_peer: dict[Hashable, Session] = {}
        self._watching = False  # whether a timer looks for idle sessions
        self._timers = Timers()
        self._out: list[tuple[bytes, Hashable]] = []
        self._events: deque[Event] = deque()
        self._answers = Answers(self.limits, self._timers, self._out)
        self._tensors = Tensors(self.limits, deadline_s, self._sessions, self._timers, self._answers, self._events)

    # --- the five verbs ---

    def receive(self, batch: Batch, now: float) -> None:
        """Take in datagrams of any bytes from anyone."""
        opened = wire.open_batch(batch)
        for reason, rows in opened.drops.items():
            self.counts[reason.value] += len(rows)
            if reason is Drop.UNKNOWN_VERSION:
                for row in rows[batch.buffer[rows, 2] == Kind.HELLO]:
                    self._refuse_version(batch, int(row))
        for row in opened.control:
            fate = self._take_control(batch, int(row), now)
            self.counts[fate] += 1
        self._take_symbols(batch, opened, now)

    def datagrams_to_send(self) -> list[tuple[bytes, Hashable]]:
        """Return the datagrams that are due, each with its destination."""
        out = self._out.copy()
        self._out.clear()
        return out

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
        """Sessions that are open."""
        return len(self._sessions)

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
        self._out += [(wire.control_datagram(session.id, Bye()), session.peer) for session in self._sessions.values()]

    def say_goodbye(self) -> None:
        """Tell every edge that its session is over."""
        for session in list(self._sessions.values()):
            self._out.append((wire.control_datagram(session.id, Bye()), session.peer))
            self._end(session, "leaving")

    # --- control messages ---

    def _take_control(self, batch: Batch, row: int, now: float) -> str:
        control = wire.read_control(batch.datagram(row))
        if isinstance(control, Drop):
            return control.value
        session_id, message = control
        peer = batch.peer(row)
        if isinstance(message, Hello):
            self._welcome(message, peer, now)
            return "hello"
        session = self._sessions.get(session_id)
        if session is None:
            return Drop.UNKNOWN_SESSION.value
        if session.peer != peer:
            return Drop.FOREIGN_ADDRESS.value
        session.heard_at = now
        match message:
            case Ack():
                self._answers.acknowledge(session, message)
                return "ack"
            case Bye():
                self._out.append((wire.control_datagram(session.id, Bye()), peer))
                self._end(session, "bye")
                return "bye"
        return Drop.UNEXPECTED.value

    def _welcome(self, hello: Hello, peer: Hashable, now: float) -> None:
        session = self._by_peer.get(peer)
        if session is None or session.nonce != hello.nonce or self.leaving:
            refusal, grid = self._why_not(hello, replacing=session is not None)
            if grid is None:
                self._out.append((wire.control_datagram(0, refusal), peer))
                return
            if session is not None:  # the edge at this address has restarted
                self._end(session, "replaced")
            session = self._open(hello, peer, grid, now)
        session.heard_at = now
        welcome = Welcome(hello.nonce, round(self.deadline_s * 1000))
        self._out.append((wire.control_datagram(session.id, welcome), peer))

    def _why_not(self, hello: Hello, *, replacing: bool) -> tuple[Refuse, PacketGrid | None]:
        """Return the packets of the edge's tensors, or None with the refusal that says why it may not come in."""
        if self.leaving:
            return Refuse(hello.nonce, "leaving", "the cloud is shutting down"), None
        if hello.split != self.split.id:
            detail = f"this cloud continues from {self.split.name}: use --split {self.split.name} on the edge"
            return Refuse(hello.nonce, "split", detail), None
        try:
            grid = packet_grid(self.split, hello.rows)
        except UsageError as error:
            return Refuse(hello.nonce, "rows", str(error)[: wire.MAX_TEXT_BYTES // 2]), None
        if len(self._sessions) >= self.limits.sessions and not replacing:
            return Refuse(hello.nonce, "full", f"the cloud serves {self.limits.sessions} edges already"), None
        return Refuse(hello.nonce, "", ""), grid

    def _refuse_version(self, batch: Batch, row: int) -> None:
        """Answer a hello of another version with a refusal, whose form is the same in all versions."""
        untrusted = wire.read_control(batch.datagram(row))
        if not isinstance(untrusted, Drop) and isinstance(untrusted[1], Hello):
            theirs = int(batch.buffer[row, 1])
            detail = f"the edge speaks protocol version {theirs}, this cloud version {wire.VERSION}: update the older"
            self._out.append((wire.control_datagram(0, Refuse(untrusted[1].nonce, "version", detail)), batch.peer(row)))

    def _open(self, hello: Hello, peer: Hashable, grid: PacketGrid, now: float) -> Session:
        number = 0
        while number == 0 or number in self._sessions:
            number = int(self._rng.integers(1, 2**32))
        session = Session(number, peer, hello.nonce, hello.name, grid, now)
        self._sessions[number] = self._by_peer[peer] = session
        self._events.append(SessionOpened(number, hello.name, peer))
        if not self._watching:  # one timer for all: a storm of hellos must not pile them up
            self._watching = True
            self._timers.at(now + self.limits.session_idle_s, self._end_idle)
        return session

    def _end_idle(self, now: float) -> None:
        """End the sessions that have been silent for too long, and look again when the next one may have been."""
        for session in list(self._sessions.values()):
            if session.heard_at + self.limits.session_idle_s <= now:
                self._end(session, "idle")
        self._watching = bool(self._sessions)
        if self._sessions:
            heard_at = min(session.heard_at for session in self._sessions.values())
            self._timers.at(heard_at + self.limits.session_idle_s, self._end_idle)

    def _end(self, session: Session, reason: str) -> None:
        del self._sessions[session.id]
        del self._by_peer[session.peer]
        self._tensors.abandon(session)
        self._answers.forget_all(session)
        self._events.append(SessionEnded(session.id, session.edge, reason))

    # --- symbols ---

    def _take_symbols(self, batch: Batch, opened: wire.Opened, now: float) -> None:
        """Give each tensor of the batch its datagrams."""
        rows, headers = opened.symbols, opened.headers
        if not len(rows):
            return
        key = headers["session"].astype(np.uint64) << np.uint64(32) | headers["tensor"]
        if (key == key[0]).all():  # mostly; copies of headers are what a batch would spend most of its time on
            self.counts.update(self._take_tensor(batch, rows, headers, now))
            return
        order = np.argsort(key, kind="stable")
        for mine in np.split(order, 1 + np.flatnonzero(np.diff(key[order]))):
            self.counts.update(self._take_tensor(batch, rows[mine], headers[mine], now))

    def _take_tensor(
        self, batch: Batch, rows: npt.NDArray[np.intp], headers: npt.NDArray[Any], now: float
    ) -> Counter[str]:
        """Take in the symbols in (m,) `rows` of a batch, all of one session and tensor; return their fates."""
        session = self._sessions.get(int(headers["session"][0]))
        if session is None:
            return Counter({Drop.UNKNOWN_SESSION.value: len(rows)})
        number = int(headers["tensor"][0])
        fates: Counter[str] = Counter()

        def keep(good: npt.NDArray[np.bool_], reason: Drop) -> None:
            nonlocal rows, headers
            if not good.all():
                fates[reason.value] += int((~good).sum())
                rows, headers = rows[good], headers[good]

        sender = batch.peers.index(session.peer) if session.peer in batch.peers else -1
        keep(batch.senders[rows] == sender, Drop.FOREIGN_ADDRESS)
        length = wire.OVERHEAD_BYTES + session.grid.size
        keep(batch.lengths[rows] == length, Drop.BAD_LENGTH)
        tensor = session.tensors.get(number)
        expected = tensor is not None and tensor.arrived.expects(headers)
        if not expected:
            good, drops = judge(headers, session.grid, self.split.id)
            fates.update({reason.value: count for reason, count in drops.items()})
            if drops:
                rows, headers = rows[good], headers[good]
        if len(rows):
            session.heard_at = now
            symbols = batch.buffer[:, wire.HEADER_BYTES : length - wire.CHECKSUM_BYTES]
            if len(rows) < len(symbols):
                symbols = symbols[rows]
            fates.update(self._tensors.take(session, number, headers, symbols, now, expected=expected))
        return fates
