"""The ciphers that may seal a session: AEADs with 32-byte keys and 16-byte tags, each with a small id on the wire."""

from __future__ import annotations

from enum import IntEnum

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

KEY_BYTES = 32
NONCE_BYTES = 12


class Cipher(IntEnum):
    """An AEAD, by its id."""

    AES_256_GCM = 1  # NIST SP 800-38D, RFC 5116
    CHACHA20_POLY1305 = 2  # RFC 8439


AEADS: dict[Cipher, type[AESGCM] | type[ChaCha20Poly1305]] = {
    Cipher.AES_256_GCM: AESGCM,
    Cipher.CHACHA20_POLY1305: ChaCha20Poly1305,
}
