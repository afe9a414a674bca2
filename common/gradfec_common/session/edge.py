"""The edge's protocol core: finds the cloud, keeps the link, numbers and seals tensors, acknowledges answers.

`states` says which states an edge can be in, and what leads from one to another.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.errors import UsageError
from gradfec_common.heads import Answer, Head
from gradfec_common.keys import Entropy
from gradfec_common.networks import Cut
from gradfec_common.replay import Verdict
from gradfec_common.seal import UNSEALED, Opener, Sealer
from gradfec_common.session.contact import Contact
from gradfec_common.session.edge_events import (
    Answered,
    Closed,
    Connected,
    EdgeLimits,
    Event,
    LinkLost,
    Refused,
    Reported,
)
from gradfec_common.session.handshake import EdgeHandshake, Established, HandshakeKey
from gradfec_common.session.in_flight import InFlight
from gradfec_common.session.states import EdgeEvent, EdgeState
from gradfec_common.sketch import Sketch, sketch_bytes, sketch_parts
from gradfec_common.transmit import EncodedTensor
from gradfec_common.wire import (
    Batch,
    Bye,
    Drop,
    Hello,
    Kind,
    Message,
    Ping,
    Pong,
    Refuse,
    Report,
    Request,
    Result,
    Welcome,
)

__all__ = [
    "Answered",
    "Closed",
    "Connected",
    "EdgeLimits",
    "EdgeSession",
    "Event",
    "LinkLost",
    "Refused",
    "Reported",
    "new_hello",
]

# Of a question while answers are due: the cloud sends an edge that has moved no more bytes than it gets from there.
PADDING = bytes(wire.MAX_PADDING_BYTES)


@dataclass(frozen=True)
class _Session:
    """What the edge keeps of a session."""

    number: int
    sealer: Sealer
    opener: Opener
    deadline_s: float
    sketches: bool  # whether the cloud wants some
    forms: frozenset[int]  # of tensors that the cloud takes


class EdgeSession:
    """The edge's end of the protocol."""

    def __init__(
        self,
        hello: Hello,
        head: Head,
        key: HandshakeKey,
        entropy: Entropy,
        now: float,
        limits: EdgeLimits | None = None,
    ) -> None:
        """Look for a cloud that has the key; `head` reads its answers, and `entropy` gives random bytes."""
        self.limits = limits or EdgeLimits()
        self.counts: Counter[str] = Counter()  # datagrams received, by kind or drop reason
        self._wanted, self._head, self._key, self._entropy = hello, head, key, entropy
        self._handshake: EdgeHandshake | None = None
        self._renew_at = now  # when the next hello is a new one
        self._session: _Session | None = None
        self._contact = Contact(self.limits, now)
        self._sketch_at = now  # when the next one may go
        self._tensors = InFlight(self.limits)
        self._out: list[bytes] = []
        self._events: deque[Event] = deque()

    # --- the five verbs ---

    def receive(self, batch: Batch, now: float) -> None:
        """Take in untrusted datagrams from the cloud's address."""
        found = wire.sort_batch(batch)
        for reason, rows in found.drops.items():
            self.counts[reason.value] += len(rows)
        if len(found.hellos):
            self.counts[Drop.UNEXPECTED.value] += len(found.hellos)
        for row, number in zip(found.sealed.tolist(), found.headers["session"].tolist(), strict=True):
            self.counts[self._receive_sealed(batch.datagram(row).tobytes(), number, now)] += 1
        for row in found.welcomes.tolist():  # last, because continuing a session is better than starting one
            self.counts[self._receive_welcome(batch.datagram(row).tobytes(), now)] += 1

    def datagrams_to_send(self) -> list[bytes]:
        """Return the datagrams that are due, each once; of a tensor's symbols, only those that the cloud asked for."""
        for ack in self._tensors.acknowledgements():
            self._say(ack)
        out, self._out = self._out, []
        return out

    def next_timer(self) -> float:
        """Return when `handle_timer` is next due."""
        return min(self._contact.next_timer, self._tensors.closes_next_at)

    def handle_timer(self, now: float) -> None:
        """Do what is due: hellos, questions, goodbyes, and giving up on tensors."""
        self._events += self._tensors.give_up_overdue(now, tell=self.connected)
        if self._contact.silence(now):
            self._events.append(LinkLost(leaving=False))
        due = self._contact.due(now)
        if due.question:
            self._say(Ping(PADDING if self.open_tensors else b""))
        if due.hello:
            self._say_hello(now)
        if due.goodbye:
            self._say(Bye())

    def next_event(self) -> Event | None:
        """Return the next event, or None."""
        return self._events.popleft() if self._events else None

    # --- for the shell ---

    @property
    def state(self) -> EdgeState:
        """Where the edge stands with its cloud."""
        return self._contact.state

    @property
    def connected(self) -> bool:
        """Whether tensors may be opened."""
        return self._contact.connected

    @property
    def left(self) -> bool:
        """Whether the goodbye is over, and nothing more is expected from the cloud."""
        return self.state is EdgeState.LEFT

    @property
    def session(self) -> int:
        """The session's number, 0 before the first."""
        return self._session.number if self._session else 0

    @property
    def in_flight(self) -> int:
        """Tensors that still await their answer."""
        return self._tensors.unanswered

    @property
    def open_tensors(self) -> int:
        """Tensors that are not closed yet."""
        return len(self._tensors)

    def open_tensor(
        self, encoded: EncodedTensor, now: float, sending_s: float = 0.0, first_tensor: int | None = None
    ) -> tuple[int, wire.Bytes]:
        """Number a tensor and return it with (m, bytes) bodies, to go through `seal` in their order, each once.

        `sending_s` is how long sending will take: the edge waits for the answer that much longer. `first_tensor` is the
        number of the frame's first one, if this is the second. ValueError if no tensor may be opened now.
        """
        if not self.connected or self.open_tensors >= self.limits.tensors_in_flight:
            raise ValueError("no tensor may be opened now: not connected, or too many in flight")
        if first_tensor is not None and not self.may_look_again(first_tensor):
            raise ValueError(f"tensor {first_tensor} is too old for a second look")
        number, bodies = self._tensors.open(encoded, now + sending_s, first_tensor)
        self._contact.question(now)
        return number, bodies

    def may_look_again(self, first_tensor: int) -> bool:
        """Return whether the next tensor can still say that it is the second one of the frame of `first_tensor`.

        It cannot if that was too long ago, or in another session.
        """
        return self._tensors.may_look_again(first_tensor)

    def seal(self, tensor: int, bodies: wire.Bytes) -> wire.Bytes | None:
        """Seal (m, bytes) bodies of a tensor into as many datagrams; None if its answer is no longer awaited."""
        if self._session is None or not self._tensors.count_sealed(tensor, len(bodies)):
            return None
        return self._session.sealer.seal(Kind.SYMBOL, bodies)

    def wants_sketch(self, now: float) -> bool:
        """Return whether the cloud wants sketches, and the next one is due."""
        return self.connected and self._session is not None and self._session.sketches and now >= self._sketch_at

    def send_sketch(self, tensor: int, sketch: Sketch, now: float, form: int = 0) -> int:
        """Send the cloud a sketch of a tensor of a form, in parts, each once; return their bytes of UDP payload."""
        self._sketch_at = now + self.limits.sketch_every_s
        before = len(self._out)
        for part in sketch_parts(tensor, sketch_bytes(sketch), form):
            self._say(part)
        return sum(map(len, self._out[before:]))

    def leave(self, now: float) -> None:
        """Close open tensors as they stand, and say goodbye until the cloud has heard it: see `left`."""
        self._events += self._tensors.give_up_all()
        self._contact.leave(now)
        self._handshake = None  # no new session
        self.handle_timer(now)

    # --- sending ---

    def _say(self, message: Message) -> None:
        if self._session is not None:
            self._out.append(self._session.sealer.seal_one(Kind.MESSAGE, wire.message_body(message)))

    def _send_more(self, session: _Session, request: Request) -> None:
        bodies = self._tensors.asked_for(request.tensor, request.until)
        if bodies is not None:
            self._out += [row.tobytes() for row in session.sealer.seal(Kind.SYMBOL, bodies)]

    def _say_hello(self, now: float) -> None:
        if self._handshake is None or now >= self._renew_at:
            self._handshake = EdgeHandshake(self._key, wire.message_body(self._wanted), self._entropy)
            self._renew_at = now + self.limits.hello_renew_s
        self._out.append(self._handshake.hello)

    # --- receiving ---

    def _receive_welcome(self, datagram: bytes, now: float) -> str:
        """Take in a datagram that claims to answer the current hello, and return its fate."""
        if self._handshake is None:
            return Drop.UNEXPECTED.value
        established = self._handshake.finish(datagram)
        if established is None:
            return Drop.FORGED.value
        message = wire.read_message(established.body)
        match message:
            case Welcome() if established.session:
                self._enter(established, message, now)
            case Refuse():
                self._contact.move(EdgeEvent.REFUSAL)
                self._handshake = None  # the next hello is a new one
                self._events.append(Refused(message.reason, message.detail))
            case _:
                return Drop.BAD_MESSAGE.value
        return message.kind.name.lower()

    def _receive_sealed(self, datagram: bytes, number: int, now: float) -> str:
        """Open and take in a control message of the session at hand, and return its fate."""
        if self._session is None or number != self._session.number:
            return Drop.UNKNOWN_SESSION.value
        body = self._session.opener.open_one(datagram)
        if isinstance(body, Verdict):
            return UNSEALED[body].value
        if datagram[2] != Kind.MESSAGE:
            return Drop.UNEXPECTED.value
        message, drop = wire.read_message(body), None
        match message:
            case Drop():
                return message.value
            case Bye():
                if self._contact.goodbye():
                    self._events.append(LinkLost(leaving=True))
            case Result():
                answer = self._read(message)
                if answer is None:
                    return Drop.BAD_MESSAGE.value
                drop, news = self._tensors.receive_result(message, answer, now)
                self._events += news
                self._hear(self._session, now)
            case Report():
                drop, reported = self._tensors.receive_report(message)
                self._events += reported
                self._hear(self._session, now)
            case Request():
                self._send_more(self._session, message)
                self._hear(self._session, now)
            case Pong():
                self._hear(self._session, now)
            case _:
                return Drop.UNEXPECTED.value
        return message.kind.name.lower() if drop is None else drop.value

    def _read(self, result: Result) -> Answer | None:
        try:
            return self._head.read(result.answer)
        except Exception:  # a head that somebody added may raise anything; the message is then useless
            return None

    def _enter(self, established: Established, welcome: Welcome, now: float) -> None:
        """Begin a session. Open tensors of an older one get no answer, because the cloud may not know it any more."""
        self._contact.welcome(now)
        self._session = _Session(
            established.session,
            Sealer(established.edge_to_cloud, Cipher(self._wanted.cipher), established.session),
            Opener(established.cloud_to_edge, Cipher(self._wanted.cipher)),
            welcome.deadline_ms / 1000,
            welcome.sketches,
            frozenset(welcome.forms),
        )
        self._events += self._tensors.begin_session()
        self._connect(self._session, fresh=True)
        self._say(Ping())  # tells the cloud that the edge has the welcome

    def _hear(self, session: _Session, now: float) -> None:
        """Note a sign of life in the session at hand."""
        if self._contact.sign_of_life(now, more_owed=self.in_flight > 0):
            self._connect(session, fresh=False)

    def _connect(self, session: _Session, *, fresh: bool) -> None:
        self._handshake = None  # the same welcome again would begin the same session again, with its counters
        self._events.append(Connected(session.number, session.deadline_s, fresh, session.forms))


def new_hello(cut: Cut, rows: int, name: str, cipher: Cipher, also: Sequence[tuple[Cut, int]] = ()) -> Hello:
    """Return what an edge asks for; UsageError for a name that no hello can carry.

    Its tensors are of `cut`, with packets of `rows`, or of one of `also`, if the cloud takes them.
    """
    text = name.encode(errors="replace")
    if len(text) > wire.MAX_TEXT_BYTES:
        raise UsageError(f"the name has {len(text)} bytes, more than {wire.MAX_TEXT_BYTES}: use a shorter --name")
    others = [[cut.network.digest, cut.id, rows] for cut, rows in also]
    return Hello(cipher, cut.network.digest, cut.id, rows, text.decode(), others)
