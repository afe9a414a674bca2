"""The handshake: one hello, one welcome, and both sides have the secrets of a session.

docs/reference/protocol.md specifies it.

Both sides know a pre-shared key, which makes the two messages authentic. Fresh X25519 keys make the session's secrets
independent of that key: somebody who learns it later cannot decrypt what was recorded. The bodies of hello and welcome
are opaque here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from gradfec_common import hkdf
from gradfec_common.ciphers import NONCE_BYTES
from gradfec_common.keys import ID_BYTES, INSECURE_KEY, Entropy, Key
from gradfec_common.wire import MAGIC, TAG_BYTES, VERSION, Drop, Kind

HEADER_BYTES = 8  # magic, version, kind, flags, session u32
PUBLIC_BYTES = 32  # an X25519 public key
LENGTH_BYTES = 2  # u16 in front of a hello's body, inside the sealed part

# A hello is padded to the longest welcome, so that a forged address never receives more bytes than the forger sent.
HELLO_BYTES = 512
HELLO_CLEAR_BYTES = HEADER_BYTES + ID_BYTES + PUBLIC_BYTES  # header, key id, the edge's public key
HELLO_SEALED_BYTES = HELLO_BYTES - HELLO_CLEAR_BYTES - TAG_BYTES
MAX_HELLO_BODY_BYTES = HELLO_SEALED_BYTES - LENGTH_BYTES

WELCOME_CLEAR_BYTES = HEADER_BYTES + PUBLIC_BYTES  # header, the cloud's public key
MIN_WELCOME_BYTES = WELCOME_CLEAR_BYTES + TAG_BYTES
MAX_WELCOME_BYTES = HELLO_BYTES
MAX_WELCOME_BODY_BYTES = MAX_WELCOME_BYTES - MIN_WELCOME_BYTES
WELCOME_NONCE = bytes(NONCE_BYTES)  # its key seals this one welcome


class HandshakeKey:
    """A pre-shared key, with everything that can be derived from it in advance.

    One key seals all its hellos, with random nonces. After 2^32 hellos, two of them share a nonce with a probability of
    2^-33; such a pair would reveal how the two bodies differ (NIST SP 800-38D, section 8.3).
    """

    def __init__(self, key: Key, label: str = "") -> None:
        """Derive the key that seals hellos; `label` names the edge, if the key belongs to one edge only."""
        self.id, self.label = key.id, label
        self.insecure = key == INSECURE_KEY  # everybody has it
        self._psk = key.secret
        self._hello_aead = ChaCha20Poly1305(hkdf.expand(key.root, "hello"))

    def __repr__(self) -> str:
        return f"HandshakeKey(id={self.id.hex()})"

    def seal_hello(self, public: bytes, body: bytes) -> bytes:
        """Return the hello of an edge with the X25519 key `public`; ValueError for a body of over 446 bytes."""
        if len(body) > MAX_HELLO_BODY_BYTES:
            raise ValueError(f"a hello's body has {MAX_HELLO_BODY_BYTES} bytes at most, not {len(body)}")
        clear = _header(Kind.HELLO, 0) + self.id + public
        padded = (len(body).to_bytes(LENGTH_BYTES, "big") + body).ljust(HELLO_SEALED_BYTES, b"\0")
        return clear + self._hello_aead.encrypt(public[:NONCE_BYTES], padded, clear)

    def open_hello(self, hello: bytes) -> bytes | None:
        """Return the body of a hello of HELLO_BYTES, or None if it is not authentic."""
        clear, sealed = hello[:HELLO_CLEAR_BYTES], hello[HELLO_CLEAR_BYTES:]
        try:
            padded = self._hello_aead.decrypt(clear[-PUBLIC_BYTES:][:NONCE_BYTES], sealed, clear)
        except InvalidTag:
            return None
        length = int.from_bytes(padded[:LENGTH_BYTES], "big")
        return padded[LENGTH_BYTES:][:length] if length <= MAX_HELLO_BODY_BYTES else None

    def schedule(self, hello: bytes, welcome_clear: bytes, shared: bytes) -> Schedule:
        """Derive a session's keys from both sides' whole messages, the pre-shared key and the X25519 secret."""
        secret = hkdf.extract(hashlib.sha256(hello + welcome_clear).digest(), self._psk + shared)
        return Schedule(
            ChaCha20Poly1305(hkdf.expand(secret, "welcome")),
            hkdf.expand(secret, "edge to cloud"),
            hkdf.expand(secret, "cloud to edge"),
        )


@dataclass(frozen=True, repr=False)
class Schedule:
    """The keys that follow from a handshake: one that seals the welcome, and the secret of each direction."""

    welcome_aead: ChaCha20Poly1305
    edge_to_cloud: bytes
    cloud_to_edge: bytes


@dataclass(frozen=True)
class Established:
    """A handshake's outcome: the session's number, 0 for a refusal; the welcome's body; each direction's secret."""

    session: int
    body: bytes
    edge_to_cloud: bytes = field(repr=False)
    cloud_to_edge: bytes = field(repr=False)


class EdgeHandshake:
    """An edge's side of one handshake. Drop it when it is over: the secrecy of the session rests on its private key."""

    def __init__(self, key: HandshakeKey, body: bytes, entropy: Entropy) -> None:
        """Draw a key and make the hello, which is repeated unchanged until answered; ValueError for too long a body."""
        self._key = key
        self._private = X25519PrivateKey.from_private_bytes(entropy(PUBLIC_BYTES))
        self.hello = key.seal_hello(self._private.public_key().public_bytes_raw(), body)

    def finish(self, welcome: bytes) -> Established | None:
        """Return the outcome of an authentic welcome to this hello, None for any other bytes; never raises."""
        if not MIN_WELCOME_BYTES <= len(welcome) <= MAX_WELCOME_BYTES or not _is(Kind.WELCOME, welcome):
            return None
        clear, sealed = welcome[:WELCOME_CLEAR_BYTES], welcome[WELCOME_CLEAR_BYTES:]
        shared = _shared_secret(self._private, clear[HEADER_BYTES:])
        if shared is None:
            return None
        schedule = self._key.schedule(self.hello, clear, shared)
        try:
            body = schedule.welcome_aead.decrypt(WELCOME_NONCE, sealed, clear)
        except InvalidTag:
            return None
        session = int.from_bytes(clear[4:HEADER_BYTES], "big")
        return Established(session, body, schedule.edge_to_cloud, schedule.cloud_to_edge)


