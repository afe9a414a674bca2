"""The edge's protocol core: finds the cloud, numbers tensors, acknowledges answers, gives up on what stays silent."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.errors import UsageError
from gradfec_common.keys import Entropy
from gradfec_common.replay import Verdict
from gradfec_common.seal import UNSEALED, Opener, Sealer
from gradfec_common.session.handshake import EdgeHandshake, Established, HandshakeKey
from gradfec_common.sketch import Sketch, sketch_bytes, sketch_parts
from gradfec_common.transmit import EncodedTensor
from gradfec_common.wire import Ack, Batch, Bye, Drop, Hello, Kind, Message, Ping, Pong, Refuse, Report, Result, Welcome

PADDING = bytes(wire.MAX_PADDING_BYTES)  # of a question while answers are due: an edge that has moved must pay for them


@dataclass(frozen=True)
class EdgeLimits:
    """Every time and bound of the edge's core."""

    answer_timeout_s: float = 2.0  # a tensor without an answer is given up
    report_timeout_s: float = 1.0  # an answered tensor without a report is closed without its loss counts
    probe_after_s: float = 0.5  # silence, while something is expected, before asking the cloud for a sign of life
    lost_after_s: float = 1.5  # such silence before the link is taken for lost
    keepalive_s: float = 5.0  # silence, while nothing is expected, before asking
    repeat_s: float = 0.25  # hellos and questions go out so often at first, then ever more slowly
    repeat_max_s: float = 1.0
    hello_renew_s: float = 3.0  # an unanswered hello gives way to a new one, for a cloud answers each for a while only
    hello_after_s: float = 0.5  # a lost link, before a new session is sought besides the old one
    bye_repeat_s: float = 0.1  # the goodbye is repeated until the cloud says its own
    bye_patience_s: float = 1.0
    tensors_in_flight: int = 256
    sketch_every_s: float = 1.0
    numbers_per_ack: int = 100  # of results and as many of reports: an ACK must fit a datagram


@dataclass(frozen=True)
class Connected:
    """The cloud is there; `fresh` when the session is a new one."""

    session: int
    deadline_s: float
    fresh: bool


@dataclass(frozen=True)
class LinkLost:
    """The cloud is silent, or has said that it leaves; the edge goes on looking for it."""

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
    """A tensor's story is over, once for each tensor; `result` is None where no answer came in time.

    `sent` are its symbols that were sealed: not all, where nobody awaited the rest any more.
    """

    tensor: int
    result: Result | None
    report: Report | None
    sent: int


Event = Connected | LinkLost | Refused | Answered | Closed


@dataclass
class _Awaiting:
    """A tensor in flight, of the session at hand."""

    closes_at: float
    result: Result | None = None
    report: Report | None = None
    sent: int = 0


@dataclass
class _Session:
    """What the edge keeps of a session."""

    number: int
    sealer: Sealer
    opener: Opener
    deadline_s: float
    sketches: bool  # whether the cloud would like some
    over: bool = False  # the cloud has said goodbye: it answers what it has, and takes nothing new


