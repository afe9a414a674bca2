"""Both receivers under virtual time and seeded entropy, and what must hold of them after every step."""

from __future__ import annotations

import random
import zlib
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from unittest import mock

import numpy as np
from tests.common.small_tensors import CUT, GRID, ZERO, alone, features, planned
from tests.common.toys import Deflate

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.codes import BARE, CODES, ZFEC
from gradfec_common.decode import decode_tensor
from gradfec_common.heads import Classes, Classify
from gradfec_common.keys import Entropy, Key
from gradfec_common.protect import Group, Plan
from gradfec_common.quantisers import QUANTISERS, Coded, Quantiser
from gradfec_common.reassembly import Reassembly
from gradfec_common.replay import Verdict
from gradfec_common.seal import Opener, Sealer
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import Answered, Closed, EdgeLimits, EdgeSession, new_hello
from gradfec_common.session.events import CloudLimits, Decided, GivenUp, SessionEnded, Sketched
from gradfec_common.session.handshake import EdgeHandshake, Established, HandshakeKey, answer_hello, read_hello
from gradfec_common.sketch import JPEG_MAGIC, Sketch, plan_fates
from gradfec_common.transmit import EncodedTensor, encode_tensor, room_for
from gradfec_common.wire import Hello, Kind

HONEST_KEY = HandshakeKey(Key(b"h" * 32), "honest")
INSIDERS_KEY = HandshakeKey(Key(b"i" * 32), "insider")
STRANGERS_KEY = HandshakeKey(Key(b"s" * 32))
KEYS = {key.id: key for key in (HONEST_KEY, INSIDERS_KEY)}

START_S = 100.0
DEADLINE_S = 0.25
BACK_END_S = 0.02  # from a tensor's decision to its answer
CIPHER = Cipher.AES_256_GCM
HONEST, INSIDER, OUTSIDER = ("honest", 1), ("insider", 2), ("outsider", 3)
PEERS = (OUTSIDER, HONEST, INSIDER)
HEAD = Classify(2**16)
DEFLATE = Deflate()  # a stranger's quantiser, whose packets are of any lengths
UNIFORM8 = QUANTISERS["uniform8"]
LAST_CODE = CODES[max(CODES)]  # leopard where there is one
NONE = np.empty(0, np.intp)


def coded(quantiser: Quantiser, seed: int) -> Coded:
    """Code a tensor; every other packet of it has few different elements, and so is short where lengths differ."""
    packets = GRID.split(features(np.random.default_rng(seed)))
    packets[::2] = np.ceil(packets[::2])
    return quantiser.encode(GRID.join(packets), GRID)


DEFLATED = coded(DEFLATE, 4).packets.sizes
KINDS: tuple[tuple[Quantiser, Plan], ...] = (
    (
        UNIFORM8,
        Plan(
            GRID.count,
            np.array([11]),
            (Group(7, (alone([3, 1, 4, 0], ZFEC),)), Group(9, (alone([5, 9, 2, 6, 8, 7, 10], ZFEC),))),
        ),
    ),
    (UNIFORM8, planned("none")),
    (UNIFORM8, Plan(GRID.count, np.arange(6), (Group(12, (alone(np.arange(6, 12), LAST_CODE, 32),)),))),
    (
        QUANTISERS["sqrt4"],
        replace(planned("nested:2,4/6", sizes=np.full(GRID.count, 14), room=room_for(4)), reserve=2),
    ),
    (DEFLATE, planned("FEC_20_80", sizes=DEFLATED, room=room_for(0, packets_a_symbol=2))),
    (
        UNIFORM8,
        Plan(
            GRID.count,
            NONE,
            (
                Group(5, (alone([0, 1], ZFEC), alone([2, 3, 4], ZFEC, 40))),
                Group(4, (alone([5, 6, 7, 8], BARE, 40), alone([9, 10, 11], ZFEC))),
            ),
        ),
    ),
)
MOST_HELD = max(plan.sent * plan.symbol_bytes for _, plan in KINDS)


