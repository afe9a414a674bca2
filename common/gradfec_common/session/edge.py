"""The edge's protocol core: finds the cloud, numbers tensors, acknowledges answers, gives up on what stays silent."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np

from gradfec_common import wire
from gradfec_common.errors import UsageError
from gradfec_common.transmit import EncodedTensor
from gradfec_common.wire import Ack, Batch, Bye, Drop, Hello, Kind, Refuse, Report, Result, Welcome


@dataclass(frozen=True)
class EdgeLimits:
    """Every time and bound of the edge's core."""

    answer_timeout_s: float = 2.0  # a tensor without an answer is given up
    report_timeout_s: float = 1.0  # an answered tensor without a report is closed without its loss counts
    probe_after_s: float = 0.5  # silence, while something is expected, before asking the cloud for a sign of life
    lost_after_s: float = 1.5  # such silence before the link is taken for lost
    keepalive_s: float = 5.0  # silence, while nothing is expected, before asking
    hello_repeat_s: float = 0.25
    hello_repeat_max_s: float = 1.0
    bye_repeat_s: float = 0.1  # the goodbye is repeated until the cloud says its own
    bye_patience_s: float = 1.0
    tensors_in_flight: int = 256
    numbers_per_ack: int = 100  # of results and as many of reports: an ACK must fit a datagram


@dataclass(frozen=True)
class Connected:
    """The cloud has welcomed the edge; `fresh` when the session is a new one."""

    session: int
    deadline_s: float
    fresh: bool


@dataclass(frozen=True)
class LinkLost:
    """The cloud is silent, or has said that it leaves; hellos go on."""

    leaving: bool


@dataclass(frozen=True)
class Refused:
    """The cloud will not have this edge; `detail` is a sentence for the user."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Answered:
    """The answer for a tensor has arrived, for the first time."""

    tensor: int
    result: Result


@dataclass(frozen=True)
class Closed:
    """A tensor's story is over, once for each tensor; `result` is None where no answer came in time."""

    tensor: int
    result: Result | None
    report: Report | None


Event = Connected | LinkLost | Refused | Answered | Closed


@dataclass
class _Awaiting:
    """A tensor in flight."""

    session: int
    closes_at: float
    result: Result | None = None
    report: Report | None = None


