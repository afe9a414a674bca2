"""The wire format is what docs/PROTOCOL.md says: a second encoder, written from that page, agrees with the product."""

from __future__ import annotations

import hashlib
import re
import struct
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common import wire
from gradfec_common.codes import CODES
from gradfec_common.network import DEFAULT_SPLIT, SPLIT_POINTS, split_point_by_id
from gradfec_common.packets import DEFAULT_ROWS, PacketGrid
from gradfec_common.plan import Block, Plan
from gradfec_common.quantise import QUANTISERS
from gradfec_common.reassembly import DecodedTensor, decode_tensor
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import Answered, Closed, Connected, EdgeSession, Refused
from gradfec_common.session.events import Decided
from gradfec_common.transmit import FILLS, EncodedTensor, encode_tensor, packet_grid, send_order

from . import second_encoder
from .golden_inputs import CONTROLS, GOLDEN, TENSORS, VECTORS, TensorVector

PROTOCOL = (Path(__file__).parents[2] / "docs" / "PROTOCOL.md").read_text("utf-8")
NONCE = 0xFEDCBA9876543210
GOOD_FATES = {"collected", "surplus", "hello", "ack", "bye"}

# --- what a golden file holds, and the same from the product -----------------------------------------------------


def golden_lines(name: str) -> list[str]:
    lines = (GOLDEN / f"{name}.hex").read_text("utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def golden_control(name: str) -> bytes:
    (line,) = golden_lines(name)
    return bytes.fromhex(line)


def golden_symbols(name: str) -> dict[int, bytes]:
    shown = (line.split(":") for line in golden_lines(name)[:-1])
    return {int(position): bytes.fromhex(datagram) for position, datagram in shown}


def golden_digest(name: str) -> str:
    return golden_lines(name)[-1]


def digest(datagrams: list[bytes]) -> str:
    return f"{len(datagrams)} {hashlib.sha256(b''.join(datagrams)).hexdigest()}"


def grid_of(split: int, rows: int) -> PacketGrid:
    split_point = split_point_by_id(split)
    assert split_point is not None
    return packet_grid(split_point, rows)


def product_encoding(vector: TensorVector) -> EncodedTensor:
    """The vector's tensor as the product encodes it, in the product's own send order."""
    split = split_point_by_id(vector.split)
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


class FixedSession:
    """Draws the session number of the golden vector."""

    def __init__(self, session: int) -> None:
        self.session = session

    def integers(self, low: int, high: int) -> int:
        assert low <= self.session < high
        return self.session


def cloud_of(split: int, rows: int, session: int) -> CloudSessions:
    """A cloud with one session of the given number, opened by a hello from the second encoder."""
    split_point = split_point_by_id(split)
    assert split_point is not None
    cloud = CloudSessions(split_point, 0.25, cast("np.random.Generator", FixedSession(session)))
    hello = {"nonce": NONCE, "split": split, "rows": rows, "name": "edge 1"}
    cloud.receive(wire.batch_of([second_encoder.control("HELLO", 0, hello)], ["edge"]), 0.0)
    welcome = second_encoder.control("WELCOME", session, {"nonce": NONCE, "deadline_ms": 250})
    assert cloud.datagrams_to_send() == [(welcome, "edge")]
    cloud.counts.clear()
    return cloud


def decided_by(cloud: CloudSessions) -> Decided:
    (decided,) = [event for event in iter(cloud.next_event, None) if isinstance(event, Decided)]
    return decided


def decoded(vector: TensorVector, datagrams: list[bytes]) -> tuple[Decided, DecodedTensor]:
    cloud = cloud_of(vector.split, vector.rows, vector.session)
    cloud.receive(wire.batch_of(datagrams, ["edge"] * len(datagrams)), 1.0)
    assert cloud.counts == Counter({"collected": len(datagrams)})
    cloud.handle_timer(2.0)
    decided = decided_by(cloud)
    assert (decided.session, decided.tensor) == (vector.session, vector.number)
    return decided, decode_tensor(decided.arrived)


def waiting_edge() -> EdgeSession:
    """An edge in the session of the golden vectors that awaits the answers for tensors 0 and 1."""
    vector = TENSORS["constant"]
    edge = EdgeSession(wire.Hello(NONCE, vector.split, vector.rows, "edge 1"), 0.0)
    edge.receive(wire.batch_of([golden_control("welcome")], ["cloud"]), 0.0)
    assert edge.next_event() == Connected(0x01020304, 0.25, fresh=True)
    encoded = product_encoding(vector)
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


def test_the_golden_vectors_have_every_kind_of_datagram() -> None:
    assert {control.kind for control in CONTROLS.values()} | {"SYMBOL"} == set(wire.Kind.__members__)


# --- the product's encoder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TENSORS)
def test_the_product_encodes_a_tensor_to_the_golden_datagrams(name: str) -> None:
    vector = TENSORS[name]
    encoded = in_golden_order(product_encoding(vector), vector)
    datagrams = [row.tobytes() for row in encoded.datagrams(vector.session, vector.number)]
    assert {position: datagrams[position] for position in vector.shown} == golden_symbols(name)
    assert digest(datagrams) == golden_digest(name)


@pytest.mark.parametrize("name", CONTROLS)
def test_the_product_encodes_a_control_message_to_the_golden_datagram(name: str) -> None:
    vector = CONTROLS[name]
    message = wire.MESSAGES[wire.Kind[vector.kind]](**vector.body)
    assert wire.control_datagram(vector.session, message) == golden_control(name)


@pytest.mark.parametrize("name", CONTROLS)
def test_the_product_reads_from_a_golden_control_datagram_what_was_put_in(name: str) -> None:
    vector = CONTROLS[name]
    message = wire.MESSAGES[wire.Kind[vector.kind]](**vector.body)
    assert wire.read_control(np.frombuffer(golden_control(name), np.uint8)) == (vector.session, message)


# --- the product's receivers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TENSORS)
def test_the_cloud_collects_each_golden_symbol_on_its_own(name: str) -> None:
    vector = TENSORS[name]
    for datagram in golden_symbols(name).values():
        cloud = cloud_of(vector.split, vector.rows, vector.session)
        cloud.receive(wire.batch_of([datagram], ["edge"]), 1.0)
        assert cloud.counts == Counter({"collected": 1})


@pytest.mark.parametrize("name", TENSORS)
def test_the_cloud_gives_each_golden_symbol_of_a_tensor_a_good_fate_one_by_one(name: str) -> None:
    vector = TENSORS[name]
    cloud = cloud_of(vector.split, vector.rows, vector.session)
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


@pytest.mark.parametrize("name", [name for name, vector in CONTROLS.items() if vector.kind in ("HELLO", "ACK", "BYE")])
def test_the_cloud_takes_each_golden_control_message_of_an_edge(name: str) -> None:
    cloud = cloud_of(175, 7, 0x01020304)
    cloud.receive(wire.batch_of([golden_control(name)], ["edge"]), 1.0)
    assert cloud.counts == Counter({CONTROLS[name].kind.lower(): 1})
    assert cloud.open_sessions == (CONTROLS[name].kind != "BYE")
    if name == "hello":
        assert cloud.datagrams_to_send() == [(golden_control("welcome"), "edge")]


@pytest.mark.parametrize(
    "name", [name for name, vector in CONTROLS.items() if vector.kind in ("WELCOME", "RESULT", "REPORT", "BYE")]
)
def test_the_edge_takes_each_golden_control_message_of_the_cloud(name: str) -> None:
    edge = waiting_edge()
    edge.receive(wire.batch_of([golden_control(name)], ["cloud"]), 0.1)
    assert edge.counts == Counter({CONTROLS[name].kind.lower(): 1})


@pytest.mark.parametrize("name", [name for name, vector in CONTROLS.items() if vector.kind == "REFUSE"])
def test_the_edge_takes_each_golden_refusal(name: str) -> None:
    body = CONTROLS[name].body
    edge = EdgeSession(wire.Hello(cast(int, body["nonce"]), 175, 7, "edge 1"), 0.0)
    edge.receive(wire.batch_of([golden_control(name)], ["cloud"]), 0.1)
    assert edge.counts == Counter({"refuse": 1})
    assert edge.next_event() == Refused(cast(str, body["reason"]), cast(str, body["detail"]))


def test_the_edge_closes_a_tensor_with_the_golden_result_and_report_and_acknowledges_both() -> None:
    edge = waiting_edge()
    edge.receive(wire.batch_of([golden_control("result_partial"), golden_control("report")], ["cloud"] * 2), 0.1)
    result, report = wire.Result(**CONTROLS["result_partial"].body), wire.Report(**CONTROLS["report"].body)
    assert [*iter(edge.next_event, None)] == [Answered(1, result), Closed(1, result, report)]
    acknowledged = second_encoder.control("ACK", 0x01020304, {"results": [1], "reports": [1]})
    assert edge.datagrams_to_send() == [acknowledged]


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
def test_both_encoders_make_the_same_datagrams_of_any_small_tensor_and_plan(data: st.DataObject) -> None:
    split = next(point for point in SPLIT_POINTS if point.name == "avg_pool")
    grid = packet_grid(split, 1)
    floats = st.floats(-(2.0**126), 2.0**126, width=32).map(lambda x: x + 0.0)  # no negative zero
    values = data.draw(st.lists(floats, min_size=1, max_size=40))
    chi = np.resize(np.array(values, np.float32), split.shape)
    blocks = data.draw(blocks_of(grid.count))
    session, number = data.draw(st.integers(1, 2**32 - 1)), data.draw(st.integers(0, 2**32 - 1))

    encoded = encode_tensor(chi, product_plan(blocks, grid.count), grid, split)
    slots = [(b, i) for b, block in enumerate(blocks) for i in range(block.n)]
    order = [slots[slot] for slot in send_order(encoded.plan.shapes)]
    tensor = second_encoder.Tensor(split.id, split.shape, chi.ravel().tolist())
    assert [row.tobytes() for row in encoded.datagrams(session, number)] == second_encoder.symbols(
        tensor, 1, blocks, session, number, order
    )


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
    nonce=st.integers(0, 2**64 - 1),
    small=st.integers(0, 2**16 - 1),
    text=st.text(max_size=64),
    score=st.floats(allow_nan=False, allow_infinity=False),
    numbers=st.lists(st.integers(0, 2**32 - 1), max_size=40),
)
def test_both_encoders_make_the_same_control_messages(
    nonce: int, small: int, text: str, score: float, numbers: list[int]
) -> None:
    tensor = nonce >> 32
    answers = [[small % 1000, text, score]] * min(len(numbers), 5)
    for message in (
        wire.Hello(nonce, small, small, text),
        wire.Welcome(nonce, tensor),
        wire.Refuse(nonce, "full", text),
        wire.Result(tensor, "partial", answers, small, small, {text: score}),
        wire.Report(tensor, small, small, small),
        wire.Ack(numbers, numbers[::-1]),
        wire.Bye(),
    ):
        theirs = second_encoder.control(message.kind.name, tensor, vars(message))
        assert wire.control_datagram(tensor, message) == theirs


