"""Hellos at the cloud: which get a session, which are refused and why, and which get no answer."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.keys import Entropy
from gradfec_common.seal import Opener, Sealer
from gradfec_common.session.effects import Bite
from gradfec_common.session.events import CloudLimits
from gradfec_common.session.greeter import Greeter, Keys
from gradfec_common.session.handshake import AuthenticHello, Established, HandshakeKey, answer_hello
from gradfec_common.session.offer import Form, Offer
from gradfec_common.session.rates import Allowance
from gradfec_common.session.sessions import Session, Sessions
from gradfec_common.wire import Drop, Hello, Refuse, Welcome

Forms = Mapping[int, Form]  # by number


class Received(NamedTuple):
    """The outcome of a hello: its fate, the answer and the new session, if any, and limits that were hit."""

    fate: str
    answer: bytes | None = None
    session: Session | None = None
    bites: Sequence[Bite] = ()


class Reception:
    """Judges hellos. It reads the sessions; their owner adds new ones."""

    def __init__(self, keys: Keys, offer: Offer, welcome: Welcome, entropy: Entropy, limits: CloudLimits) -> None:
        """Admit edges with one of `keys` whose cut is on `offer`."""
        self._greeter = Greeter(keys, limits)
        self._offer, self._welcome, self._entropy, self._limits = offer, welcome, entropy, limits

    @property
    def keys(self) -> Keys:
        """The keys that admit edges."""
        return self._greeter.keys

    def change_keys(self, keys: Keys) -> None:
        """From now on, admit only edges with one of `keys`."""
        self._greeter.keys = keys

    def settle(self, session: Session) -> None:
        """Do not answer the hello of a session again: its edge has used the session."""
        self._greeter.settle(session.hello)

    def receive(self, datagram: bytes, peer: Hashable, sessions: Sessions, now: float, *, leaving: bool) -> Received:
        """Judge a hello; a cloud that is `leaving` refuses all."""
        hello, bites = self._greeter.read(datagram, peer, now)
        if isinstance(hello, Drop):
            return Received(hello.value, bites=bites)
        if isinstance(hello, bytes):
            return Received("hello", hello)
        wanted = wire.read_message(hello.body)
        if not isinstance(wanted, Hello):
            return Received(Drop.BAD_MESSAGE.value, bites=bites)
        admitted, more = self._admit(wanted, hello.key, sessions, leaving=leaving)
        said: Refuse | Welcome = self._welcome
        number = 0
        if isinstance(admitted, Refuse):
            said = admitted
        else:
            number = sessions.new_number(self._entropy)
            said = replace(self._welcome, forms=[*admitted])
        answer = answer_hello(hello, number, wire.message_body(said), self._entropy)
        if answer is None:
            return Received(Drop.FORGED.value, bites=[*bites, *more])
        welcome, established = answer
        bites = [*bites, *more, *self._greeter.remember(hello, peer, welcome, now)]
        if isinstance(admitted, Refuse):
            return Received("hello", welcome, bites=bites)
        credit = len(datagram) - len(welcome)
        return Received("hello", welcome, self._session(hello, wanted, established, admitted, peer, credit, now), bites)

    def _admit(
        self, wanted: Hello, key: HandshakeKey, sessions: Sessions, *, leaving: bool
    ) -> tuple[Forms | Refuse, list[Bite]]:
        """Return what the edge will send, or a refusal that says why it is not admitted."""
        if leaving:
            return Refuse("leaving", "the cloud is shutting down"), []
        accepted = self._offer.accept(wanted)
        if isinstance(accepted, Refuse):
            return accepted, []
        limits, edges = self._limits, sessions.open
        if len(edges) >= limits.sessions:
            return Refuse("full", f"the cloud serves {limits.sessions} edges already"), [Bite("sessions")]
        of_key = sum(session.key.id == key.id for session in edges)
        if of_key >= limits.sessions_per_key:
            detail = f"the cloud serves {of_key} edges with this key already"
            return Refuse("full", detail), [Bite("sessions_per_key")]
        return accepted, []

    def _session(
        self,
        hello: AuthenticHello,
        wanted: Hello,
        established: Established,
        forms: Forms,
        peer: Hashable,
        credit: int,
        now: float,
    ) -> Session:
        cipher, limits = Cipher(wanted.cipher), self._limits
        most = max(form.grid.count for form in forms.values())
        return Session(
            id=established.session,
            key=hello.key,
            hello=hello.public,
            edge=hello.key.label or wanted.name,
            forms=forms,
            sealer=Sealer(established.cloud_to_edge, cipher, established.session),
            opener=Opener(established.edge_to_cloud, cipher),
            allowance=Allowance(limits.tensors_per_s * most, limits.tensors_per_session * most, now),
            peer=peer,
            heard_at=now,
            credit=credit,
        )