class EdgeSession:
    """The edge's end of the protocol."""

    def __init__(self, hello: Hello, now: float, limits: EdgeLimits | None = None) -> None:
        """Start by looking for the cloud; `hello.nonce` must be drawn anew for each EdgeSession."""
        self.limits = limits or EdgeLimits()
        self.connected = False
        self.session = 0
        self.counts: Counter[str] = Counter()  # datagrams received, by kind or drop reason
        self._hello = hello
        self._hello_at = now
        self._hello_repeat_s = self.limits.hello_repeat_s
        self._last_heard = now
        self._waiting_since: float | None = None  # since when a sign of life is due
        self._bye_at: float | None = None  # when the next goodbye is due, once the edge leaves
        self._gone_at = 0.0
        self._gone = False
        self._next_tensor = 0
        self._awaiting: dict[int, _Awaiting] = {}
        self._acks: tuple[list[int], list[int]] = ([], [])
        self._out: list[bytes] = []
        self._events: deque[Event] = deque()

    # --- the five verbs ---

    def receive(self, batch: Batch, now: float) -> None:
        """Take in datagrams from the cloud's address."""
        opened = wire.open_batch(batch)
        for reason, rows in opened.drops.items():
            self.counts[reason.value] += len(rows)
            if reason is Drop.UNKNOWN_VERSION:
                for row in rows[batch.buffer[rows, 2] == Kind.REFUSE]:
                    self._take_refusal(batch, int(row))
        self.counts[Drop.UNEXPECTED.value] += len(opened.symbols)
        for row in opened.control:
            self._take_control(batch, int(row), now)

    def datagrams_to_send(self) -> list[bytes]:
        """Return the control datagrams that are due, each once."""
        results, reports = self._acks
        step = self.limits.numbers_per_ack
        for i in range(0, max(len(results), len(reports)), step):
            ack = Ack(results[i : i + step], reports[i : i + step])
            self._out.append(wire.control_datagram(self.session, ack))
        self._acks = ([], [])
        out, self._out = self._out, []
        return out

    def next_timer(self) -> float:
        """Return when `handle_timer` is next due."""
        if self._bye_at is not None:
            return self._bye_at
        return min([self._hello_due(), *(tensor.closes_at for tensor in self._awaiting.values())])

    def handle_timer(self, now: float) -> None:
        """Do what is due: hellos, goodbyes, and giving up on tensors."""
        if self._bye_at is not None:
            self._say_goodbye(now)
            return
        for number in [n for n, tensor in self._awaiting.items() if tensor.closes_at <= now]:
            self._close(number)
        waiting = 0.0 if self._waiting_since is None else now - self._waiting_since
        if self.connected and waiting >= self.limits.lost_after_s:
            self._lose(leaving=False)
        if now >= self._hello_due():
            self._say_hello(now)

    def next_event(self) -> Event | None:
        """Return the next event, or None."""
        return self._events.popleft() if self._events else None

    # --- what the shell asks for ---

    @property
    def in_flight(self) -> int:
        """Tensors that still await their answer."""
        return sum(tensor.result is None for tensor in self._awaiting.values())

    @property
    def open_tensors(self) -> int:
        """Tensors that are not closed yet."""
        return len(self._awaiting)

    def open_tensor(self, encoded: EncodedTensor, now: float, sending_s: float = 0.0) -> tuple[int, wire.Bytes]:
        """Number a tensor and return it with its (sent, bytes) datagrams, to be sent in their order, each once.

        `sending_s` is how long that will take: the answer is awaited for as much longer.
        """
        if not self.connected or len(self._awaiting) >= self.limits.tensors_in_flight:
            raise ValueError("no tensor may be opened now: not connected, or too many in flight")
        number, self._next_tensor = self._next_tensor, self._next_tensor + 1
        self._awaiting[number] = _Awaiting(self.session, now + sending_s + self.limits.answer_timeout_s)
        if self._waiting_since is None:
            self._waiting_since = now
        return number, encoded.datagrams(self.session, number)

    def leave(self, now: float) -> None:
        """Close open tensors as they stand, and say goodbye until the cloud has heard it: see `left`."""
        for number in list(self._awaiting):
            self._close(number)
        self.connected = False
        self._bye_at, self._gone_at = now, now + (self.limits.bye_patience_s if self.session else 0.0)
        self.handle_timer(now)

    @property
    def left(self) -> bool:
        """Whether the goodbye is over: from now on the cloud has nothing to say to this edge."""
        return self._gone

    # --- inside ---

    def _hello_due(self) -> float:
        if not self.connected:
            return self._hello_at
        if self._waiting_since is None:
            return self._last_heard + self.limits.keepalive_s
        return max(self._waiting_since + self.limits.probe_after_s, self._hello_at)

    def _say_hello(self, now: float) -> None:
        self._out.append(wire.control_datagram(self.session, self._hello))
        self._hello_at = now + self._hello_repeat_s
        if not self.connected:
            self._hello_repeat_s = min(2 * self._hello_repeat_s, self.limits.hello_repeat_max_s)
        if self._waiting_since is None:
            self._waiting_since = now

    def _say_goodbye(self, now: float) -> None:
        self._gone = self._gone or now >= self._gone_at
        if not self._gone:
            self._out.append(wire.control_datagram(self.session, Bye()))
        self._bye_at = now + self.limits.bye_repeat_s

    def _take_refusal(self, batch: Batch, row: int) -> None:
        """Heed a refusal in another version of the protocol: its form is the same in all versions."""
        if not isinstance(control := wire.read_control(batch.datagram(row)), Drop):
            _, message = control
            if isinstance(message, Refuse) and message.nonce == self._hello.nonce:
                self._events.append(Refused(message.reason, message.detail))

    def _take_control(self, batch: Batch, row: int, now: float) -> None:
        control = wire.read_control(batch.datagram(row))
        if isinstance(control, Drop):
            self.counts[control.value] += 1
            return
        session, message = control
        if isinstance(message, (Welcome, Refuse)) and message.nonce != self._hello.nonce:
            self.counts[Drop.UNEXPECTED.value] += 1
            return
        if not isinstance(message, (Welcome, Refuse)) and session != self.session:
            self.counts[Drop.UNKNOWN_SESSION.value] += 1
            return
        match message:
            case Welcome() if session:
                self._enter(session, message, now)
            case Refuse():  # what the cloud has no session for, it will not answer
                self._lose(leaving=message.reason == "leaving")
                self._events.append(Refused(message.reason, message.detail))
            case Result() | Report():
                if not self._take_answer(message, now):
                    return
            case Bye():
                self._gone = self._bye_at is not None
                self._lose(leaving=True)
            case _:
                self.counts[Drop.UNEXPECTED.value] += 1
                return
        self.counts[message.kind.name.lower()] += 1
        self._heard(now)

    def _heard(self, now: float) -> None:
        self._last_heard = now
        self._waiting_since = now if self.in_flight else None

    def _enter(self, session: int, welcome: Welcome, now: float) -> None:
        fresh = session != self.session
        if self.connected and not fresh:
            return  # a sign of life
        self.connected, self.session = True, session
        self._hello_repeat_s = self.limits.hello_repeat_s
        if fresh:  # a restarted cloud knows nothing of what an older session awaits
            for number in [n for n, tensor in self._awaiting.items() if tensor.session != session]:
                self._close(number)
        self._events.append(Connected(session, welcome.deadline_ms / 1000, fresh))

    def _lose(self, *, leaving: bool) -> None:
        if self.connected:
            self.connected = False
            self._hello_repeat_s = self.limits.hello_repeat_s
            self._events.append(LinkLost(leaving))

    def _take_answer(self, message: Result | Report, now: float) -> bool:
        """Acknowledge a result or report and note it if it is the first; False, and counted, if it is of no use."""
        results, reports = self._acks
        awaiting = self._awaiting.get(message.tensor)
        if message.tensor >= self._next_tensor:
            self.counts[Drop.UNEXPECTED.value] += 1
            return False
        (results if isinstance(message, Result) else reports).append(message.tensor)
        self._last_heard = now
        if awaiting is None:
            self.counts[Drop.LATE.value] += 1
            return False
        if isinstance(message, Result):
            if awaiting.result is not None:
                self.counts[Drop.DUPLICATE.value] += 1
                return False
            awaiting.result = message
            awaiting.closes_at = now + self.limits.report_timeout_s
            self._events.append(Answered(message.tensor, message))
        else:
            if awaiting.report is not None:
                self.counts[Drop.DUPLICATE.value] += 1
                return False
            awaiting.report = message
        if awaiting.result is not None and awaiting.report is not None:
            self._close(message.tensor)
        return True

    def _close(self, number: int) -> None:
        tensor = self._awaiting.pop(number)
        self._events.append(Closed(number, tensor.result, tensor.report))


def new_hello(split: int, rows: int, name: str, rng: np.random.Generator) -> Hello:
    """Make the hello of a starting edge, with a fresh nonce; UsageError for a name that no hello can carry."""
    text = name.encode(errors="replace")
    if len(text) > wire.MAX_TEXT_BYTES:
        raise UsageError(f"the name has {len(text)} bytes, more than {wire.MAX_TEXT_BYTES}: use a shorter --name")
    return Hello(int(rng.integers(0, 2**64, dtype=np.uint64)), split, rows, text.decode())
