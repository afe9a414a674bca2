"""Observers inside the cores: every key, nonce, hello and sealed datagram of a run, and what must become of each.

While `watched()` lasts, everything that a core seals, opens or answers is noted in the ledger of the latest simulation.
A process runs one at a time. A second receiver checks what each receiver makes of a datagram. It has no keys: it knows
who sealed what, and follows docs/reference/protocol.md, section 4.4, to the letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest import mock

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from tests.common.toys import Deflate

from gradfec_common import seal, wire
from gradfec_common.ciphers import AEADS, Cipher
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.replay import Verdict, Verdicts
from gradfec_common.seal import Opener, Sealer
from gradfec_common.session import edge, handshake, reception
from gradfec_common.session.handshake import AuthenticHello, Established, HandshakeKey
from gradfec_common.session.rates import Allowance
from gradfec_common.wire import Hello, Kind

DEFLATE = Deflate()  # a stranger's quantiser, whose packets are of any lengths


class Sealed(NamedTuple):
    """A datagram that a key holder has sealed."""

    secret: bytes  # of the session's direction
    session: int
    counter: int
    body: bytes


class Welcomed(NamedTuple):
    """A hello and the cloud's answer to it."""

    hello: bytes
    session: int  # 0: refused
    key: bytes  # its id
    name: str  # that the edge gives itself
    up: bytes  # the secret of what the edge seals
    down: bytes


