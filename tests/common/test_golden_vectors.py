"""The wire format is what docs/PROTOCOL.md says: an encoder and a seal made from it agree with the product."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.answers import HEAD

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.codes import CODES
from gradfec_common.keys import Key
from gradfec_common.networks import DEFAULT_CUT
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import DEFAULT_ROWS, PacketGrid
from gradfec_common.plan import Block, Plan
from gradfec_common.quantise import QUANTISERS
from gradfec_common.reassembly import DecodedTensor, decode_tensor
from gradfec_common.seal import Sealer
from gradfec_common.session import handshake
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import Answered, Closed, Connected, EdgeLimits, EdgeSession, Refused
from gradfec_common.session.events import CloudLimits, Decided
from gradfec_common.session.handshake import EdgeHandshake, HandshakeKey, answer_hello, read_hello
from gradfec_common.transmit import FILLS, EncodedTensor, encode_tensor, packet_grid, send_order

from . import second_encoder, second_seal
from .golden_inputs import CONTROL_SESSION, CONTROLS, GOLDEN, SESSION, TENSORS, VECTORS, Session, TensorVector
from .second_seal import CLOUD, EDGE, PSK

PROTOCOL = (Path(__file__).parents[2] / "docs" / "PROTOCOL.md").read_text("utf-8")
GOOD_FATES = {"collected", "surplus", "hello", "ping", "ack", "bye", "sketch"}
KEY = HandshakeKey(Key(PSK))
KEYS = {KEY.id: KEY}
SEALED = [name for name, vector in CONTROLS.items() if vector.kind not in ("HELLO", "WELCOME", "REFUSE")]
REFUSALS = [name for name, vector in CONTROLS.items() if vector.kind == "REFUSE"]

# --- what a golden file holds, and the same from the product -----------------------------------------------------


def golden_lines(name: str) -> list[str]:
    lines = (GOLDEN / f"{name}.hex").read_text("utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def golden_control(name: str) -> bytes:
    (line,) = golden_lines(name)
    return bytes.fromhex(line)


def golden_body(name: str) -> bytes:
    (line,) = re.findall(r"^# body (\w+)$", (GOLDEN / f"{name}.hex").read_text("utf-8"), re.MULTILINE)
    return bytes.fromhex(line)


def golden_symbols(name: str) -> dict[int, bytes]:
    shown = (line.split(":") for line in golden_lines(name)[:-1])
    return {int(position): bytes.fromhex(datagram) for position, datagram in shown}


def golden_digest(name: str) -> str:
    return golden_lines(name)[-1]


def digest(datagrams: list[bytes]) -> str:
    return f"{len(datagrams)} {hashlib.sha256(b''.join(datagrams)).hexdigest()}"


def grid_of(split: int, rows: int) -> PacketGrid:
    split_point = RESNET50.cut_by_id(split)
    assert split_point is not None
    return packet_grid(split_point, rows)


def product_encoding(vector: TensorVector) -> EncodedTensor:
    """The vector's tensor as the product encodes it, in the product's own send order."""
    split = RESNET50.cut_by_id(vector.split)
    assert split is not None and split.shape == vector.shape
    grid = packet_grid(split, vector.rows)
    chi = np.array(vector.tensor().elements, np.float32).reshape(vector.shape)
    return encode_tensor(chi, product_plan(vector.blocks, grid.count), grid, split)


def product_plan(blocks: Any, total: int) -> Plan:
    coded = tuple(Block(np.array(block.places, np.intp), block.n, CODES[block.code]) for block in blocks)
    return Plan(total, np.setdiff1d(np.arange(total), np.concatenate([b.packets for b in coded])), coded)


def in_golden_order(encoded: EncodedTensor, vector: TensorVector) -> EncodedTensor:
    """The send order is an edge's choice: put the product's symbols into that of the golden vector."""
    pairs = zip(encoded.headers["block"].tolist(), encoded.headers["index"].tolist(), strict=True)
    where = {pair: row for row, pair in enumerate(pairs)}
    rows = [where[pair] for pair in vector.order()]
    headers = encoded.headers[rows]
    headers["position"] = np.arange(len(rows))
    return EncodedTensor(headers, encoded.symbols[rows], encoded.plan)


def expected_features(vector: TensorVector) -> npt.NDArray[np.float32]:
    """What the cloud must make of the whole tensor: section 3.2 for packets that are sent, zero for the others."""
    elements = vector.tensor().elements
    low, high = min(elements), max(elements)
    height, _, channels = vector.shape
    sent = {place for block in vector.blocks for place in block.places}
    chi = np.array([low + second_encoder.quantise(x, low, high) * (high - low) / 255 for x in elements])
    chi = chi.reshape(vector.shape)
    for h in range(height):
        for c in range(channels):
            if c * (height // vector.rows) + h // vector.rows not in sent:
                chi[h, :, c] = 0.0
    return chi.astype(np.float32)


# --- a cloud and an edge that are ready for golden datagrams -----------------------------------------------------


def entropy_of_the_cloud(count: int) -> bytes:
    """The session number and the private key of the golden vectors."""
    return {4: SESSION.to_bytes(4, "big"), 32: CLOUD}[count]


def cloud_of(session: Session, *, sketches: bool = False) -> CloudSessions:
    """A cloud with one session, opened by a hello from the second implementation; it may want sketches."""
    split_point = RESNET50.cut_by_id(session.split)
    assert split_point is not None
    cloud = CloudSessions(split_point, 0.25, KEYS, entropy_of_the_cloud, sketches=sketches)
    cloud.receive(wire.batch_of([session.hello], ["edge"]), 0.0)
    welcome = golden_control("welcome_to_look") if sketches else session.welcome
    assert cloud.datagrams_to_send() == [(welcome, "edge")]
    cloud.counts.clear()
    return cloud


def edge_that_asks() -> EdgeSession:
    """An edge that has said the golden hello."""
    edge = EdgeSession(wire.Hello(1, 175, 7, "edge 1"), HEAD, KEY, lambda _: EDGE, 0.0)
    edge.handle_timer(0.0)
    assert edge.datagrams_to_send() == [golden_control("hello")]
    return edge


def decided_by(cloud: CloudSessions) -> Decided:
    (decided,) = [event for event in iter(cloud.next_event, None) if isinstance(event, Decided)]
    return decided


def decoded(vector: TensorVector, datagrams: list[bytes]) -> tuple[Decided, DecodedTensor]:
    cloud = cloud_of(vector.session)
    cloud.receive(wire.batch_of(datagrams, ["edge"] * len(datagrams)), 1.0)
    assert cloud.counts == Counter({"collected": len(datagrams)})
    cloud.handle_timer(2.0)
    decided = decided_by(cloud)
    assert (decided.session, decided.tensor) == (SESSION, vector.number)
    return decided, decode_tensor(decided.arrived)


def waiting_edge() -> EdgeSession:
    """An edge in the session of the golden vectors that awaits the answers for tensors 0 and 1, and has asked once."""
    edge = edge_that_asks()
    edge.receive(wire.batch_of([golden_control("welcome")], ["cloud"]), 0.0)
    assert edge.next_event() == Connected(SESSION, 0.25, fresh=True)
    assert edge.datagrams_to_send() == [golden_control("ping")]
    encoded = product_encoding(TENSORS["two_blocks"])
    assert [edge.open_tensor(encoded, 0.0)[0] for _ in range(2)] == [0, 1]
    edge.counts.clear()
    return edge


# --- the second encoder and the golden files ---------------------------------------------------------------------


@pytest.mark.parametrize("name", VECTORS)
def test_the_second_encoder_makes_the_golden_file(name: str) -> None:
    assert (GOLDEN / f"{name}.hex").read_text("utf-8") == VECTORS[name].text()


def test_there_is_no_golden_file_without_its_inputs_and_they_are_small() -> None:
    files = list(GOLDEN.iterdir())
    assert {file.name for file in files} == {f"{name}.hex" for name in VECTORS}
    assert sum(file.stat().st_size for file in files) < 50_000


def test_the_golden_vectors_have_every_kind_of_datagram_and_every_message_under_either_cipher() -> None:
    datagrams = [vector.datagrams[0] for vector in TENSORS.values()] + [c.datagram() for c in CONTROLS.values()]
    assert {datagram[2] for datagram in datagrams} == {*wire.Kind}
    assert {control.kind for control in CONTROLS.values()} == {*wire.MessageKind.__members__}
    assert {vector.cipher for vector in TENSORS.values()} == {*Cipher}


# --- the product's encoder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TENSORS)
def test_the_product_encodes_a_tensor_to_the_golden_datagrams(name: str) -> None:
    vector = TENSORS[name]
    encoded = in_golden_order(product_encoding(vector), vector)
    sealer = Sealer(vector.session.secrets[0], Cipher(vector.cipher), SESSION)
    datagrams = [row.tobytes() for row in sealer.seal(wire.Kind.SYMBOL, encoded.bodies(vector.number))]
    assert {position: datagrams[position] for position in vector.shown} == golden_symbols(name)
    assert digest(datagrams) == golden_digest(name)


@pytest.mark.parametrize("name", CONTROLS)
def test_the_product_encodes_a_control_message_to_the_golden_body_and_reads_it(name: str) -> None:
    vector = CONTROLS[name]
    message = wire.MESSAGES[wire.MessageKind[vector.kind]](**vector.values)
    assert wire.message_body(message) == golden_body(name)
    assert wire.read_message(golden_body(name)) == message


@pytest.mark.parametrize("name", SEALED)
def test_the_product_seals_a_control_message_to_the_golden_datagram(name: str) -> None:
    sealer = Sealer(CONTROL_SESSION.secrets[CONTROLS[name].downwards], Cipher(CONTROL_SESSION.cipher), SESSION)
    assert sealer.seal_one(wire.Kind.MESSAGE, golden_body(name)) == golden_control(name)


def test_the_product_says_the_golden_hello() -> None:
    assert EdgeHandshake(KEY, golden_body("hello"), lambda _: EDGE).hello == golden_control("hello")


@pytest.mark.parametrize("name", ["welcome", *REFUSALS])
def test_the_product_answers_the_golden_hello_with_the_golden_welcome_or_refusal(name: str) -> None:
    hello = read_hello(golden_control("hello"), KEYS)
    assert not isinstance(hello, wire.Drop)
    number = SESSION if name == "welcome" else 0
    answer = answer_hello(hello, number, golden_body(name), entropy_of_the_cloud)
    assert answer is not None
    assert answer[0] == golden_control(name)


# --- the product's receivers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TENSORS)
def test_the_cloud_collects_each_golden_symbol_on_its_own(name: str) -> None:
    vector = TENSORS[name]
    for datagram in golden_symbols(name).values():
        cloud = cloud_of(vector.session)
        cloud.receive(wire.batch_of([datagram], ["edge"]), 1.0)
        assert cloud.counts == Counter({"collected": 1})


@pytest.mark.parametrize("name", TENSORS)
def test_the_cloud_gives_each_golden_symbol_of_a_tensor_a_good_fate_one_by_one(name: str) -> None:
    vector = TENSORS[name]
    cloud = cloud_of(vector.session)
    for datagram in vector.datagrams:
        cloud.receive(wire.batch_of([datagram], ["edge"]), 1.0)
    needed = 1 + max(  # data goes first: with the last data symbol the tensor is complete, and parity is surplus
        position for position, (block, index) in enumerate(vector.order()) if index < len(vector.blocks[block].places)
    )
    sent = len(vector.order())
    assert cloud.counts == Counter({"collected": needed, "surplus": sent - needed})
    assert decided_by(cloud).complete


@pytest.mark.parametrize("name", TENSORS)
def test_the_cloud_decodes_a_golden_tensor_to_the_quantised_features(name: str) -> None:
    vector = TENSORS[name]
    decided, tensor = decoded(vector, vector.datagrams)
    assert decided.complete
    assert (tensor.recovered, tensor.missing, tensor.conflicting) == (0, 0, 0)
    np.testing.assert_allclose(tensor.chi, expected_features(vector), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, vector in TENSORS.items() if name != "bare"])
def test_the_cloud_decodes_a_golden_tensor_from_as_much_parity_as_there_is(name: str) -> None:
    vector = TENSORS[name]
    last = [
        datagram
        for (block, index), datagram in zip(vector.order(), vector.datagrams, strict=True)
        if index >= vector.blocks[block].n - len(vector.blocks[block].places)
    ]
    decided, tensor = decoded(vector, last)
    assert decided.complete
    assert tensor.recovered == sum(min(block.n - len(block.places), len(block.places)) for block in vector.blocks)
    assert (tensor.missing, tensor.conflicting) == (0, 0)
    np.testing.assert_allclose(tensor.chi, expected_features(vector), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in SEALED if not CONTROLS[name].downwards])
def test_the_cloud_takes_each_golden_message_of_an_edge(name: str) -> None:
    cloud = cloud_of(CONTROL_SESSION, sketches=CONTROLS[name].kind == "SKETCH")
    cloud.receive(wire.batch_of([golden_control(name)], ["edge"]), 1.0)
    assert cloud.counts == Counter({CONTROLS[name].kind.lower(): 1})
    assert cloud.open_sessions == (CONTROLS[name].kind != "BYE")
    answer = {"PING": "pong", "BYE": "bye_of_cloud"}.get(CONTROLS[name].kind)
    assert cloud.datagrams_to_send() == ([(golden_control(answer), "edge")] if answer else [])


@pytest.mark.parametrize("name", [name for name in SEALED if CONTROLS[name].downwards])
def test_the_edge_takes_each_golden_message_of_the_cloud(name: str) -> None:
    edge = waiting_edge()
    edge.receive(wire.batch_of([golden_control(name)], ["cloud"]), 0.1)
    assert edge.counts == Counter({CONTROLS[name].kind.lower(): 1})


@pytest.mark.parametrize("name", REFUSALS)
def test_the_edge_takes_each_golden_refusal(name: str) -> None:
    edge = edge_that_asks()
    edge.receive(wire.batch_of([golden_control(name)], ["cloud"]), 0.1)
    assert edge.counts == Counter({"refuse": 1})
    assert edge.next_event() == Refused(**CONTROLS[name].values)  # type: ignore[arg-type]


def test_the_edge_closes_a_tensor_with_the_golden_result_and_report_and_acknowledges_both() -> None:
    edge = waiting_edge()
    report = second_seal.seal(CONTROL_SESSION.secrets[1], 1, SESSION, 1, second_seal.MESSAGE, golden_body("report"))
    edge.receive(wire.batch_of([golden_control("result_partial"), report], ["cloud"] * 2), 0.1)
    told = wire.Result(**CONTROLS["result_partial"].values), wire.Report(**CONTROLS["report"].values)  # type: ignore[arg-type]
    answer = HEAD.read(told[0].answer)
    assert [*iter(edge.next_event, None)] == [Answered(1, told[0], answer), Closed(1, *told, 0, answer)]
    acknowledged = second_encoder.message("ACK", {"results": [1], "reports": [1]})
    up = CONTROL_SESSION.secrets[0]
    assert edge.datagrams_to_send() == [second_seal.seal(up, 1, SESSION, 1, second_seal.MESSAGE, acknowledged)]


# --- random tensors and plans --------------------------------------------------------------------------------------


@st.composite
def blocks_of(draw: st.DrawFn, total: int) -> list[second_encoder.Block]:
    """Up to four blocks of any code over some of a tensor's packets."""
    places = draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=24, unique=True))
    cuts = sorted(draw(st.sets(st.integers(1, len(places)), max_size=3)) | {len(places)})
    blocks = []
    for start, end in zip([0, *cuts], cuts, strict=False):
        code = draw(st.sampled_from([second_encoder.CODE_NONE, second_encoder.CODE_ZFEC]))
        parity = draw(st.integers(0, 12)) if code else 0
        blocks.append(second_encoder.Block(places[start:end], end - start + parity, code))
    return blocks


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_both_encoders_make_the_same_bodies_of_any_small_tensor_and_plan(data: st.DataObject) -> None:
    split = next(point for point in RESNET50.cuts if point.name == "avg_pool")
    grid = packet_grid(split, 1)
    floats = st.floats(-(2.0**126), 2.0**126, width=32).map(lambda x: x + 0.0)  # no negative zero
    values = data.draw(st.lists(floats, min_size=1, max_size=40))
    chi = np.resize(np.array(values, np.float32), split.shape)
    blocks = data.draw(blocks_of(grid.count))
    number = data.draw(st.integers(0, 2**32 - 1))

    encoded = encode_tensor(chi, product_plan(blocks, grid.count), grid, split)
    slots = [(b, i) for b, block in enumerate(blocks) for i in range(block.n)]
    order = [slots[slot] for slot in send_order(encoded.plan.shapes)]
    tensor = second_encoder.Tensor(split.id, split.shape, chi.ravel().tolist())
    theirs = second_encoder.symbols(tensor, 1, blocks, number, order)
    assert [row.tobytes() for row in encoded.bodies(number)] == theirs


