"""The cloud's protocol core: sessions of many edges, regrouping, deciding, answering until acknowledged."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common import wire
from gradfec_common.errors import UsageError
from gradfec_common.network import SplitPoint
from gradfec_common.packets import PacketGrid
from gradfec_common.reassembly import Reassembly, judge
from gradfec_common.transmit import packet_grid
from gradfec_common.wire import Ack, Batch, Bye, Drop, Hello, Kind, Refuse, Report, Result, Welcome


@dataclass(frozen=True)
class CloudLimits:
    """Every time and bound of the cloud's core."""

    sessions: int = 256
    session_idle_s: float = 30.0  # a session that is silent for longer ends
    tensors_per_session: int = 8  # tensors that are being collected; one more makes the oldest be decided
    pending_tensors: int = 64  # tensors that are decided and wait for the back-end, over all sessions
    reassembly_bytes: int = 512 * 2**20  # symbols that are held, over all sessions
    reorder_s: float = 0.03  # how much later a tensor's datagrams may come than its last one or the next tensor's
    answer_repeat_s: float = 0.1  # results and reports are repeated, at doubling intervals, until acknowledged
    answer_repeat_max_s: float = 0.8
    answer_stale_s: float = 3.0
    answers_per_session: int = 64
    tensor_window: int = 256  # how far a tensor's number may lie from the newest one of its session


@dataclass(frozen=True)
class Decided:
    """A tensor is ready for decoding and inference; hand its answer to `answer`."""

    session: int
    tensor: int
    arrived: Reassembly
    complete: bool
    waited_s: float  # since its first datagram


@dataclass(frozen=True)
class Finished:
    """A tensor has been answered and its datagrams counted, once for each tensor that is answered."""

    edge: str
    session: int
    tensor: int
    packets: dict[str, int]
    result: Result
    latency_s: float  # from its first datagram to its answer


@dataclass(frozen=True)
class SessionOpened:
    """An edge has been welcomed."""

    session: int
    edge: str
    peer: Hashable


@dataclass(frozen=True)
class SessionEnded:
    """A session is over; `reason` is replaced, idle, or bye."""

    session: int
    edge: str
    reason: str


Event = Decided | Finished | SessionOpened | SessionEnded


@dataclass
class _Tensor:
    """A tensor from its first datagram until it is both answered and closed."""

    arrived: Reassembly
    first_at: float
    closes_at: float  # when no more of its datagrams are expected
    decided: bool = False
    result: Result | None = None
    latency_s: float = 0.0
    report: Report | None = None


