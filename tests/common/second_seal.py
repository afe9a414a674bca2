"""A second implementation of handshake and seal, straight from their specification: no code of the product is in it.

Everything is computed anew for each datagram, from the session's first secret on; slow, and without any state.
`python -m tests.common.second_seal`, in the repository's root, writes the files in tests/common/golden_sealed.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

GOLDEN = Path(__file__).with_name("golden_sealed")
CIPHERS = {1: AESGCM, 2: ChaCha20Poly1305}
SYMBOL, MESSAGE, HELLO, WELCOME = 1, 2, 16, 17
EPOCH = 2**22


def expand(secret: bytes, label: str, length: int = 32) -> bytes:
    return hmac.digest(secret, b"gradfec 3 " + label.encode() + b"\x01", "sha256")[:length]


def extract(salt: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), material, "sha256")


# --- datagrams ---


def seal(
    secret: bytes, cipher: int, session: int, counter: int, kind: int, body: bytes, epoch_datagrams: int = EPOCH
) -> bytes:
    for _ in range(counter // epoch_datagrams):
        secret = expand(secret, "next")
    iv = int.from_bytes(expand(secret, "iv", 12), "big")
    header = struct.pack(">BBBBIQ", 0x47, 3, kind, 0, session, counter)
    return header + CIPHERS[cipher](expand(secret, "key")).encrypt((iv ^ counter).to_bytes(12, "big"), body, header)


# --- handshake ---


def key_id(psk: bytes) -> bytes:
    return expand(extract(b"", psk), "id", 8)


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def exchange(private: bytes, other: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(other))


def hello(psk: bytes, ephemeral: bytes, body: bytes) -> bytes:
    """The hello of an edge whose ephemeral public key is `ephemeral`."""
    return hello_of(psk, ephemeral, struct.pack(">H", len(body)) + body)


def hello_of(psk: bytes, ephemeral: bytes, inside: bytes) -> bytes:
    clear = struct.pack(">BBBBI", 0x47, 3, HELLO, 0, 0) + key_id(psk) + ephemeral
    key = expand(extract(b"", psk), "hello")
    return clear + ChaCha20Poly1305(key).encrypt(ephemeral[:12], inside + bytes(448 - len(inside)), clear)


def read_hello(psk: bytes, datagram: bytes) -> bytes:
    inside = ChaCha20Poly1305(expand(extract(b"", psk), "hello")).decrypt(datagram[16:28], datagram[48:], datagram[:48])
    return inside[2 : 2 + struct.unpack(">H", inside[:2])[0]]


def secrets(psk: bytes, hello: bytes, welcome: bytes, shared: bytes) -> tuple[bytes, bytes, bytes]:
    """The welcome's key, and the secrets from edge to cloud and from cloud to edge."""
    secret = extract(hashlib.sha256(hello + welcome[:40]).digest(), psk + shared)
    return expand(secret, "welcome"), expand(secret, "edge to cloud"), expand(secret, "cloud to edge")


def welcome(psk: bytes, hello: bytes, ephemeral: bytes, shared: bytes, session: int, body: bytes) -> bytes:
    clear = struct.pack(">BBBBI", 0x47, 3, WELCOME, 0, session) + ephemeral
    key = secrets(psk, hello, clear, shared)[0]
    return clear + ChaCha20Poly1305(key).encrypt(bytes(12), body, clear)


def read_welcome(psk: bytes, hello: bytes, datagram: bytes, shared: bytes) -> bytes:
    key = secrets(psk, hello, datagram, shared)[0]
    return ChaCha20Poly1305(key).decrypt(bytes(12), datagram[40:], datagram[:40])


# --- golden vectors ---

PSK, EDGE, CLOUD = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))  # the key, the two private keys
HELLO_BODY, WELCOME_BODY, SESSION = b"what the edge wants", b"what the cloud says", 0x01020304
COUNTERS = (0, 1, EPOCH - 1, EPOCH, 2 * EPOCH + 5)


def vectors() -> dict[str, list[bytes]]:
    """The datagrams of each golden file."""
    first = hello(PSK, public(EDGE), HELLO_BODY)
    shared = exchange(CLOUD, public(EDGE))
    answer = welcome(PSK, first, public(CLOUD), shared, SESSION, WELCOME_BODY)
    _, up, down = secrets(PSK, first, answer, shared)
    return {
        "hello": [first],
        "welcome": [answer],
        "refusal": [welcome(PSK, first, public(CLOUD), shared, 0, WELCOME_BODY)],
        "aes_256_gcm": [seal(up, 1, SESSION, counter, SYMBOL, bytes(range(40))) for counter in COUNTERS],
        "chacha20_poly1305": [seal(down, 2, SESSION, counter, MESSAGE, b"a message") for counter in COUNTERS],
    }


def golden(name: str) -> list[bytes]:
    return [bytes.fromhex(line) for line in (GOLDEN / f"{name}.hex").read_text("ascii").split()]


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, datagrams in vectors().items():
        (GOLDEN / f"{name}.hex").write_text("".join(datagram.hex() + "\n" for datagram in datagrams), "ascii")


if __name__ == "__main__":
    main()
