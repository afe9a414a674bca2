"""The header of a datagram that carries symbols. docs/reference/protocol.md, section 5, specifies it.

    fixed part     SYMBOL_HEADER: what is the datagram's own, what is the tensor's, what is the group's
    stripes        STRIPE, `stripes` times: the group's table
    parameters     `parameters` bytes: the quantiser's own
    symbols        one of each stripe, one after the other

So any datagram can be understood without another. Those of a tensor agree on all that is the tensor's, those of a group
on all that is the group's, and all of them have the same length.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.wire.outer import MAX_DATAGRAM_BYTES, SEAL_BYTES, Bytes

SYMBOL_HEADER = np.dtype(
    [
        ("tensor", ">u4"),
        ("position", ">u2"),
        ("index", ">u2"),
        ("sent", ">u2"),
        ("unasked", ">u2"),
        ("kept", ">u2"),
        ("form", "u1"),  # and `again`: see `form_byte`
        ("groups", "u1"),
        ("stripes", "u1"),
        ("quantiser", "u1"),
        ("parameters", "u1"),
        ("group", "u1"),
        ("n", ">u2"),
    ]
)
STRIPE = np.dtype([("k", ">u2"), ("length", ">u2"), ("code", "u1")])
FIXED_BYTES = SYMBOL_HEADER.itemsize
STRIPE_BYTES = STRIPE.itemsize
TENSOR_BYTES = slice(0, 4)  # the tensor's number
FORM_BYTE = 14
COMMON_BYTES = slice(8, 19)  # `sent` to `parameters`: the tensor's; what follows, to the table's end, is the group's
MAX_SYMBOLS = 65_535  # `sent`, `position`, `n`, `k`, `index`
MAX_GROUPS = 255
MAX_STRIPES = 32  # of a group
MAX_TENSOR_STRIPES = 255  # of all groups: to decode one takes milliseconds, however few bytes it has
FORM_BITS = 2
MAX_AGAIN = 63
MAX_SENT_PER_PACKET = 4  # datagrams for each packet of a tensor: bounds what a tensor can occupy
assert (FIXED_BYTES, STRIPE_BYTES) == (22, 5)  # noqa: S101 - our layout, not their bytes


def body_room(parameter_bytes: int) -> int:
    """Return how many bytes of a datagram are left for the table of stripes and the symbols together."""
    return MAX_DATAGRAM_BYTES - SEAL_BYTES - FIXED_BYTES - parameter_bytes


def form_byte(form: int, again: int) -> int:
    """Return the byte for a tensor's form, below 4, and `again`, at most MAX_AGAIN.

    A frame's second tensor says how many numbers before it the first one is. In a first one, `again` is 0.
    """
    return form | again << FORM_BITS


def form_and_again(headers: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the forms (m,) and `again` (m,) in headers (m,) SYMBOL_HEADER."""
    found = headers["form"].astype(np.intp)
    return found % (1 << FORM_BITS), found >> FORM_BITS


def read_headers(bodies: Bytes) -> npt.NDArray[Any]:
    """Return the fixed parts (m,) SYMBOL_HEADER of (m, bytes) bodies of at least FIXED_BYTES."""
    return np.ascontiguousarray(bodies[:, :FIXED_BYTES]).view(SYMBOL_HEADER)[:, 0]


class Layout(NamedTuple):
    """Where in a body its parts end."""

    table: int
    header: int  # with the parameters: the symbols begin here


def layout_of(stripes: int, parameters: int) -> Layout:
    """Return the layout of bodies with that many stripes and bytes of parameters."""
    table = FIXED_BYTES + stripes * STRIPE_BYTES
    return Layout(table, table + parameters)


class FixedPart(NamedTuple):
    """The fixed part of one header, field by field as SYMBOL_HEADER has them."""

    tensor: int
    position: int
    index_in_group: int
    sent: int
    unasked: int
    kept: int
    form: int
    groups: int
    stripes: int
    quantiser: int
    parameters: int
    group: int
    n: int


FIXED = struct.Struct(">IHHHHHBBBBBBH")
ENTRY = struct.Struct(">HHB")  # a STRIPE
assert (FIXED.size, ENTRY.size) == (FIXED_BYTES, STRIPE_BYTES)  # noqa: S101


def read_fixed(body: bytes) -> FixedPart:
    """Return the fixed part of a body of at least FIXED_BYTES."""
    return FixedPart(*FIXED.unpack_from(body))


def read_entries(body: bytes, stripes: int) -> list[tuple[int, int, int]]:
    """Return (k, length, code) of each stripe in a body that is long enough."""
    return [*ENTRY.iter_unpack(body[FIXED_BYTES : FIXED_BYTES + stripes * STRIPE_BYTES])]


def read_table(body: bytes, stripes: int) -> npt.NDArray[Any]:
    """Return the table (stripes,) STRIPE of a body that is long enough."""
    return np.frombuffer(body, STRIPE, stripes, FIXED_BYTES)