@dataclass
class _Session:
    """What the cloud keeps of one edge."""

    id: int
    peer: Hashable
    nonce: int
    edge: str
    grid: PacketGrid
    heard_at: float
    tensors: dict[int, _Tensor] = field(default_factory=dict)
    newest: int = -1
    strayed: int = -1  # the last tensor that was out of the window
    finished: set[int] = field(default_factory=set)  # within the window
    answers: dict[tuple[Kind, int], bytes] = field(default_factory=dict)  # not acknowledged yet


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
        self.tensors: Counter[str] = Counter()  # tensors, by fate: opened = the sum of the others + those still open
        self.leaving = False
        self._rng = rng
        self._sessions: dict[int, _Session] = {}
        self._by_peer: dict[Hashable, _Session] = {}
        self._pending = 0
        self._watching = False  # whether a timer looks for idle sessions
        self._timers: list[tuple[float, int, Callable[[float], None]]] = []
        self._ticket = itertools.count()
        self._out: list[tuple[bytes, Hashable]] = []
        self._events: deque[Event] = deque()

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
        out, self._out = self._out, []
        return out

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is next due, or None."""
        return self._timers[0][0] if self._timers else None

    def handle_timer(self, now: float) -> None:
        """Do what is due: decide and close tensors, repeat answers, end idle sessions."""
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2](now)

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
        self._pending -= 1
        session = self._sessions.get(decided.session)
        if session is None or decided.tensor not in session.tensors:
            return  # the session ended meanwhile; the tensor was counted then
        tensor = session.tensors[decided.tensor]
        outcome = "complete" if decided.complete else "partial"
        tensor.result = Result(decided.tensor, outcome, top5, recovered, missing, stages_ms)
        tensor.latency_s = now - tensor.first_at
        self._send_until_acknowledged(session, tensor.result, now)
        self._finish_if_done(session, decided.tensor)

    def fail(self, decided: Decided) -> None:
        """Take note that a decided tensor will have no answer: decoding or inference failed."""
        self._pending -= 1
        session = self._sessions.get(decided.session)
        if session is not None and decided.tensor in session.tensors:
            self._drop_tensor(session, decided.tensor, "failed")

    @property
    def open_sessions(self) -> int:
        """Sessions that are open."""
        return len(self._sessions)

    @property
    def open_tensors(self) -> int:
        """Tensors that are not finished yet."""
        return sum(len(session.tensors) for session in self._sessions.values())

    @property
    def held_bytes(self) -> int:
        """Bytes of symbols held for tensors that are being collected."""
        return sum(t.arrived.symbols.nbytes for s in self._sessions.values() for t in s.tensors.values())

    @property
    def unacknowledged(self) -> int:
        """Results and reports that are still being repeated."""
        return sum(len(session.answers) for session in self._sessions.values())

    def leave(self) -> None:
        """Take no new session and no new tensor from now on, tell the edges so, and finish the tensors at hand."""
        self.leaving = True
        self._out += [(wire.control_datagram(session.id, Bye()), session.peer) for session in self._sessions.values()]

    def say_goodbye(self) -> None:
        """Tell every edge that its session is over."""
        for session in list(self._sessions.values()):
            self._out.append((wire.control_datagram(session.id, Bye()), session.peer))
            self._end(session, "leaving")

    # --- control messages ---

    def _take_control(self, batch: Batch, row: int, now: float) -> str:
        control = wire.read_control(batch.buffer[row, : batch.lengths[row]])
        if isinstance(control, Drop):
            return control.value
        session_id, message = control
        peer = batch.peers[row]
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
                for kind, numbers in ((Kind.RESULT, message.results), (Kind.REPORT, message.reports)):
                    for number in numbers:
                        session.answers.pop((kind, number), None)
                return "ack"
            case Bye():
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
        untrusted = wire.read_control(batch.buffer[row, : batch.lengths[row]])
        if not isinstance(untrusted, Drop) and isinstance(untrusted[1], Hello):
            theirs = int(batch.buffer[row, 1])
            detail = f"the edge speaks protocol version {theirs}, this cloud version {wire.VERSION}: update the older"
            self._out.append(
                (wire.control_datagram(0, Refuse(untrusted[1].nonce, "version", detail)), batch.peers[row])
            )

    def _open(self, hello: Hello, peer: Hashable, grid: PacketGrid, now: float) -> _Session:
        number = 0
        while number == 0 or number in self._sessions:
            number = int(self._rng.integers(1, 2**32))
        session = _Session(number, peer, hello.nonce, hello.name, grid, now)
        self._sessions[number] = self._by_peer[peer] = session
        self._events.append(SessionOpened(number, hello.name, peer))
        if not self._watching:  # one timer for all: a storm of hellos must not pile them up
            self._watching = True
            self._at(now + self.limits.session_idle_s, self._end_idle)
        return session

    def _end_idle(self, now: float) -> None:
        """End the sessions that have been silent for too long, and look again when the next one may have been."""
        for session in list(self._sessions.values()):
            if session.heard_at + self.limits.session_idle_s <= now:
                self._end(session, "idle")
        self._watching = bool(self._sessions)
        if self._sessions:
            heard_at = min(session.heard_at for session in self._sessions.values())
            self._at(heard_at + self.limits.session_idle_s, self._end_idle)

    def _end(self, session: _Session, reason: str) -> None:
        del self._sessions[session.id]
        del self._by_peer[session.peer]
        for number, tensor in list(session.tensors.items()):
            if tensor.result is not None:  # what was answered stays recorded
                tensor.report = self._report(number, tensor)
                self._finish_if_done(session, number)
        self.tensors["abandoned"] += len(session.tensors)
        session.tensors.clear()
        session.answers.clear()
        self._events.append(SessionEnded(session.id, session.edge, reason))

    # --- symbols ---

    def _take_symbols(self, batch: Batch, opened: wire.Opened, now: float) -> None:
        """Give each tensor of the batch its datagrams."""
        headers = opened.headers
        key = headers["session"].astype(np.uint64) << np.uint64(32) | headers["tensor"].astype(np.uint64)
        for value in np.unique(key):
            mine = np.flatnonzero(key == value)
            session = self._sessions.get(int(value) >> 32)
            if session is None:
                self.counts[Drop.UNKNOWN_SESSION.value] += len(mine)
                continue
            ours = np.array([batch.peers[row] == session.peer for row in opened.symbols[mine]], bool)
            self.counts[Drop.FOREIGN_ADDRESS.value] += int((~ours).sum())
            rows = mine[ours]
            length = wire.HEADER_BYTES + wire.PLACE_BYTES + session.grid.size + wire.CHECKSUM_BYTES
            fits = batch.lengths[opened.symbols[rows]] == length
            self.counts[Drop.BAD_LENGTH.value] += int((~fits).sum())
            rows = rows[fits]
            if len(rows):
                symbols = batch.buffer[opened.symbols[rows], wire.HEADER_BYTES : length - wire.CHECKSUM_BYTES]
                self._take_tensor(session, int(value) & 0xFFFF_FFFF, headers[rows], symbols, now)

    def _take_tensor(
        self, session: _Session, number: int, headers: npt.NDArray[Any], symbols: wire.Bytes, now: float
    ) -> None:
        session.heard_at = now
        good, drops = judge(headers, session.grid, self.split.id)
        for reason, count in drops.items():
            self.counts[reason.value] += count
        headers, symbols = headers[good], symbols[good]
        if not len(headers):
            return
        tensor = session.tensors.get(number)
        if tensor is None:
            opened = self._open_tensor(session, number, headers[0], now)
            if isinstance(opened, Drop):
                self.counts[opened.value] += len(headers)
                return
            tensor = opened
        arrived = tensor.arrived
        if tensor.report is not None:
            self.counts[Drop.LATE.value] += len(headers)
            return
        before = arrived.received
        for reason, count in arrived.add(headers, symbols).items():
            self.counts[reason.value] += count
        self.counts["surplus" if tensor.decided else "collected"] += arrived.received - before
        if not tensor.decided and arrived.complete:
            self._decide(session, number, now)
        if arrived.all_arrived:
            self._close(session, number, now)
        elif arrived.arrived[-1]:  # the last in send order is here: the others are late, or lost
            self._settle(session, number, now)

    def _open_tensor(self, session: _Session, number: int, header: npt.NDArray[Any], now: float) -> _Tensor | Drop:
        """Begin to collect a tensor, within every limit."""
        if number in session.finished or number < session.newest - self.limits.tensor_window:
            return Drop.LATE
        if 0 <= session.newest < number - self.limits.tensor_window:
            follows = 0 < number - session.strayed <= self.limits.tensor_window
            session.strayed = number
            if not follows:  # one may be a stray; a second shows that the edge has gone on so far unheard
                return Drop.OUT_OF_WINDOW
        if self.leaving:
            return Drop.LEAVING
        symbol_bytes = wire.PLACE_BYTES + session.grid.size
        if self.held_bytes + int(header["sent"]) * symbol_bytes > self.limits.reassembly_bytes:
            return Drop.MEMORY_LIMIT
        collecting = [n for n, tensor in session.tensors.items() if not tensor.decided]
        crowded = len(collecting) >= self.limits.tensors_per_session
        if len(session.tensors) >= self.limits.tensors_per_session + self.limits.pending_tensors or (
            crowded and number < min(collecting)  # a belated one does not push out one that is being sent
        ):
            return Drop.TENSOR_LIMIT
        if crowded:
            self._close(session, min(collecting), now)
        tensor = session.tensors[number] = _Tensor(Reassembly(header, session.grid), now, math.inf)
        self.tensors["opened"] += 1
        self._close_at(session, number, now + self.deadline_s)
        if number > session.newest:
            for older in list(session.tensors):
                if older < number:  # the edge has gone on: what is still missing is late, or lost
                    self._settle(session, older, now)
            session.newest = number
        else:
            self._settle(session, number, now)
        return tensor

    def _settle(self, session: _Session, number: int, now: float) -> None:
        """Wait no longer for a tensor than datagrams may be reordered by."""
        self._close_at(session, number, now + self.limits.reorder_s)

    def _close_at(self, session: _Session, number: int, when: float) -> None:
        """Close a tensor at `when`, if nothing does so before."""
        tensor = session.tensors.get(number)
        if tensor is not None and when < tensor.closes_at:
            tensor.closes_at = when
            self._at(when, lambda now: self._close(session, number, now))

    def _decide(self, session: _Session, number: int, now: float) -> None:
        """Ask for a tensor's answer with what has arrived of it."""
        tensor = session.tensors[number]
        tensor.decided = True
        if self._pending >= self.limits.pending_tensors:
            self._drop_tensor(session, number, "overloaded")
            return
        self._pending += 1
        arrived = tensor.arrived
        self._events.append(Decided(session.id, number, arrived.handed_over(), arrived.complete, now - tensor.first_at))

    def _close(self, session: _Session, number: int, now: float) -> None:
        """Expect nothing more of a tensor: decide it if that is still to be done, and report its losses."""
        tensor = session.tensors.get(number)
        if tensor is None or tensor.report is not None:
            return
        if not tensor.decided:
            self._decide(session, number, now)
        if number in session.tensors:
            tensor.report = self._report(number, tensor)
            self._send_until_acknowledged(session, tensor.report, now)
            self._finish_if_done(session, number)

    def _report(self, number: int, tensor: _Tensor) -> Report:
        arrived = tensor.arrived
        return Report(number, arrived.sent, arrived.received, arrived.lost_bursts())

    def _drop_tensor(self, session: _Session, number: int, fate: str) -> None:
        del session.tensors[number]
        self._remember(session, number)
        self.tensors[fate] += 1

    def _finish_if_done(self, session: _Session, number: int) -> None:
        tensor = session.tensors[number]
        if tensor.result is None or tensor.report is None:
            return
        self._drop_tensor(session, number, tensor.result.outcome)
        arrived = tensor.arrived
        packets = packet_counts(arrived.grid.count, arrived.kept, arrived.sent, tensor.result, tensor.report)
        self._events.append(Finished(session.edge, session.id, number, packets, tensor.result, tensor.latency_s))

    def _remember(self, session: _Session, number: int) -> None:
        session.finished.add(number)
        if len(session.finished) > 2 * self.limits.tensor_window:  # what lies before the window is late in any case
            oldest = session.newest - self.limits.tensor_window
            session.finished = {n for n in session.finished if n >= oldest}

    # --- repeating and timing ---

    def _send_until_acknowledged(self, session: _Session, message: Result | Report, now: float) -> None:
        key = (message.kind, message.tensor)
        if len(session.answers) >= self.limits.answers_per_session:
            session.answers.pop(next(iter(session.answers)))  # the oldest: the edge has given up on it by now
        session.answers[key] = wire.control_datagram(session.id, message)
        self._repeat(session, key, now, self.limits.answer_repeat_s, now + self.limits.answer_stale_s)

    def _repeat(self, session: _Session, key: tuple[Kind, int], now: float, interval: float, stale_at: float) -> None:
        if key not in session.answers:
            return
        if now >= stale_at:
            del session.answers[key]
            return
        self._out.append((session.answers[key], session.peer))
        longer = min(2 * interval, self.limits.answer_repeat_max_s)
        self._at(now + interval, lambda later: self._repeat(session, key, later, longer, stale_at))

    def _at(self, when: float, action: Callable[[float], None]) -> None:
        heapq.heappush(self._timers, (when, next(self._ticket), action))


def packet_counts(total: int, kept: int, sent: int, result: Result, report: Report) -> dict[str, int]:
    """Return a tensor's packet counts under the names of the results files."""
    return {
        "total": total,
        "dropped_by_plan": total - kept,
        "parity": sent - kept,
        "sent": sent,
        "received": report.received,
        "lost": sent - report.received,
        "recovered": result.recovered,
        "missing": result.missing,
    }