@dataclass
class Receiver:
    """What docs/reference/protocol.md, section 4.4, says of datagrams in one direction of a session."""

    secret: bytes
    epoch: int
    window: int
    newest: int = -1
    taken: set[int] = field(default_factory=set)  # counters

    def judge(self, sealed: dict[bytes, Sealed], datagrams: Sequence[bytes]) -> list[Verdict]:
        """Return the verdict on each datagram, one after the other; the epochs in reach are those before the batch."""
        newest, reach = self.newest, max(self.newest, 0) // self.epoch
        taken_now: set[int] = set()
        verdicts = []
        for datagram in datagrams:
            author = sealed.get(datagram)
            counter = int.from_bytes(datagram[8:16], "big")
            if len(datagram) < wire.SEAL_BYTES:
                verdicts.append(Verdict.FORGED)
            elif counter <= newest - self.window:
                verdicts.append(Verdict.TOO_OLD)
            elif counter in self.taken and counter not in taken_now:
                verdicts.append(Verdict.REPLAYED)
            elif author is None or author.secret != self.secret or abs(counter // self.epoch - reach) > 1:
                verdicts.append(Verdict.FORGED)
            elif counter <= self.newest - self.window:  # an earlier one of these has moved the window
                verdicts.append(Verdict.TOO_OLD)
            elif counter in taken_now:
                verdicts.append(Verdict.REPLAYED)
            else:
                verdicts.append(Verdict.OK)
                self.taken.add(counter)
                taken_now.add(counter)
                self.newest = max(self.newest, counter)
        return verdicts


class Ledger:
    """Everything that was sealed, opened and answered in a run."""

    def __init__(
        self, epoch: int = seal.REKEY_DATAGRAMS, window: int = seal.REPLAY_WINDOW, per_s: float = 0, burst: float = 0
    ) -> None:
        """Set the datagrams of an epoch, the counters of a replay window, and the least that a session may send."""
        self.epoch, self.window = epoch, window
        self.per_s, self.burst = per_s, burst
        self.lying = False  # a liar may use a nonce twice: it harms only itself
        self.nonces: set[tuple[bytes, bytes]] = set()  # with their keys
        self.hellos: set[bytes] = set()  # of key holders
        self.sealed: dict[bytes, Sealed] = {}
        self.sealers: set[bytes] = set()  # secrets
        self.receivers: dict[bytes, Receiver] = {}  # by secret
        self.accepted: set[bytes] = set()  # datagrams, ever
        self.fresh: list[bytes] = []  # of them, those since the last `take`
        self.welcomes: dict[bytes, Welcomed] = {}  # by the datagram
        self.sessions: dict[int, Welcomed] = {}

    def take(self) -> list[bytes]:
        """Return the datagrams that were accepted since the last call."""
        fresh, self.fresh = self.fresh, []
        return fresh

    def use(self, key: bytes, nonce: bytes) -> None:
        """Note that something is sealed; liars are ignored."""
        if not self.lying:
            assert (key, nonce) not in self.nonces, "a nonce is used twice with the same key"
            self.nonces.add((key, nonce))

    def note(self, secret: bytes, session: int, counter: int, datagram: bytes, body: bytes) -> None:
        """Note a datagram that somebody who has the session's keys has sealed."""
        self.sealed[datagram] = Sealed(secret, session, counter, body)

    def check(self, secret: bytes, datagrams: list[bytes], verdicts: list[Verdict], bodies: list[bytes]) -> None:
        """Compare what a receiver made of datagrams with what it should."""
        expected = self.receivers[secret].judge(self.sealed, datagrams)
        for datagram, verdict, due, body in zip(datagrams, verdicts, expected, bodies, strict=True):
            assert verdict is due, f"a datagram is judged {verdict.name} instead of {due.name}"
            if verdict is Verdict.OK:
                assert datagram not in self.accepted, "a datagram is accepted twice"
                assert body == self.sealed[datagram].body, "a body is not what was sealed"
                self.accepted.add(datagram)
                self.fresh.append(datagram)


_ledger = Ledger()


def begin(ledger: Ledger) -> Ledger:
    """Note everything in this ledger from now on."""
    global _ledger  # noqa: PLW0603 - whatever the cores import cannot be told otherwise
    _ledger = ledger
    return ledger


def epoch_datagrams() -> int:
    """Return how many datagrams an epoch has."""
    return _ledger.epoch


class WatchedAead:
    """An AEAD that no nonce may be used twice with."""

    def __init__(self, aead: Any, key: bytes) -> None:
        self.aead, self.key = aead, key

    def encrypt(self, nonce: bytes, data: bytes, associated: bytes) -> Any:
        _ledger.use(self.key, nonce)
        return self.aead.encrypt(nonce, data, associated)

    def decrypt(self, nonce: bytes, data: bytes, associated: bytes) -> Any:
        return self.aead.decrypt(nonce, data, associated)


class WatchedSealer(Sealer):
    """Notes what it seals."""

    def __init__(self, secret: bytes, cipher: Cipher, session: int) -> None:
        assert secret not in _ledger.sealers, "two sealers share a direction of a session"
        _ledger.sealers.add(secret)
        super().__init__(secret, cipher, session, _ledger.epoch)
        self.secret = secret

    def seal(self, kind: Kind, bodies: wire.Bytes) -> wire.Bytes:
        datagrams = super().seal(kind, bodies)
        for datagram, body in zip(datagrams, bodies, strict=True):
            whole = datagram.tobytes()
            _ledger.note(self.secret, self._session, int.from_bytes(whole[8:16], "big"), whole, body.tobytes())
        return datagrams

    def seal_one(self, kind: Kind, body: bytes) -> bytes:
        datagram = super().seal_one(kind, body)
        _ledger.note(self.secret, self._session, int.from_bytes(datagram[8:16], "big"), datagram, body)
        return datagram


class WatchedOpener(Opener):
    """Is compared with the second receiver."""

    def __init__(self, secret: bytes, cipher: Cipher) -> None:
        assert secret not in _ledger.receivers, "a receiver begins anew: it would accept everything again"
        _ledger.receivers[secret] = Receiver(secret, _ledger.epoch, _ledger.window)
        super().__init__(secret, cipher, _ledger.epoch, _ledger.window)
        self.secret = secret

    def open(self, datagrams: wire.Bytes) -> tuple[wire.Bytes, Verdicts]:
        bodies, verdicts = super().open(datagrams)
        found = [Verdict(int(verdict)) for verdict in verdicts]
        _ledger.check(self.secret, [row.tobytes() for row in datagrams], found, [row.tobytes() for row in bodies])
        return bodies, verdicts

    def open_one(self, datagram: bytes) -> bytes | Verdict:
        body = super().open_one(datagram)
        failed = isinstance(body, Verdict)
        _ledger.check(self.secret, [datagram], [body if failed else Verdict.OK], [b"" if failed else body])
        return body


def _answer_hello(original: Callable[..., Any]) -> Callable[..., Any]:
    def answer(hello: AuthenticHello, session: int, body: bytes, entropy: Any) -> tuple[bytes, Established] | None:
        answered: tuple[bytes, Established] | None = original(hello, session, body, entropy)
        if answered is not None:
            wanted, (welcome, keys) = wire.read_message(hello.body), answered
            name = wanted.name if isinstance(wanted, Hello) else ""
            said = Welcomed(hello.datagram, session, hello.key.id, name, keys.edge_to_cloud, keys.cloud_to_edge)
            _ledger.welcomes[welcome] = said
            if session:
                assert session not in _ledger.sessions, "a session's number comes again"
                _ledger.sessions[session] = said
        return answered

    return answer


def _seal_hello(original: Callable[..., Any]) -> Callable[..., Any]:
    def seal_hello(self: HandshakeKey, public: bytes, body: bytes) -> bytes:
        hello: bytes = original(self, public, body)
        _ledger.hellos.add(hello)
        return hello

    return seal_hello


def _allowance(per_s: float, burst: float, now: float) -> Allowance:
    """Allow for control messages: small tensors have many for their size."""
    return Allowance(max(per_s, _ledger.per_s), max(burst, _ledger.burst), now)


@contextmanager
def watched() -> Iterator[None]:
    """Observe the cores, and register a stranger's quantiser."""
    aeads = {
        cipher: lambda key, make=make: WatchedAead(make(key), key)  # type: ignore[misc]
        for cipher, make in AEADS.items()
    }
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(QUANTISERS, {DEFLATE.name: DEFLATE}))
        for module in (reception, edge):
            stack.enter_context(mock.patch.object(module, "Sealer", WatchedSealer))
            stack.enter_context(mock.patch.object(module, "Opener", WatchedOpener))
        stack.enter_context(mock.patch.object(reception, "Allowance", _allowance))
        stack.enter_context(mock.patch.object(reception, "answer_hello", _answer_hello(reception.answer_hello)))
        stack.enter_context(mock.patch.object(HandshakeKey, "seal_hello", _seal_hello(HandshakeKey.seal_hello)))
        stack.enter_context(mock.patch.object(seal, "AEADS", aeads))
        watch = lambda key: WatchedAead(ChaCha20Poly1305(key), key)  # noqa: E731
        stack.enter_context(mock.patch.object(handshake, "ChaCha20Poly1305", watch))
        yield


# --- what only a liar does ---


@contextmanager
def lying() -> Iterator[None]:
    """Seal what no core would, without a check of the nonce."""
    _ledger.lying = True
    yield
    _ledger.lying = False


def seal_as(sealer: Sealer, kind: int, counter: int, body: bytes) -> bytes:
    """Seal a body under any counter, even a used one: a key holder may lie about that, too."""
    assert isinstance(sealer, WatchedSealer)
    epoch = sealer._epoch
    if counter // _ledger.epoch == epoch.number + 1:
        epoch = epoch.next()
    head = bytes([wire.MAGIC, wire.VERSION, kind, 0]) + sealer._session.to_bytes(4, "big") + counter.to_bytes(8, "big")
    with lying():
        datagram = head + epoch.aead.encrypt(epoch.nonce(counter), body, head)
    if counter // _ledger.epoch == epoch.number and kind in (Kind.SYMBOL, Kind.MESSAGE):
        _ledger.note(sealer.secret, sealer._session, counter, datagram, body)
    return datagram