def entropy(seed: int) -> Entropy:
    """Return a source of bytes that are the same each time."""
    return random.Random(seed).randbytes


@dataclass(frozen=True)
class Content:
    """A tensor to be sent, and the back-end's answer if nothing of it is missing or wrong."""

    encoded: EncodedTensor
    answer: int

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of tensor 0 that are to be sealed, in send order."""
        return [body.tobytes() for body in self.encoded.bodies(0)]


@lru_cache
def content(number: int) -> Content:
    """Return the tensor of a kind."""
    quantiser, plan = KINDS[number]
    encoded = encode_tensor(coded(quantiser, number), quantiser, plan)
    bodies = encoded.bodies(0)
    with registered():
        whole = Reassembly(bodies[0].tobytes(), GRID)
        whole.add(bodies)
        return Content(encoded, answer_to(whole))


@contextmanager
def registered() -> Iterator[None]:
    """Let the receivers have the stranger's quantiser."""
    with mock.patch.dict(QUANTISERS, {DEFLATE.name: DEFLATE}):
        yield


def sketch_of(chosen: Content) -> Sketch:
    """Return the sketch of a tensor, which has a photograph of a kind."""
    importance = np.arange(GRID.count, dtype=np.uint8)
    return Sketch(plan_fates(chosen.encoded.plan), importance, JPEG_MAGIC + bytes([chosen.answer % 256]) * 1500)


def answer_to(arrived: Reassembly) -> int:
    """Return the back-end's answer, which depends on the features."""
    return zlib.crc32(decode_tensor(arrived, ZERO).tensor.tobytes()) & 0xFFFF


class Insider:
    """Somebody with a key, who seals anything, in one session after the other."""

    def __init__(self, seed: int, key: HandshakeKey = INSIDERS_KEY, peer: Hashable = INSIDER) -> None:
        self.key, self.peer, self._entropy = key, peer, entropy(seed)
        self._greeting: EdgeHandshake | None = None
        self.sealer: Sealer | None = None
        self.opener: Opener | None = None
        self._cipher = CIPHER

    def hello(self, body: bytes, cipher: int = CIPHER) -> bytes:
        """Say a new hello."""
        self._greeting = EdgeHandshake(self.key, body, self._entropy)
        self._cipher = Cipher(cipher) if cipher in {*Cipher} else CIPHER
        return self._greeting.hello

    def hear(self, datagram: bytes) -> bytes | None:
        """Take in what the cloud says; return the body of what is sealed."""
        if datagram[2] == Kind.WELCOME:
            established = self._greeting and self._greeting.finish(datagram)
            if established and established.session:
                self.sealer = Sealer(established.edge_to_cloud, self._cipher, established.session)
                self.opener = Opener(established.cloud_to_edge, self._cipher)
            return None
        body = self.opener.open_one(datagram) if self.opener else Verdict.FORGED
        return None if isinstance(body, Verdict) else body


