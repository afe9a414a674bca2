"""Pre-shared keys: 32 random bytes that an edge and its cloud share, and the token by which people copy them."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from gradfec_common import hkdf
from gradfec_common.errors import GradfecError

Entropy = Callable[[int], bytes]  # n -> n random bytes: os.urandom, or a seeded generator in a simulation

KEY_BYTES = 32
ID_BYTES = 8
TOKEN_PREFIX = "gradfec1-"  # the version of the token's form, not of the protocol
CHECK_BYTES = 3  # with the key 35 bytes: 56 characters of base32 without padding
TOKEN_CHARACTERS = 8 * (KEY_BYTES + CHECK_BYTES) // 5
COPY_AGAIN = "copy the whole line again from `gradfec keygen --show`"


@dataclass(frozen=True, repr=False)
class Key:
    """A pre-shared key. Only its `id` is ever shown. With `secret`, anybody can pose as either side."""

    secret: bytes

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(self.secret)}")

    def __repr__(self) -> str:
        return f"Key(id={self.id.hex()})"

    @cached_property
    def root(self) -> bytes:
        """The secret from which everything except a session's keys is derived."""
        return hkdf.extract(b"", self.secret)

    @cached_property
    def id(self) -> bytes:
        """The key's public name, 8 bytes. It reveals nothing about the key, and is sent unencrypted."""
        return hkdf.expand(self.root, "id", ID_BYTES)

    @property
    def token(self) -> str:
        """The key as one line of 65 characters, for people to copy. It is as secret as the key."""
        return TOKEN_PREFIX + base64.b32encode(self.secret + _check(self.secret)).decode().lower()


# With --insecure, both sides use this key. It is public, so it keeps nothing secret.
INSECURE_KEY = Key(hashlib.sha256(b"gradfec --insecure: this key is public").digest())
INSECURE_WARNING = "--insecure: anybody on the way can read and forge everything, and anybody may join"


def new_key(entropy: Entropy) -> Key:
    """Draw a key; `entropy` returns as many random bytes as it is asked for."""
    return Key(entropy(KEY_BYTES))


def read_token(token: str) -> Key:
    """Return the key of a token, in upper or lower case; GradfecError, without the token, if it is not valid."""
    text = token.strip().lower()
    if not text.startswith(TOKEN_PREFIX):
        raise GradfecError(f"this is not a gradfec key: a key begins with {TOKEN_PREFIX}; {COPY_AGAIN}")
    text = text.removeprefix(TOKEN_PREFIX)
    if len(text) != TOKEN_CHARACTERS:
        raise GradfecError(
            f"this key is mistyped: it has {len(text)} characters after {TOKEN_PREFIX} instead of {TOKEN_CHARACTERS}; "
            f"{COPY_AGAIN}"
        )
    try:
        raw = base64.b32decode(text.upper())
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        raw = b""
    secret = raw[:KEY_BYTES]
    if not raw or raw[KEY_BYTES:] != _check(secret):
        raise GradfecError(f"this key is mistyped: its check digits do not fit; {COPY_AGAIN}")
    return Key(secret)


def _check(secret: bytes) -> bytes:
    """Return the check bytes of a token: one in 2^24 mistyped tokens passes."""
    return hashlib.sha256(b"gradfec1 token check" + secret).digest()[:CHECK_BYTES]
