"""docs/reference/protocol.md has every identifier, field and limit of the product's wire format, and no other."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from gradfec_common import entropy, heads, wire
from gradfec_common.ciphers import Cipher
from gradfec_common.codes import CODES
from gradfec_common.networks import DEFAULT_CUT, NETWORKS, RESNET50
from gradfec_common.packets import DEFAULT_ROWS, MAX_PACKETS, PacketGrid
from gradfec_common.protect import POLICIES, UNKNOWN_LINK, read_policy
from gradfec_common.quantisers import MAX_PARAMETER_BYTES, QUANTISERS, Needs
from gradfec_common.quantisers.image_files import MAX_SCANS, MAX_SEGMENTS
from gradfec_common.session.events import CloudLimits
from gradfec_common.transmit import encode_tensor, room_for
from gradfec_common.wire import symbol

from . import second_encoder
from .protocol_page import IN_ONE_LINE, PROTOCOL, layout, names_in, section, tables

GOOD_FATES = {"collected", "surplus", "hello", "ping", "ack", "bye", "sketch"}


def layout_of(dtype: np.dtype[Any]) -> list[tuple[str, int, int]]:
    assert dtype.fields is not None
    return [(name, field[1], field[0].itemsize) for name, field in dtype.fields.items()]


def test_the_page_has_every_cut_of_the_built_in_network() -> None:
    networks, cuts = tables("Appendix A: networks and their cuts")
    assert networks == [[n.name, n.digest.hex(), f"{n.head.name}, {n.head.classes} classes"] for n in NETWORKS.values()]
    written = [(int(id), name, shape) for id, name, shape in cuts]
    assert written == [(cut.id, cut.name, " x ".join(map(str, cut.shape))) for cut in RESNET50.cuts]


def test_the_page_has_every_kind_of_datagram() -> None:
    written = {name: int(number) for number, name, *_ in tables("1. What every datagram has")[1]}
    assert written == {kind.name: kind.value for kind in wire.Kind} == second_encoder.KINDS


def test_the_page_has_every_control_message_and_its_keys_in_the_order_of_the_wire() -> None:
    (rows,) = tables("6. Control messages")
    assert {name: int(number) for number, name, *_ in rows} == second_encoder.MESSAGE_KINDS
    assert {kind.name: kind.value for kind in wire.MessageKind} == second_encoder.MESSAGE_KINDS
    written = {
        name: re.findall(r"(?:^|; |, )`(\w+)` (?:u8|u16|u32|u64|string|array|map|bin|bool|any)", keys)
        for _, name, _, keys in rows
    }
    assert written == {
        message.kind.name: [field.name for field in fields(message)] for message in wire.MESSAGES.values()
    }


def test_the_page_has_every_fate_of_a_datagram() -> None:
    fates = section("7.5 What becomes of a datagram")
    good = names_in(fates.split("The good ones are")[1].split("The bad ones")[0])
    (rows,) = tables("7.5 What becomes of a datagram")
    bad = {fate for names, _ in rows for fate in names_in(names)}
    assert set(good) == GOOD_FATES and len(good) == len(GOOD_FATES)
    assert bad == {drop.value for drop in wire.Drop} - {"foreign_address"}  # the edge's socket drops that


def test_the_page_has_every_field_of_every_header_at_its_offset() -> None:
    outer = layout(tables("4.1 Outer header")[0])
    assert outer == layout_of(wire.OUTER_HEADER)
    assert layout(tables("1. What every datagram has")[0]) == outer[:5]
    fixed, stripe = tables("5. SYMBOL")
    written = [(names.partition(",")[0], *place) for names, *place in layout(fixed)]  # `again` is in the byte of `form`
    assert written == layout_of(symbol.SYMBOL_HEADER)
    assert layout(stripe) == layout_of(symbol.STRIPE)
    assert [offset for offset, *_ in fixed if offset.isdigit()][-1] == str(symbol.FIXED_BYTES)
    assert f"{symbol.STRIPE_BYTES} bytes for each stripe" in PROTOCOL


def test_the_page_has_every_registered_cipher_and_head() -> None:
    assert [name for _, name, _ in tables("4.2 Ciphers")[0]] == ["AES-256-GCM", "ChaCha20-Poly1305"]
    assert [int(id) for id, *_ in tables("4.2 Ciphers")[0]] == [cipher.value for cipher in Cipher]
    assert [cipher.name for cipher in Cipher] == ["AES_256_GCM", "CHACHA20_POLY1305"]
    assert [name for name, _ in tables("6.2 Answers")[0]] == [*heads.HEADS]


def test_the_page_has_every_registered_quantiser_with_its_bits_and_levels() -> None:
    rows, streams = tables("5.2 Quantisers")
    coded, _ = tables("5.2.1 laplace")
    assert {name: int(id) for id, name, *_ in (*rows, *streams, *coded)} == {
        name: q.id for name, q in QUANTISERS.items()
    }
    for _, name, _, needs in streams:
        assert ("all packets together" in needs) == (QUANTISERS[name].needs is Needs.ALL)
    assert f"at most {MAX_SEGMENTS} of them and at most {MAX_SCANS} SOS" in IN_ONE_LINE
    for id, name, bits, _, value in rows:
        of_page = second_encoder.LOCAL.get(int(id)) or second_encoder.QUANTISERS[int(id)][1]
        assert of_page == int(bits) == int(name[-1])
        assert f" / {2 ** int(bits) - 1}" in value
    assert f"length of the quantiser's parameters, 0 to {MAX_PARAMETER_BYTES}" in PROTOCOL


def test_the_page_has_the_tables_of_laplace_and_its_example_is_right() -> None:
    _, rows = tables("5.2.1 laplace")
    written = [(int(t), float(zero), float(fall), int(largest)) for t, zero, fall, largest in rows]
    assert written == [*zip(range(entropy.TABLES), entropy.ZERO, entropy.FALL, entropy.LARGEST, strict=True)]
    *others, last = (str(parts) for parts in entropy.all_parts()[4])
    assert f"table 4 has {len(others) + 1} levels with {', '.join(others)} and {last} parts" in IN_ONE_LINE
    first, other = sorted({*entropy.which_parts().tolist()}, reverse=True)
    assert f"0 has {first:,} parts, and each other has {other:,}." in IN_ONE_LINE
    assert f"-{entropy.LARGEST[-1]} or {entropy.LARGEST[-1]} beyond these" in IN_ONE_LINE
    levels = [0, 0, 1, -1, 0, 0, 0, 2]
    coded = entropy.encode(np.array([levels], np.int32), np.array([8]))[0]
    assert f"table 8 and the levels {', '.join(map(str, levels))} has the three bytes {coded.hex(' ')}." in IN_ONE_LINE


@pytest.mark.leopard
def test_the_page_has_every_registered_code_with_its_limits() -> None:
    (rows,) = tables("5.4 Erasure codes")
    assert {int(id): name for id, name, *_ in rows} == {id: code.name for id, code in CODES.items()}
    for id, _, limits, *_ in rows:
        assert f"<= {CODES[int(id)].max_n:,}" in limits
        assert ("even" in limits) == (CODES[int(id)].word_bytes == 2)


def test_the_page_names_the_product_s_policies() -> None:
    written = [name.strip("`") for name, *_ in tables("5.6 Plans")[0]]
    assert [name.split(":")[0] for name in written] == [name.split(":")[0] for name in POLICIES]


def test_the_page_states_the_bounds_of_the_product() -> None:
    words = {1: "one", 2: "two", 3: "three", 4: "four"}
    for text in (
        f"at most **{wire.MAX_DATAGRAM_BYTES} bytes**",
        f"has P = C x G packets, at most {MAX_PACKETS:,}",
        f"groups of this tensor, 1 to {symbol.MAX_GROUPS}",
        f"in the {words[symbol.FORM_BITS]} lowest bits; in the other six, `again`: section 5.7",
        f"`again`, 1 to {symbol.MAX_AGAIN}, is its number less that of the frame's first tensor",
        f"stripes of each group, 1 to {symbol.MAX_STRIPES}; groups x stripes is at most {symbol.MAX_TENSOR_STRIPES}",
        f"1 <= groups x stripes <= {symbol.MAX_TENSOR_STRIPES}",
        f"1 <= unasked <= sent <= {symbol.MAX_SENT_PER_PACKET} P",
        f"has no stripe or over {symbol.MAX_STRIPES}, or over {MAX_PARAMETER_BYTES} bytes of parameters",
        f"the body of a SYMBOL has {symbol.FIXED_BYTES} bytes or less",
        f"room for {symbol.body_room(0)} bytes of table, parameters and symbols",
        f"Strings have at most {wire.MAX_TEXT_BYTES} bytes",
        f"would have more than {wire.MAX_MAP_BYTES} bytes",
        f"PINGs have {wire.MAX_PADDING_BYTES} bytes of padding",
        f"here at most {words[CloudLimits().request_rounds]} times",
    ):
        assert text in IN_ONE_LINE


def test_the_lengths_that_the_page_gives_as_examples_are_those_of_the_product() -> None:
    cut = RESNET50.cut(DEFAULT_CUT)
    grid = PacketGrid(cut.shape, DEFAULT_ROWS)
    assert f"with the cut {DEFAULT_CUT} and {DEFAULT_ROWS} rows, a packet has {grid.size} elements" in IN_ONE_LINE
    lengths = []
    for name, packets_a_symbol in (("uniform8", 1), ("uniform8", None), ("sqrt4", None)):
        quantiser = QUANTISERS[name]
        coded = quantiser.encode(np.zeros(cut.shape, np.float32), grid)
        room = room_for(len(coded.parameters), packets_a_symbol)
        importance = np.zeros(grid.count, np.float32)
        plan = read_policy("none").plan(importance, coded.packets.sizes, UNKNOWN_LINK, room)
        encoded = encode_tensor(coded, quantiser, plan)
        lengths.append(encoded.wire_bytes // plan.sent)
    one, two, five = lengths
    assert f"has datagrams of {one} bytes; two packets in each make {two}" in IN_ONE_LINE
    assert f"five of them make datagrams of {five} bytes" in IN_ONE_LINE
