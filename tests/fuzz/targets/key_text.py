"""Tokens and key files: a key, or an error for people that gives nothing of the key away."""

from __future__ import annotations

from tests.fuzz.reader import Reader

from gradfec_common.errors import GradfecError
from gradfec_common.keys import TOKEN_PREFIX, Key, read_token
from gradfec_host.key_files import HEADING, MAX_FILE_BYTES, parse_key

KEY = Key(bytes(range(32)))
TOKENS = (KEY.token, f"{HEADING}# Its id: {KEY.id.hex()}\n{KEY.token}\n", f"\ufeff{KEY.token.upper()}\r\n", "")


def target(data: bytes) -> None:
    """Read a changed key file, and its text as a token."""
    reader = Reader(data)
    content = reader.edited(TOKENS[reader.below(len(TOKENS))].encode()) + reader.take(MAX_FILE_BYTES)
    text = content.decode("utf-8", errors="replace")
    for read, untrusted in ((parse_key, content), (read_token, text)):
        try:
            key = read(untrusted)
        except GradfecError as error:
            assert not str(error).count("\n")
            written = text.strip().lower().removeprefix(TOKEN_PREFIX)
            assert len(written) < 12 or written not in str(error), "the error repeats the key"
            continue
        assert read_token(key.token) == key
        assert parse_key(key.token.encode()) == key
        assert key.token in text.lower()
        assert key.secret.hex() not in repr(key)
