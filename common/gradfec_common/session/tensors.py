"""A tensor's life in the cloud: opened by its first datagram, collected, decided, answered, closed, finished."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping

from gradfec_common import wire
from gradfec_common.reassembly import Reassembly, judge
from gradfec_common.session.answers import Answers
from gradfec_common.session.events import CloudLimits, Decided, Event, Finished, GivenUp
from gradfec_common.session.records import Session, Tensor
from gradfec_common.session.timers import Timers
from gradfec_common.wire import Drop, Report, Result
from gradfec_common.wire.symbol import read_headers


class Tensors:
    """The tensors of all sessions."""

    def __init__(
        self,
        limits: CloudLimits,
        deadline_s: float,
        sessions: Mapping[int, Session],
        timers: Timers,
        answers: Answers,
        events: deque[Event],
        bites: Counter[str],
    ) -> None:
        """Work on the tensors of `sessions`; each is decided at the latest `deadline_s` after its first datagram."""
        self.fates: Counter[str] = Counter()  # opened = the sum of the others + those still open
        self.leaving = False
        self._limits, self._deadline_s = limits, deadline_s
        self._sessions, self._timers, self._answers, self._events = sessions, timers, answers, events
        self._bites = bites  # how often each limit bit
        self._pending = 0  # with the back-end; also those of sessions that have ended

    @property
    def open(self) -> int:
        """Tensors that are not finished yet."""
        return sum(len(session.tensors) for session in self._sessions.values())

    @property
    def held_bytes(self) -> int:
        """Bytes of symbols held for tensors that are being collected."""
        return sum(map(_held_bytes, self._sessions.values()))

    @property
    def _edges(self) -> int:
        """Sessions that share what there is: those that are used."""
        return sum(session.confirmed for session in self._sessions.values())

    # --- datagrams ---

    def take(self, session: Session, bodies: wire.Bytes, now: float) -> Counter[str]:
        """Take in authentic (m, bytes) bodies, all of one length and with one tensor's number; return their fates."""
        number = int(read_headers(bodies[:1])["tensor"][0])
        tensor = session.tensors.get(number)
        if tensor is None:
            drops, good = judge(bodies, session.grid)
            fates = Counter({reason.value: count for reason, count in drops.items()})
            if good.any():
                fates.update(self._begin(session, number, bodies[good], now))
            return fates
        return self._collect(session, number, tensor, bodies, now)

    def _begin(self, session: Session, number: int, bodies: wire.Bytes, now: float) -> Counter[str]:
        tensor = self._open(session, number, bodies[0].tobytes(), now)
        if isinstance(tensor, Drop):
            return Counter({tensor.value: len(bodies)})
        return self._collect(session, number, tensor, bodies, now)

    def _collect(self, session: Session, number: int, tensor: Tensor, bodies: wire.Bytes, now: float) -> Counter[str]:
        if tensor.report is not None:
            return Counter({Drop.LATE.value: len(bodies)})
        arrived = tensor.arrived
        before = arrived.received
        drops = arrived.add(bodies)
        fates = Counter({reason.value: count for reason, count in drops.items()})
        fates["surplus" if tensor.decided else "collected"] += arrived.received - before
        if not tensor.decided and arrived.complete:
            self._decide(session, number, now)
        if arrived.all_arrived:
            self._close(session, number, now)
        elif arrived.arrived[-1]:  # the last in send order is here: the others are late, or lost
            self._settle(session, number, now)
        return fates

    def _open(self, session: Session, number: int, body: bytes, now: float) -> Tensor | Drop:
        """Begin to collect a tensor, of which there is a body, if it is a new one and within every limit."""
        if (reason := self._out_of_place(session, number)) is not None:
            return reason
        if self.leaving:
            return Drop.LEAVING
        more = Reassembly.bytes_for(body)
        share = self._limits.reassembly_bytes // self._edges
        if _held_bytes(session) + more > share:
            self._bites["reassembly_bytes"] += 1
            return Drop.MEMORY_LIMIT
        if self.held_bytes + more > self._limits.reassembly_bytes:
            self._bites["reassembly_bytes"] += 1
            self._free(more, share, now)
        collecting = [n for n, tensor in session.tensors.items() if not tensor.decided]
        crowded = len(collecting) >= self._limits.tensors_per_session
        if len(session.tensors) >= self._limits.tensors_per_session + self._limits.pending_tensors or (
            crowded and number < min(collecting)  # a belated one does not push out one that is being sent
        ):
            self._bites["tensors_per_session"] += 1
            return Drop.TENSOR_LIMIT
        if crowded:
            self._bites["tensors_per_session"] += 1
            self._close(session, min(collecting), now)
        tensor = session.tensors[number] = Tensor(Reassembly(body, session.grid), now, math.inf)
        self.fates["opened"] += 1
        self._close_at(session, number, now + self._deadline_s)
        if number > session.newest:
            for older in list(session.tensors):
                if older < number:  # the edge has gone on: what is still missing is late, or lost
                    self._settle(session, older, now)
            session.newest = number
        else:
            self._settle(session, number, now)
        return tensor

    def _free(self, more: int, share: int, now: float) -> None:
        """Make room for `more` bytes: decide the oldest tensors of those who hold more than what is their share now."""
        for session in self._sessions.values():
            while _held_bytes(session) > share and self.held_bytes + more > self._limits.reassembly_bytes:
                self._close(session, min(n for n, tensor in session.tensors.items() if not tensor.decided), now)

    def _out_of_place(self, session: Session, number: int) -> Drop | None:
        """Say why a tensor of that number cannot begin now, as its session's numbers go."""
        window = self._limits.tensor_window
        if number in session.finished or number < session.newest - window:
            return Drop.LATE
        if 0 <= session.newest < number - window:
            follows = 0 < number - session.strayed <= window
            session.strayed = number
            if not follows:  # one may be a stray; a second shows that the edge has gone on so far unheard
                return Drop.OUT_OF_WINDOW
        return None

    # --- deciding and answering ---

    def _decide(self, session: Session, number: int, now: float) -> None:
        """Ask for a tensor's answer with what has arrived of it."""
        tensor = session.tensors[number]
        tensor.decided = True
        edges = self._edges
        limit = max(self._limits.pending_tensors, edges)
        if session.pending >= limit // edges or self._pending >= limit:
            self._bites["pending_tensors"] += 1
            self._drop(session, number, "overloaded")
            return
        session.pending += 1
        self._pending += 1
        arrived = tensor.arrived
        self._events.append(Decided(session.id, number, arrived.handed_over(), arrived.complete, now - tensor.first_at))

    def answer(self, decided: Decided, result: Result, now: float) -> None:
        """Take back the answer for a decided tensor, unless its session has ended meanwhile."""
        session = self._back(decided)
        if session is None:
            return
        tensor = session.tensors[decided.tensor]
        session.allowance.give(2 * tensor.arrived.sent)  # whoever sends more than can be answered is held to that
        tensor.result, tensor.latency_s = result, now - tensor.first_at
        self._answers.send(session, result, now)
        self._finish_if_done(session, decided.tensor)

    def fail(self, decided: Decided) -> None:
        """Take note that a decided tensor will have no answer."""
        session = self._back(decided)
        if session is not None:
            self._drop(session, decided.tensor, "failed")

    def _back(self, decided: Decided) -> Session | None:
        """Return the session of a tensor that the back-end is done with, None where nobody waits for it any more."""
        self._pending -= 1
        session = self._sessions.get(decided.session)
        if session is not None:
            session.pending -= 1
        return session if session is not None and decided.tensor in session.tensors else None

    # --- closing and finishing ---

    def _settle(self, session: Session, number: int, now: float) -> None:
        """Wait no longer for a tensor than datagrams may be reordered by."""
        self._close_at(session, number, now + self._limits.reorder_s)

    def _close_at(self, session: Session, number: int, when: float) -> None:
        """Close a tensor at `when`, if nothing does so before."""
        tensor = session.tensors.get(number)
        if tensor is not None and when < tensor.closes_at:
            tensor.closes_at = when
            self._timers.call_off(tensor.timer)
            tensor.timer = self._timers.at(when, lambda now: self._close(session, number, now))

    def _close(self, session: Session, number: int, now: float) -> None:
        """Expect nothing more of a tensor: decide it if that is still to be done, and report its losses."""
        tensor = session.tensors.get(number)
        if tensor is None or tensor.report is not None:
            return
        if not tensor.decided:
            self._decide(session, number, now)
        if number in session.tensors:
            tensor.report = _report(number, tensor)
            self._timers.call_off(tensor.timer)
            self._answers.send(session, tensor.report, now)
            self._finish_if_done(session, number)

    def give_up(self, session: Session, numbers: Iterable[int]) -> None:
        """Let go of those of a session's tensors that have no answer yet: nobody awaits it any more."""
        for number in numbers:
            tensor = session.tensors.get(number)
            if tensor is not None and tensor.result is None:
                self._drop(session, number, "abandoned")
                if tensor.decided:
                    self._events.append(GivenUp(session.id, number))

    def abandon(self, session: Session) -> None:
        """Let go of a session's tensors; what was answered stays recorded."""
        for number, tensor in list(session.tensors.items()):
            if tensor.result is not None:
                tensor.report = _report(number, tensor)
                self._finish_if_done(session, number)
            else:
                self._drop(session, number, "abandoned")

    def _finish_if_done(self, session: Session, number: int) -> None:
        tensor = session.tensors[number]
        if tensor.result is None or tensor.report is None:
            return
        self._drop(session, number, tensor.result.outcome)
        packets = packet_counts(tensor.arrived, tensor.result)
        datagrams = datagram_counts(tensor.arrived, tensor.report)
        bursts = tensor.report.bursts
        self._events.append(
            Finished(session.edge, session.id, number, packets, datagrams, tensor.result, tensor.latency_s, bursts)
        )

    def _drop(self, session: Session, number: int, fate: str) -> None:
        """Let go of a tensor, and remember its number while it may still be heard of."""
        self._timers.call_off(session.tensors.pop(number).timer)
        self.fates[fate] += 1
        session.finished.add(number)
        if len(session.finished) > 2 * self._limits.tensor_window:  # what lies before the window is late in any case
            oldest = session.newest - self._limits.tensor_window
            session.finished = {n for n in session.finished if n >= oldest}


def _held_bytes(session: Session) -> int:
    return sum(tensor.arrived.symbols.nbytes for tensor in session.tensors.values())


def _report(number: int, tensor: Tensor) -> Report:
    arrived = tensor.arrived
    return Report(number, arrived.sent, arrived.received, arrived.lost_bursts(), arrived.map())


def packet_counts(arrived: Reassembly, result: Result) -> dict[str, int]:
    """Return a tensor's counts of packets under the names of the results files."""
    return {
        "total": arrived.grid.count,
        "dropped_by_plan": arrived.grid.count - arrived.kept,
        "recovered": result.recovered,
        "missing": result.missing,
    }


def datagram_counts(arrived: Reassembly, report: Report) -> dict[str, int]:
    """Return a tensor's counts of datagrams under the names of the results files."""
    return {
        "sent": arrived.sent,
        "parity": arrived.parity,
        "received": report.received,
        "lost": arrived.sent - report.received,
    }