@pytest.mark.leopard
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**32 - 1), st.sampled_from([1, 2]))
def test_both_encoders_make_the_same_parity_of_any_small_block(
    k: int, parity: int, words: int, seed: int, number: int
) -> None:
    data = np.random.default_rng(seed).integers(0, 256, (k, 2 * words), np.uint8)
    ours = CODES[number].encode(data, k + parity)
    theirs = {1: second_encoder.parity, 2: second_encoder.leopard_parity}[number]
    for index in {0, seed % parity, parity - 1}:
        assert ours[index].tobytes() == theirs([row.tobytes() for row in data], k, k + parity, k + index)


@settings(max_examples=25, deadline=None)
@given(
    tensor=st.integers(0, 2**32 - 1),
    small=st.integers(0, 2**16 - 1),
    text=st.text(max_size=64),
    score=st.floats(allow_nan=False, allow_infinity=False),
    numbers=st.lists(st.integers(0, 2**32 - 1), max_size=40),
)
def test_both_encoders_make_the_same_control_messages(
    tensor: int, small: int, text: str, score: float, numbers: list[int]
) -> None:
    answers = [[small % 1000, text, score]] * min(len(numbers), 5)
    for message in (
        wire.Hello(small % 256, small, small, text),
        wire.Welcome(tensor, small % 2 == 0),
        wire.Refuse("full", text),
        wire.Ping(),
        wire.Pong(),
        wire.Result(tensor, "partial", answers, small, small, {text: score}),
        wire.Report(tensor, small, small, small, text.encode()),
        wire.SketchPart(tensor, small % 256, small // 256, 0, text.encode()),
        wire.Ack(numbers, numbers[::-1]),
        wire.Bye(),
    ):
        assert wire.message_body(message) == second_encoder.message(message.kind.name, vars(message))


# --- the page itself -----------------------------------------------------------------------------------------------


def tables(heading: str) -> list[list[list[str]]]:
    """The tables under a heading: the cells of each line, the lines of headers and dashes left out."""
    section = re.split(r"^#", PROTOCOL.split(f"# {heading}")[1], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"(?:^\|.*\|$\n?)+", section, re.MULTILINE)
    return [[[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()[2:]] for table in found]


def layout(rows: list[list[str]]) -> list[tuple[str, int, int]]:
    """The name, offset and size of each field of a table that has a number for all three."""
    return [(name, int(offset), int(size)) for offset, size, name, *_ in rows if offset.isdigit() and size.isdigit()]


def layout_of(dtype: np.dtype[Any]) -> list[tuple[str, int, int]]:
    assert dtype.fields is not None
    return [(name, field[1], field[0].itemsize) for name, field in dtype.fields.items()]


def test_the_page_has_every_split_point() -> None:
    (rows,) = tables("Appendix A: split points")
    written = [(int(id), name, shape) for id, name, shape in rows]
    assert written == [(point.id, point.name, " x ".join(map(str, point.shape))) for point in RESNET50.cuts]


def test_the_page_has_every_kind() -> None:
    written = {name: int(number) for number, name, *_ in tables("1. What every datagram has")[1]}
    assert written == {kind.name: kind.value for kind in wire.Kind} == second_encoder.KINDS


def test_the_page_has_every_control_message_and_its_keys_in_the_order_of_the_wire() -> None:
    (rows,) = tables("6. Control messages")
    assert {name: int(number) for number, name, *_ in rows} == second_encoder.MESSAGE_KINDS
    assert {kind.name: kind.value for kind in wire.MessageKind} == second_encoder.MESSAGE_KINDS
    written = {
        name: re.findall(r"(?:^|; |, )`(\w+)` (?:u8|u16|u32|string|array|map|bin|bool|any)", keys)
        for _, name, _, keys in rows
    }
    assert written == {
        message.kind.name: [field.name for field in fields(message)] for message in wire.MESSAGES.values()
    }


def test_the_page_has_every_fate_of_a_datagram() -> None:
    section = PROTOCOL.split("### 7.4")[1].split("## Appendix")[0]
    good = re.findall(r"`(\w+)`", section.split("Good ones:")[1].split("Bad ones")[0])
    (rows,) = tables("7.4 What becomes of a datagram")
    bad = {fate for names, _ in rows for fate in re.findall(r"`(\w+)`", names)}
    assert set(good) == GOOD_FATES and len(good) == len(GOOD_FATES)
    assert bad == {drop.value for drop in wire.Drop} - {"foreign_address"}  # the edge's socket drops that


def test_the_page_has_every_field_of_every_header_at_its_offset() -> None:
    outer = layout(tables("4.1 Outer header")[0])
    assert outer == layout_of(wire.OUTER_HEADER)
    assert layout(tables("1. What every datagram has")[0]) == outer[:5]
    assert layout(tables("5. SYMBOL")[0]) == layout_of(wire.SYMBOL_HEADER)


def test_the_page_has_the_parts_of_hello_and_welcome_at_their_offsets() -> None:
    parts = [("header", 8), ("key id", 8), ("edge key", 32), ("sealed", 448), ("tag", 16)]
    offsets = np.cumsum([0, *(size for _, size in parts)]).tolist()
    written = layout(tables(f"3.1 HELLO: exactly {handshake.HELLO_BYTES} bytes")[0])
    assert written == [(name, offset, size) for (name, size), offset in zip(parts, offsets[:-1], strict=True)]
    assert offsets[-1] == handshake.HELLO_BYTES
    shortest, longest = handshake.MIN_WELCOME_BYTES, handshake.MAX_WELCOME_BYTES
    assert layout(tables(f"3.2 WELCOME: {shortest} to {longest} bytes")[0]) == [("header", 0, 8), ("cloud key", 8, 32)]


@pytest.mark.leopard
def test_the_page_has_every_registered_cipher_quantiser_code_and_fill_rule() -> None:
    for heading, registered in (
        ("4.2 Ciphers", {1: "AES-256-GCM", 2: "ChaCha20-Poly1305"}),
        ("5.2 Quantisers", QUANTISERS),
        ("5.3 Erasure codes", {id: code.name for id, code in CODES.items()}),
        ("5.4 Fill rules", FILLS),
    ):
        assert {int(id): name for id, name, *_ in tables(heading)[0]} == registered
    assert [cipher.name for cipher in Cipher] == ["AES_256_GCM", "CHACHA20_POLY1305"]


@pytest.mark.leopard
def test_the_page_states_the_limits_of_every_code() -> None:
    for id, _, limits, *_ in tables("5.3 Erasure codes")[0]:
        assert f"<= {CODES[int(id)].max_n:,}" in limits
        assert ("even" in limits) == (CODES[int(id)].word_bytes == 2)


def test_the_page_states_the_bounds_of_the_product() -> None:
    assert f"at most **{wire.MAX_DATAGRAM_BYTES} bytes**" in PROTOCOL
    assert f"rows x W at most {wire.MAX_SYMBOL_BYTES - wire.PLACE_BYTES}" in PROTOCOL
    grid = packet_grid(next(point for point in RESNET50.cuts if point.name == DEFAULT_CUT), DEFAULT_ROWS)
    assert f"({DEFAULT_CUT}, {DEFAULT_ROWS}), a symbol has 2 + {grid.size} bytes" in PROTOCOL
    assert f"datagram {wire.OVERHEAD_BYTES + grid.size}" in PROTOCOL


def test_the_page_states_the_times_and_limits_of_the_product() -> None:
    page, cloud, edge = " ".join(PROTOCOL.split()), CloudLimits(), EdgeLimits()
    for text in (
        f"the last {cloud.greetings} of them",
        f"within {cloud.greeting_s:g} s",
        f"at a rate of {cloud.hellos_per_s:g} a second, of one address {cloud.hellos_per_s_and_address:g} a second",
        f"the datagrams of {cloud.tensors_per_session} tensors, and {cloud.tensors_per_s:g} more a second",
        f"ends a session after {cloud.session_idle_s:g} s of silence",
        f"{cloud.reorder_s * 1000:g} ms after its last datagram",
        f"over {cloud.tensor_window} ahead of the newest",
        f"at most for {cloud.answer_stale_s:g} s",
        f"at first every {edge.repeat_s:g} s, then ever more slowly to every {edge.repeat_max_s:g} s",
        f"after {edge.hello_renew_s:g} s without an answer",
        f"(PING) after {edge.probe_after_s:g} s of silence while something is due",
        f"after {edge.keepalive_s:g} s otherwise",
        f"after {edge.lost_after_s:g} s of silence while something is due. Then it goes on asking",
        f"after another {edge.hello_after_s:g} s",
        f"repeats its BYE every {edge.bye_repeat_s:g} s until the cloud's, at most for {edge.bye_patience_s:g} s",
        f"or {edge.report_timeout_s:g} s after the RESULT alone",
        f"({edge.answer_timeout_s:g} s after sending, by default)",
    ):
        assert text in page
    assert cloud.hello_burst_s == 2  # "twice as many at once"