# --- the page itself -----------------------------------------------------------------------------------------------


def tables(heading: str) -> list[list[str]]:
    """The cells of each line of the tables under a heading, the lines of headers and dashes left out."""
    section = re.split(r"^#", PROTOCOL.split(f"# {heading}")[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = re.findall(r"^\|(?!-)(.*)\|$", section, re.MULTILINE)[1:]
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def test_the_page_has_every_split_point() -> None:
    written = [(int(id), name, shape) for id, name, shape in tables("Appendix A: split points")]
    assert written == [(point.id, point.name, " x ".join(map(str, point.shape))) for point in SPLIT_POINTS]


def test_the_page_has_every_kind() -> None:
    written = [(int(number), name) for number, name, *_ in tables("2. Kinds")]
    assert written == [(kind.value, kind.name) for kind in wire.Kind]
    assert {kind.name: kind.value for kind in wire.Kind} == second_encoder.KINDS


def test_the_page_has_every_control_message_and_its_keys_in_the_order_of_the_wire() -> None:
    written = {
        kind: re.findall(r"(?:^|; |, )`(\w+)` (?:u16|u32|u64|string|array|map|as)", keys)
        for kind, keys in tables("4. Control messages")
    }
    assert written == {
        message.kind.name: [field.name for field in fields(message)] for message in wire.MESSAGES.values()
    }


def test_the_page_has_every_fate_of_a_datagram() -> None:
    section = PROTOCOL.split("### 5.4")[1].split("## Appendix")[0]
    good = re.findall(r"`(\w+)`", section.split("Good ones:")[1].split("Bad ones")[0])
    bad = [fate for names, _ in tables("5.4 What becomes of a datagram") for fate in re.findall(r"`(\w+)`", names)]
    assert set(good) == GOOD_FATES and len(good) == len(GOOD_FATES)
    assert sorted(bad) == sorted(drop.value for drop in wire.Drop)


def test_the_page_has_every_field_of_the_symbol_header_at_its_offset() -> None:
    common = [(name, int(offset), int(size)) for offset, size, name, _ in tables("1. What every")[:5]]
    symbol = [(name, int(offset), int(size)) for offset, size, name, _ in tables("3. SYMBOL")[1:-2]]
    layout = wire.SYMBOL_HEADER.fields
    assert layout is not None
    assert common + symbol == [(name, field[1], field[0].itemsize) for name, field in layout.items()]
    assert common == [("magic", 0, 1), ("version", 1, 1), ("kind", 2, 1), ("flags", 3, 1), ("session", 4, 4)]


@pytest.mark.leopard
def test_the_page_has_every_registered_quantiser_code_and_fill_rule() -> None:
    for heading, registered in (
        ("3.2 Quantisers", QUANTISERS),
        ("3.3 Erasure codes", {id: code.name for id, code in CODES.items()}),
        ("3.4 Fill rules", FILLS),
    ):
        assert {int(id): name for id, name, *_ in tables(heading)} == registered


@pytest.mark.leopard
def test_the_page_states_the_limits_of_every_code() -> None:
    for id, _, limits, *_ in tables("3.3 Erasure codes"):
        assert f"<= {CODES[int(id)].max_n:,}" in limits
        assert ("even" in limits) == (CODES[int(id)].word_bytes == 2)


def test_the_page_states_the_bounds_of_the_product() -> None:
    assert f"at most **{wire.MAX_DATAGRAM_BYTES} bytes**" in PROTOCOL
    assert f"rows x W at most {wire.MAX_SYMBOL_BYTES - wire.PLACE_BYTES}" in PROTOCOL
    grid = packet_grid(next(point for point in SPLIT_POINTS if point.name == DEFAULT_SPLIT), DEFAULT_ROWS)
    assert f"({DEFAULT_SPLIT}, {DEFAULT_ROWS}), a symbol has 2 + {grid.size} bytes" in PROTOCOL
    assert f"datagram {wire.OVERHEAD_BYTES + grid.size}" in PROTOCOL
    assert struct.calcsize(">BBBBI") == wire.CONTROL_HEADER_BYTES
