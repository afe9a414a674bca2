"""Bodies of symbols that are nearly right."""

from __future__ import annotations

from tests.fuzz.reader import Reader
from tests.fuzz.world import PLANS, content

from gradfec_common import wire

FIELDS = [(spec[1], spec[0].itemsize) for spec in wire.SYMBOL_HEADER.fields.values()]


def with_field(body: bytes, reader: Reader) -> bytes:
    """Return a body with another value in one field of its header."""
    at, size = FIELDS[reader.below(len(FIELDS))]
    return body[:at] + reader.take(size).ljust(size, b"\0") + body[at + size :]


def edited_symbol(reader: Reader) -> bytes:
    """Return a true tensor's symbol under any number, with up to three fields and other bytes changed."""
    bodies = content(reader.below(len(PLANS))).bodies
    body = bytes(3) + reader.take(1).ljust(1, b"\0") + bodies[reader.below(len(bodies))][4:]
    for _ in range(reader.below(4)):
        body = with_field(body, reader)
    return reader.edited(body) if reader.below(4) == 0 else body