class EdgeSession:
    """The edge's end of the protocol."""

    def __init__(
        self, hello: Hello, key: HandshakeKey, entropy: Entropy, now: float, limits: EdgeLimits | None = None
    ) -> None:
        """Start by looking for a cloud that has the key; `entropy` gives random bytes."""
        self.limits = limits or EdgeLimits()
        self.connected = False
        self.counts: Counter[str] = Counter()  # datagrams received, by kind or drop reason
        self._wanted, self._key, self._entropy = hello, key, entropy
        self._handshake: EdgeHandshake | None = None
        self._renew_at = now  # when the next hello is a new one
        self._session: _Session | None = None
        self._ask_at = now
        self._repeat_s = self.limits.repeat_s
        self._lost_at = now
        self._last_heard = now
        self._waiting_since: float | None = None  # since when a sign of life is due
        self._bye_at: float | None = None  # when the next goodbye is due, once the edge leaves
        self._gone_at = 0.0
        self._gone = False
        self._next_tensor = 0
        self._sketch_at = now  # when the next one may go
        self._awaiting: dict[int, _Awaiting] = {}
        self._acks: tuple[list[int], list[int]] = ([], [])
        self._out: list[bytes] = []
        self._events: deque[Event] = deque()

    # --- the five verbs ---

    def receive(self, batch: Batch, now: float) -> None:
        """Take in datagrams of any bytes from the cloud's address."""
        found = wire.sort_batch(batch)
        for reason, rows in found.drops.items():
            self.counts[reason.value] += len(rows)
        if len(found.hellos):
            self.counts[Drop.UNEXPECTED.value] += len(found.hellos)
        for row, number in zip(found.sealed.tolist(), found.headers["session"].tolist(), strict=True):
            self.counts[self._take_sealed(batch.datagram(row).tobytes(), number, now)] += 1
        for row in found.welcomes.tolist():  # last: a session that goes on is better than a new one
            self.counts[self._take_welcome(batch.datagram(row).tobytes(), now)] += 1

    def datagrams_to_send(self) -> list[bytes]:
        """Return the datagrams that are due, each once; a tensor's symbols are not among them."""
        results, reports = self._acks
        step = self.limits.numbers_per_ack
        for i in range(0, max(len(results), len(reports)), step):
            self._say(Ack(results[i : i + step], reports[i : i + step]))
        self._acks = ([], [])
        out, self._out = self._out, []
        return out

    def next_timer(self) -> float:
        """Return when `handle_timer` is next due."""
        if self._bye_at is not None:
            return self._bye_at
        return min([self._ask_due(), *(tensor.closes_at for tensor in self._awaiting.values())])

    def handle_timer(self, now: float) -> None:
        """Do what is due: hellos, questions, goodbyes, and giving up on tensors."""
        if self._bye_at is not None:
            self._say_goodbye(now)
            return
        for number in [n for n, tensor in self._awaiting.items() if tensor.closes_at <= now]:
            if self.connected and self._awaiting[number].result is None:
                self._acks[0].append(number)  # the cloud need not work on it any more
            self._close(number)
        waiting = 0.0 if self._waiting_since is None else now - self._waiting_since
        if self.connected and waiting >= self.limits.lost_after_s:
            self._lose(now, leaving=False)
        if now >= self._ask_due():
            self._ask(now)

    def next_event(self) -> Event | None:
        """Return the next event, or None."""
        return self._events.popleft() if self._events else None

    # --- what the shell asks for ---

    @property
    def session(self) -> int:
        """The session's number, 0 before the first."""
        return self._session.number if self._session else 0

    @property
    def in_flight(self) -> int:
        """Tensors that still await their answer."""
        return sum(tensor.result is None for tensor in self._awaiting.values())

    @property
    def open_tensors(self) -> int:
        """Tensors that are not closed yet."""
        return len(self._awaiting)

    def open_tensor(self, encoded: EncodedTensor, now: float, sending_s: float = 0.0) -> tuple[int, wire.Bytes]:
        """Number a tensor and return it with its (sent, bytes) bodies, to go through `seal` in their order, each once.

        `sending_s` is how long sending will take: the answer is awaited for as much longer.
        """
        if not self.connected or len(self._awaiting) >= self.limits.tensors_in_flight:
            raise ValueError("no tensor may be opened now: not connected, or too many in flight")
        number, self._next_tensor = self._next_tensor, self._next_tensor + 1
        self._awaiting[number] = _Awaiting(now + sending_s + self.limits.answer_timeout_s)
        if self._waiting_since is None:
            self._waiting_since = now
        return number, encoded.bodies(number)

    def seal(self, tensor: int, bodies: wire.Bytes) -> wire.Bytes | None:
        """Seal (m, bytes) bodies of a tensor into as many datagrams; None where nobody awaits it any more."""
        awaiting = self._awaiting.get(tensor)
        if self._session is None or awaiting is None:
            return None
        awaiting.sent += len(bodies)
        return self._session.sealer.seal(Kind.SYMBOL, bodies)

    def wants_sketch(self, now: float) -> bool:
        """Tell whether the cloud would like a sketch, and it is time for one."""
        return self.connected and self._session is not None and self._session.sketches and now >= self._sketch_at

    def send_sketch(self, tensor: int, sketch: Sketch, now: float) -> None:
        """Tell the cloud once, in parts, what is done with a tensor; nothing that gets lost is repeated."""
        self._sketch_at = now + self.limits.sketch_every_s
        for part in sketch_parts(tensor, sketch_bytes(sketch)):
            self._say(part)

    def leave(self, now: float) -> None:
        """Close open tensors as they stand, and say goodbye until the cloud has heard it: see `left`."""
        for number in list(self._awaiting):
            self._close(number)
        self.connected, self._handshake = False, None  # no session begins any more
        self._bye_at, self._gone_at = now, now + (self.limits.bye_patience_s if self._session else 0.0)
        self.handle_timer(now)

    @property
    def left(self) -> bool:
        """Whether the goodbye is over: from now on the cloud has nothing to say to this edge."""
        return self._gone

    # --- inside ---

    def _say(self, message: Message) -> None:
        if self._session is not None:
            self._out.append(self._session.sealer.seal_one(Kind.MESSAGE, wire.message_body(message)))

    def _ask_due(self) -> float:
        if not self.connected:
            return self._ask_at
        if self._waiting_since is None:
            return self._last_heard + self.limits.keepalive_s
        return max(self._waiting_since + self.limits.probe_after_s, self._ask_at)

    def _ask(self, now: float) -> None:
        """Ask the cloud for a sign of life; where it may have forgotten the session, for a new one as well."""
        if self._session is not None and not self._session.over:
            self._say(Ping(PADDING if self.open_tensors else b""))
        forgotten = self._session is None or self._session.over or now - self._lost_at >= self.limits.hello_after_s
        if not self.connected and forgotten:
            self._say_hello(now)
        self._ask_at = now + self._repeat_s
        if not self.connected:
            self._repeat_s = min(2 * self._repeat_s, self.limits.repeat_max_s)
        if self._waiting_since is None:
            self._waiting_since = now

    def _say_hello(self, now: float) -> None:
        if self._handshake is None or now >= self._renew_at:
            self._handshake = EdgeHandshake(self._key, wire.message_body(self._wanted), self._entropy)
            self._renew_at = now + self.limits.hello_renew_s
        self._out.append(self._handshake.hello)

    def _say_goodbye(self, now: float) -> None:
        self._gone = self._gone or now >= self._gone_at
        if not self._gone:
            self._say(Bye())
        self._bye_at = now + self.limits.bye_repeat_s

    def _take_welcome(self, datagram: bytes, now: float) -> str:
        """Take in what claims to be the answer to the hello at hand, and return its fate."""
        if self._handshake is None:
            return Drop.UNEXPECTED.value
        established = self._handshake.finish(datagram)
        if established is None:
            return Drop.FORGED.value
        message = wire.read_message(established.body)
        match message:
            case Welcome() if established.session:
                self._enter(established, message)
                self._heard(now)
                self._waiting_since = now  # for the cloud's answer to the question that tells it so
            case Refuse():
                self._handshake = None  # whoever asks again asks with a new hello
                self._events.append(Refused(message.reason, message.detail))
                self._heard(now)
            case _:
                return Drop.BAD_MESSAGE.value
        return message.kind.name.lower()

    def _take_sealed(self, datagram: bytes, number: int, now: float) -> str:
        """Open and take in a control message of the session at hand, and return its fate."""
        if self._session is None or number != self._session.number:
            return Drop.UNKNOWN_SESSION.value
        body = self._session.opener.open_one(datagram)
        if isinstance(body, Verdict):
            return UNSEALED[body].value
        if datagram[2] != Kind.MESSAGE:
            return Drop.UNEXPECTED.value
        message = wire.read_message(body)
        match message:
            case Drop():
                return message.value
            case Result() | Report():
                drop = self._take_answer(message, now)
            case Bye():
                drop, self._session.over = None, True
                self._gone = self._bye_at is not None
                self._lose(now, leaving=True)
            case Pong():
                drop = None
            case _:
                return Drop.UNEXPECTED.value
        self._heard(now)
        if not self.connected and not self._session.over and self._bye_at is None:
            self._connect(fresh=False)
        return message.kind.name.lower() if drop is None else drop.value

    def _heard(self, now: float) -> None:
        self._last_heard = now
        self._waiting_since = now if self.in_flight else None

    def _enter(self, established: Established, welcome: Welcome) -> None:
        """Begin a session; the cloud knows nothing of what an older one awaits, or will not find its edge."""
        self._handshake = None  # the same welcome again would begin the same session again, with its counters
        self._session = _Session(
            established.session,
            Sealer(established.edge_to_cloud, Cipher(self._wanted.cipher), established.session),
            Opener(established.cloud_to_edge, Cipher(self._wanted.cipher)),
            welcome.deadline_ms / 1000,
            welcome.sketches,
        )
        for number in list(self._awaiting):
            self._close(number)
        self._connect(fresh=True)
        self._say(Ping())  # which tells the cloud that the edge has heard it

    def _connect(self, *, fresh: bool) -> None:
        assert self._session is not None, "no link without a session"  # noqa: S101
        self.connected, self._handshake = True, None  # a sign of life in the old session: no new one is needed
        self._repeat_s = self.limits.repeat_s
        self._events.append(Connected(self._session.number, self._session.deadline_s, fresh))

    def _lose(self, now: float, *, leaving: bool) -> None:
        if self.connected:
            self.connected, self._lost_at = False, now
            self._repeat_s = self.limits.repeat_s
            self._events.append(LinkLost(leaving))

    def _take_answer(self, message: Result | Report, now: float) -> Drop | None:
        """Acknowledge a result or report, and note it if it is the first; return why it is of no use, if so."""
        if message.tensor >= self._next_tensor:
            return Drop.UNEXPECTED
        results, reports = self._acks
        (results if isinstance(message, Result) else reports).append(message.tensor)
        awaiting = self._awaiting.get(message.tensor)
        if awaiting is None:
            return Drop.LATE
        if isinstance(message, Result):
            if awaiting.result is not None:
                return Drop.DUPLICATE
            awaiting.result = message
            awaiting.closes_at = now + self.limits.report_timeout_s
            self._events.append(Answered(message.tensor, message))
        else:
            if awaiting.report is not None:
                return Drop.DUPLICATE
            awaiting.report = message
        if awaiting.result is not None and awaiting.report is not None:
            self._close(message.tensor)
        return None

    def _close(self, number: int) -> None:
        tensor = self._awaiting.pop(number)
        self._events.append(Closed(number, tensor.result, tensor.report, tensor.sent))


def new_hello(split: int, rows: int, name: str, cipher: Cipher) -> Hello:
    """Say what an edge wants; UsageError for a name that no hello can carry."""
    text = name.encode(errors="replace")
    if len(text) > wire.MAX_TEXT_BYTES:
        raise UsageError(f"the name has {len(text)} bytes, more than {wire.MAX_TEXT_BYTES}: use a shorter --name")
    return Hello(cipher, split, rows, text.decode())