@dataclass(frozen=True)
class AuthenticHello:
    """A hello that was made with the key. It may be a recorded one, replayed by somebody without the key."""

    key: HandshakeKey
    body: bytes
    datagram: bytes = field(repr=False)

    @property
    def public(self) -> bytes:
        """The edge's X25519 key, another one in each hello of an honest edge."""
        return self.datagram[HELLO_CLEAR_BYTES - PUBLIC_BYTES : HELLO_CLEAR_BYTES]


def key_id_of(hello: bytes) -> bytes:
    """Return the id of the key that a hello of HELLO_BYTES claims to be made with."""
    return hello[HEADER_BYTES:][:ID_BYTES]


def read_hello(datagram: bytes, keys: Mapping[bytes, HandshakeKey]) -> AuthenticHello | Drop:
    """Read a hello with one of `keys`, by their ids; never raises. A forged hello costs one look-up and one opening."""
    if len(datagram) != HELLO_BYTES:
        return Drop.BAD_LENGTH
    key = keys.get(key_id_of(datagram))
    if key is None:
        return Drop.UNKNOWN_KEY
    body = key.open_hello(datagram)
    return Drop.FORGED if body is None else AuthenticHello(key, body, datagram)


def answer_hello(
    hello: AuthenticHello, session: int, body: bytes, entropy: Entropy
) -> tuple[bytes, Established] | None:
    """Return the welcome that opens `session`, or refuses with 0, and what it establishes.

    None if the edge's public key is one of the few that make no secret: no honest edge sends one. ValueError for a
    body of over 456 bytes.
    """
    if len(body) > MAX_WELCOME_BODY_BYTES:
        raise ValueError(f"a welcome's body has {MAX_WELCOME_BODY_BYTES} bytes at most, not {len(body)}")
    private = X25519PrivateKey.from_private_bytes(entropy(PUBLIC_BYTES))
    shared = _shared_secret(private, hello.public)
    if shared is None:
        return None
    clear = _header(Kind.WELCOME, session) + private.public_key().public_bytes_raw()
    schedule = hello.key.schedule(hello.datagram, clear, shared)
    welcome = clear + schedule.welcome_aead.encrypt(WELCOME_NONCE, body, clear)
    return welcome, Established(session, body, schedule.edge_to_cloud, schedule.cloud_to_edge)


def _header(kind: Kind, session: int) -> bytes:
    return bytes([MAGIC, VERSION, kind, 0]) + session.to_bytes(4, "big")


def _is(kind: Kind, datagram: bytes) -> bool:
    """Return whether a datagram claims to be of a kind, whatever its flags."""
    return datagram[:3] == bytes([MAGIC, VERSION, kind])


def _shared_secret(private: X25519PrivateKey, public: bytes) -> bytes | None:
    """Return the X25519 secret of two keys; None if it is all zeros, as points of low order give (RFC 7748, 6.1)."""
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:  # the library refuses all zeros
        return None
