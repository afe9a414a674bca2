"""Signed webhooks, as libraries for Standard Webhooks check them: https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from gradfec_common.errors import UsageError

PREFIX = "whsec_"
KEY_BYTES = range(24, 65)


def read_signing_key(text: str) -> bytes:
    """Return the key that base64 stands for, with or without `whsec_` before it; UsageError if it is none."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in KEY_BYTES:
        raise UsageError(
            f"a webhook's key is base64 of {KEY_BYTES[0]} to {KEY_BYTES[-1]} bytes: `openssl rand -base64 32` makes one"
        )
    return key


def signed(key: bytes | None, number: str, unix_s: float, body: bytes) -> dict[str, str]:
    """Return the headers that name a message and when it was sent and, with a key, sign both and its body.

    The signature is the HMAC-SHA256 of `number.unix_s.body`, with the time in whole seconds.
    """
    seconds = str(int(unix_s))
    headers = {"webhook-id": number, "webhook-timestamp": seconds}
    if key is None:
        return headers
    mac = hmac.digest(key, f"{number}.{seconds}.".encode() + body, hashlib.sha256)
    return {**headers, "webhook-signature": f"v1,{base64.b64encode(mac).decode()}"}
