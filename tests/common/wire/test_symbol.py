"""The header of a datagram that carries symbols: each field is where the protocol says, whatever the body lies in."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common import wire
from gradfec_common.quantisers import MAX_PARAMETER_BYTES
from gradfec_common.wire.symbol import (
    COMMON_BYTES,
    FIXED_BYTES,
    FORM_BYTE,
    MAX_AGAIN,
    MAX_STRIPES,
    STRIPE_BYTES,
    SYMBOL_HEADER,
    TENSOR_BYTES,
    body_room,
    form_and_again,
    form_byte,
    layout_of,
    read_headers,
    read_table,
)

FIELDS = (
    "tensor",
    "position",
    "index",
    "sent",
    "unasked",
    "kept",
    "form",
    "groups",
    "stripes",
    "quantiser",
    "parameters",
    "group",
    "n",
)
U8, U16, U32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
VALUES = st.tuples(U32, U16, U16, U16, U16, U16, U8, U8, U8, U8, U8, U8, U16)
ENTRIES = st.lists(st.tuples(U16, U16, U8), max_size=MAX_STRIPES)


def body_of(values, entries=(), rest=b""):
    return struct.pack(">IHHHHHBBBBBBH", *values) + b"".join(struct.pack(">HHB", *entry) for entry in entries) + rest


@settings(max_examples=40)
@given(st.lists(VALUES, min_size=1, max_size=5), st.binary(max_size=9))
def test_the_fixed_part_of_every_body_is_read(rows, rest):
    bodies = np.stack([np.frombuffer(body_of(values, rest=rest), np.uint8) for values in rows])
    wide = np.zeros((len(rows), bodies.shape[1] + 5), np.uint8)  # whatever they lie in
    wide[:, 2:-3] = bodies
    for headers in (read_headers(bodies), read_headers(wide[:, 2:-3])):
        assert headers.dtype.names == FIELDS
        assert [tuple(header) for header in headers.tolist()] == rows


@settings(max_examples=40)
@given(VALUES, ENTRIES, st.binary(max_size=9))
def test_the_table_is_read_stripe_by_stripe(values, entries, rest):
    assert read_table(body_of(values, entries, rest), len(entries)).tolist() == entries


@settings(max_examples=40)
@given(VALUES, ENTRIES, st.binary(max_size=64), st.binary(min_size=1, max_size=20))
def test_the_parameters_follow_the_table_and_the_symbols_follow_them(values, entries, parameters, symbols):
    body = body_of(values, entries, parameters + symbols)
    table, header = layout_of(len(entries), len(parameters))
    assert body[table:header] == parameters
    assert body[header:] == symbols


@settings(max_examples=40)
@given(VALUES, VALUES, ENTRIES)
def test_what_is_the_tensors_and_what_is_the_groups_each_stand_together(one, other, entries):
    ours, group_of_other = list(one), list(other)
    assert body_of(ours, entries)[TENSOR_BYTES] == struct.pack(">I", one[0])
    assert body_of(ours, entries)[COMMON_BYTES] == struct.pack(">HHHBBBBB", *one[3:11])
    group_of_other[:11] = one[:11]
    assert body_of(group_of_other, entries)[: COMMON_BYTES.stop] == body_of(ours, entries)[: COMMON_BYTES.stop]
    assert body_of(ours, entries)[COMMON_BYTES.stop : FIXED_BYTES] == struct.pack(">BH", *one[11:])


def test_every_form_and_every_distance_to_the_first_tensor_share_a_byte():
    pairs = [(form, again) for form in range(wire.MAX_FORMS) for again in range(MAX_AGAIN + 1)]
    assert sorted(form_byte(*pair) for pair in pairs) == [*range(256)]
    headers = np.zeros(len(pairs), SYMBOL_HEADER)
    headers["form"] = [form_byte(*pair) for pair in pairs]
    forms, again = form_and_again(headers)
    assert [*zip(forms.tolist(), again.tolist(), strict=True)] == pairs
    assert body_of([0] * 6 + [form_byte(2, 5)] + [0] * 6)[FORM_BYTE] == 2 + 4 * 5


def test_a_tensor_that_is_no_second_look_has_the_number_of_its_form_in_that_byte():
    assert [form_byte(form, 0) for form in range(wire.MAX_FORMS)] == [0, 1, 2, 3]


def test_sizes_are_those_of_the_protocol():
    assert (FIXED_BYTES, STRIPE_BYTES, MAX_STRIPES) == (22, 5, 32)
    assert body_of([0] * 13, [(0, 0, 0)]) == bytes(27)


@pytest.mark.parametrize("parameters", [0, 8, MAX_PARAMETER_BYTES])
def test_what_is_left_for_table_and_symbols_fills_a_datagram(parameters):
    assert wire.SEAL_BYTES + FIXED_BYTES + parameters + body_room(parameters) == wire.MAX_DATAGRAM_BYTES
