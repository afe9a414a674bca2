"""Bodies of symbols that are nearly right."""

from __future__ import annotations

from tests.fuzz.reader import Reader
from tests.fuzz.world import KINDS, content

from gradfec_common.wire.symbol import FIXED_BYTES, STRIPE, STRIPE_BYTES, SYMBOL_HEADER

OF_HEADER = [(at, kind.itemsize) for kind, at in SYMBOL_HEADER.fields.values()]
OF_STRIPE = [(FIXED_BYTES + at, kind.itemsize) for kind, at in STRIPE.fields.values()]
# Where each field of a header is, of its first two stripes, and of the parameters behind one stripe; and its bytes.
FIELDS = [*OF_HEADER, *OF_STRIPE, *((at + STRIPE_BYTES, size) for at, size in [*OF_STRIPE, (FIXED_BYTES, 4)])]


def with_field(body: bytes, reader: Reader) -> bytes:
    """Return a body with another value in one field of its header."""
    at, size = FIELDS[reader.below(len(FIELDS))]
    return body[:at] + reader.take(size).ljust(size, b"\0") + body[at + size :]


def edited_symbol(reader: Reader) -> bytes:
    """Return the body of a true tensor's datagram under any number, with up to three fields and other bytes changed."""
    bodies = content(reader.below(len(KINDS))).bodies
    body = bytes(3) + reader.take(1).ljust(1, b"\0") + bodies[reader.below(len(bodies))][4:]
    for _ in range(reader.below(4)):
        body = with_field(body, reader)
    return reader.edited(body) if reader.below(4) == 0 else body