class CloudWorld:
    """A cloud with an honest edge, under a clock that the target moves; checks what must hold after every step."""

    def __init__(self, edge_seed: int = 2, **limits: float) -> None:
        self.now = START_S
        self.core = CloudSessions([CUT], DEADLINE_S, KEYS, entropy(1), CloudLimits(**limits), sketches=True)
        self.fed = 0
        self.bytes_from: Counter[Hashable] = Counter()
        self.bytes_to: Counter[Hashable] = Counter()
        self.log: list[bytes] = []  # what has been on the wire, both ways
        self.to_others: list[tuple[bytes, Hashable]] = []
        self._back_end: deque[tuple[float, Decided]] = deque()
        hello = new_hello(CUT, GRID.rows, "honest", CIPHER)
        self.edge = EdgeSession(hello, HEAD, HONEST_KEY, entropy(edge_seed), self.now)
        self.expected: dict[int, int] = {}  # the answer to each of the honest edge's tensors
        self.answered: dict[int, int] = {}
        self.closed: dict[int, Closed] = {}
        self._overloaded = 0
        self.crowded = False  # whether others had more than their share with the back-end, from when shares were larger
        self.wait(0.001)
        assert self.edge.connected

    # --- the network ---

    def feed(self, datagrams: Iterable[tuple[bytes, Hashable]]) -> None:
        """Take in a batch, and deliver the replies."""
        self.receive(datagrams)
        self.settle()

    def receive(self, datagrams: Iterable[tuple[bytes, Hashable]]) -> None:
        """Take in a batch."""
        batch = [*datagrams]
        if not batch:
            return
        self.core.receive(wire.batch_of([d for d, _ in batch], [peer for _, peer in batch]), self.now)
        self.fed += len(batch)
        for datagram, peer in batch:
            self.bytes_from[peer] += len(datagram)
            self.log.append(datagram)
        self.check()

    def settle(self) -> None:
        """Deliver what cloud and honest edge say to each other, until both are silent."""
        while True:
            while (event := self.core.next_event()) is not None:
                if isinstance(event, Decided):
                    self._back_end.append((self.now + BACK_END_S, event))
                elif isinstance(event, SessionEnded):
                    self._forget(event.session)
                elif isinstance(event, GivenUp):
                    self._forget(event.session, event.tensor)
                elif isinstance(event, Sketched):
                    assert event.sketch.fates.shape == event.sketch.importance.shape == (GRID.count,)
                    assert event.edge != "honest" or event.sketch.photograph.startswith(JPEG_MAGIC)
            out = self.core.datagrams_to_send()
            for datagram, peer in out:
                assert len(datagram) <= wire.MAX_DATAGRAM_BYTES
                self.bytes_to[peer] += len(datagram)
                assert self.bytes_to[peer] <= self.bytes_from[peer], "more bytes went to an address than came from it"
            self.log += [datagram for datagram, _ in out]
            to_edge = [datagram for datagram, peer in out if peer == HONEST]
            self.to_others += [(datagram, peer) for datagram, peer in out if peer != HONEST]
            if to_edge:
                self.edge.receive(wire.batch_of(to_edge, [None] * len(to_edge)), self.now)
            from_edge = self.edge.datagrams_to_send()
            while (event := self.edge.next_event()) is not None:
                self._note(event)
            if not from_edge and not out:
                return
            self.receive((datagram, HONEST) for datagram in from_edge)

    def _note(self, event: object) -> None:
        if isinstance(event, Answered):
            self.answered[event.tensor] = event.result.answer[0][0]
        elif isinstance(event, Closed):
            assert event.tensor not in self.closed
            self.closed[event.tensor] = event

    def wait(self, seconds: float) -> None:
        """Let time pass, with each timer handled when it is due."""
        end = self.now + seconds
        while True:
            timer = self.core.next_timer()
            back_end = self._back_end[0][0] if self._back_end else None
            due = min(t for t in (timer, back_end, self.edge.next_timer(), end) if t is not None)
            if due >= end:
                break
            self.now = max(self.now, due)
            if timer is not None and timer <= self.now:
                self.core.handle_timer(self.now)
                assert (self.core.next_timer() or self.now + 1) > self.now, "the shell would spin"
            while self._back_end and self._back_end[0][0] <= self.now:
                self._answer(self._back_end.popleft()[1])
            if self.edge.next_timer() <= self.now:
                self.edge.handle_timer(self.now)
            self.check()
            self.settle()
        self.now = end

    def _forget(self, session: int, tensor: int | None = None) -> None:
        """Fail a session's tensors that wait for the back-end, or one of them, as the shell does."""
        for waiting in [waiting for waiting in self._back_end if waiting[1].session == session]:
            if tensor in (None, waiting[1].tensor):
                self._back_end.remove(waiting)
                self.core.fail(waiting[1])

    def _answer(self, decided: Decided) -> None:
        result = decode_tensor(decided.arrived, ZERO)
        answer = Classes(((answer_to(decided.arrived), "checksum", 1.0),))
        self.core.answer(decided, answer, result.recovered, result.missing, {"decode": 1.0}, self.now)

    # --- the honest edge ---

    def send(self, number: int) -> list[tuple[bytes, Hashable]]:
        """Let the honest edge open a tensor; return its datagrams."""
        self.settle()
        chosen = content(number)
        tensor, bodies = self.edge.open_tensor(chosen.encoded, self.now)
        self.expected[tensor] = chosen.answer
        if self.edge.wants_sketch(self.now):
            self.edge.send_sketch(tensor, sketch_of(chosen), self.now)
        sealed = self.edge.seal(tensor, bodies)
        assert sealed is not None
        return [(datagram.tobytes(), HONEST) for datagram in sealed]

    def finish(self) -> None:
        """Check that the honest edge gets the right answer to each tensor that it has sent."""
        self.wait(1.0)
        for number, answer in self.answered.items():
            assert answer == self.expected[number], f"tensor {number} is answered wrongly"
        assert self.crowded or self.answered == self.expected, f"{self.answered} instead of {self.expected}"
        for number in self.answered:
            closed = self.closed[number]
            assert closed.result is not None
            assert closed.result.outcome == "complete"
            assert closed.report is not None
            assert closed.report.received == closed.report.sent
        assert self.edge.connected

    # --- what must hold ---

    def check(self) -> None:
        """Check the books and the bounds."""
        core, limits = self.core, self.core.limits
        assert sum(core.counts.values()) == self.fed, "not exactly one fate each"
        tensors = core.tensors
        assert tensors["opened"] == sum(tensors.values()) - tensors["opened"] + core.open_tensors
        sessions = [*core._sessions]
        tensors_of = core._tensors._sessions
        assert core.held_bytes <= limits.reassembly_bytes, "reassembly_bytes"
        share = max(limits.pending_tensors, len(sessions)) // max(len(sessions), 1)
        rightful = sum(min(mine.pending, share) for mine in tensors_of.values())
        if core.tensors["overloaded"] > self._overloaded and core._tensors._pending > rightful:
            self.crowded = True
        self._overloaded = core.tensors["overloaded"]
        assert len(sessions) <= limits.sessions
        assert max(Counter(session.key.id for session in sessions).values(), default=0) <= limits.sessions_per_key
        pending = max(limits.pending_tensors, limits.sessions)
        assert core._tensors._pending <= pending
        for session in sessions:
            answers = core._repeater._messages.get(session.id, ())
            assert len(answers) <= limits.answers_per_session
        for mine in tensors_of.values():
            assert len(mine.tensors) <= limits.tensors_per_session + limits.pending_tensors
            assert len(mine.collecting) <= limits.tensors_per_session
            assert len(mine.window._finished) <= 2 * limits.tensor_window + 1
        for sketch in core._sketches._newest.values():
            assert sketch.held_bytes <= limits.sketch_bytes
        assert len(core._reception._greeter._greeted) <= limits.greetings
        assert len(core._reception._greeter._by_host) <= limits.addresses
        unheard = sum(len(mine.unheard) for mine in tensors_of.values())
        assert unheard <= limits.unheard_tensors * len(tensors_of)
        assert len(core._tensors._timers._things) <= core.open_tensors + unheard
        assert len(core._repeater._timers._things) == core.unacknowledged


class EdgeWorld:
    """An edge and somebody who speaks for its cloud, under a clock that the target moves."""

    def __init__(self, seed: int = 2, **limits: float) -> None:
        self.now = START_S
        hello = new_hello(CUT, GRID.rows, "honest", CIPHER)
        self.core = EdgeSession(hello, HEAD, HONEST_KEY, entropy(seed), self.now, EdgeLimits(**limits))
        self.log: list[bytes] = []  # what the edge was told
        self._entropy = entropy(3)
        self.fed = 0
        self.hellos: list[bytes] = []
        self.sessions: list[tuple[Established, Sealer, Opener]] = []  # that the cloud has opened
        self.heard: list[object] = []  # messages from the edge
        self.opened: set[int] = set()
        self.closed: set[int] = set()
        self.more: set[bytes] = set()  # number and position of what the cloud has asked for
        self.wait(0)

    def wait(self, seconds: float) -> None:
        """Let time pass, with each timer handled when it is due."""
        end = self.now + seconds
        while not self.core.left and (due := self.core.next_timer()) <= end:
            self.now = max(due, self.now)
            self.core.handle_timer(self.now)
            assert self.core.next_timer() > self.now, "the shell would spin"
            self.settle()
        self.now = end

    def receive(self, *datagrams: bytes) -> None:
        """Take in a batch."""
        if datagrams:
            self.core.receive(wire.batch_of(datagrams, [None] * len(datagrams)), self.now)
            self.fed += len(datagrams)
        assert sum(self.core.counts.values()) == self.fed, "not exactly one fate each"

    def settle(self) -> None:
        """Look at what the edge says and does."""
        for datagram in self.core.datagrams_to_send():
            assert len(datagram) <= wire.MAX_DATAGRAM_BYTES
            if datagram[2] == Kind.HELLO:
                self.hellos.append(datagram)
            elif datagram[2] == Kind.SYMBOL:
                place = self._opened(datagram)[:6]
                assert place not in self.more, "a position is sent twice"
                self.more.add(place)
            else:
                self.heard.append(wire.read_message(self._opened(datagram)))
        while (event := self.core.next_event()) is not None:
            if isinstance(event, Closed):
                assert event.tensor not in self.closed, "closed twice"
                self.closed.add(event.tensor)
        assert self.opened - self.closed == set(self.core._tensors._tensors)
        assert self.core.in_flight <= self.core.limits.tensors_in_flight

    def _opened(self, datagram: bytes) -> bytes:
        """Open what the edge has sealed: each counter is used once, whatever the cloud does."""
        number = int.from_bytes(datagram[4:8], "big")
        for established, _, opener in reversed(self.sessions):
            if established.session == number:
                body = opener.open_one(datagram)
                if body is not Verdict.FORGED:
                    assert not isinstance(body, Verdict), f"a counter was used again: {body.name}"
                    return body
        raise AssertionError("the edge has sealed something for nobody")

    def welcome(self, session: int, body: bytes) -> bytes:
        """Answer the edge's last hello with the key."""
        hello = read_hello(self.hellos[-1], KEYS)
        welcome, established = answer_hello(hello, session, body, self._entropy)
        sealer = Sealer(established.cloud_to_edge, CIPHER, established.session)
        self.sessions.append((established, sealer, Opener(established.edge_to_cloud, CIPHER)))
        return welcome

    def seal(self, body: bytes, kind: Kind = Kind.MESSAGE) -> bytes:
        """Seal something in the latest session."""
        return self.sessions[-1][1].seal_one(kind, body)

    def open(self) -> None:
        """Let the edge send a tensor, if it may."""
        if self.core.connected and self.core.open_tensors < self.core.limits.tensors_in_flight:
            number, bodies = self.core.open_tensor(content(3 * (len(self.opened) % 2)).encoded, self.now)
            self.opened.add(number)
            if self.core.wants_sketch(self.now):
                self.core.send_sketch(number, sketch_of(content(0)), self.now)
            sealed = self.core.seal(number, bodies)
            assert sealed is not None
            for datagram in sealed:
                self._opened(datagram.tobytes())


def hello_body(**changes: Any) -> bytes:
    """Return the body of a hello."""
    return wire.message_body(replace(Hello(CIPHER, CUT.network.digest, CUT.id, GRID.rows, "e"), **changes))
