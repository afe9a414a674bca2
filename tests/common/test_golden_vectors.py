"""The wire format is what docs/reference/protocol.md says: an encoder and a seal made from it agree with ours."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common import entropy, protect, quantisers, wire
from gradfec_common.ciphers import Cipher
from gradfec_common.codes import CODES
from gradfec_common.conceal import make_concealment
from gradfec_common.decode import DecodedTensor, decode_tensor
from gradfec_common.keys import Key
from gradfec_common.networks import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.protect.plan import Plan
from gradfec_common.quantisers import QUANTISERS, Needs, quantiser_of_id
from gradfec_common.quantisers.laplace import Laplace
from gradfec_common.reassembly import Reassembly
from gradfec_common.seal import Opener, Sealer
from gradfec_common.session.handshake import EdgeHandshake, HandshakeKey, answer_hello, read_hello
from gradfec_common.symbols import Packing
from gradfec_common.transmit import encode_tensor
from gradfec_common.wire.symbol import MAX_AGAIN

from . import golden_inputs, second_encoder
from .golden_inputs import CONTROL_SESSION, CONTROLS, GOLDEN, SESSION, TENSORS, TOY, VECTORS, TensorVector
from .second_encoder import Group, Stripe
from .second_seal import CLOUD, EDGE, PSK
from .trimmed import Features, Trimmed

KEY = HandshakeKey(Key(PSK))
SEALED = [name for name, vector in CONTROLS.items() if vector.kind not in ("HELLO", "WELCOME", "REFUSE")]
REFUSALS = [name for name, vector in CONTROLS.items() if vector.kind == "REFUSE"]
ZERO = make_concealment("zero", RESNET50.cuts[0], {})

# --- what a golden file holds ------------------------------------------------------------------------------------


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


def digest(datagrams: Sequence[bytes]) -> str:
    return f"{len(datagrams)} {hashlib.sha256(b''.join(datagrams)).hexdigest()}"


# --- the same from the product ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUANTISERS, Trimmed().name, Trimmed())


def quantiser_of(number: int) -> quantisers.Quantiser:
    quantiser = quantiser_of_id(number)
    assert quantiser is not None
    return quantiser


def grid_of(vector: TensorVector) -> PacketGrid:
    return PacketGrid(vector.shape, vector.rows)


def product_plan(groups: Sequence[Group], total: int, reserve: int) -> Plan:
    kept = [place for group in groups for stripe in group.stripes for place in stripe.places]
    dropped = np.setdiff1d(np.arange(total), np.array(kept, np.intp))
    of_product = tuple(protect.Group(g.n, tuple(map(product_stripe, g.stripes))) for g in groups)
    return Plan(total, dropped, of_product, reserve)


def product_stripe(stripe: Stripe) -> protect.Stripe:
    starts = np.array([0, *accumulate(map(len, stripe.symbols))], np.intp)
    return protect.Stripe(np.array(stripe.places, np.intp), Packing(starts, stripe.length), CODES[stripe.code])


def product_bodies(
    tensor: Features,
    grid: PacketGrid,
    quantiser: int,
    groups: Sequence[Group],
    number: int,
    reserve: int = 0,
    form: int = 0,
    again: int = 0,
) -> wire.Bytes:
    coder, plan = quantiser_of(quantiser), product_plan(groups, grid.count, reserve)
    return encode_tensor(coder.encode(tensor, grid), coder, plan, form=form).bodies(number, again)


def bodies_of(vector: TensorVector) -> wire.Bytes:
    tensor = np.array(vector.elements, np.float32).reshape(vector.shape)
    return product_bodies(
        *(tensor, grid_of(vector), vector.quantiser, vector.groups, vector.number),
        reserve=vector.reserve,
        again=vector.again,
    )


def matrix(rows: Sequence[bytes]) -> wire.Bytes:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)


def decoded(bodies: wire.Bytes, grid: PacketGrid) -> DecodedTensor:
    arrived = Reassembly(bodies[0].tobytes(), grid)
    assert arrived.add(bodies) == {}
    return decode_tensor(arrived, ZERO)


# --- what a receiver must make of it, by the page ----------------------------------------------------------------


def at_hand(groups: Sequence[Group], arrived: set[second_encoder.Slot]) -> Iterator[tuple[int, bool]]:
    """The places of the packets that are there, and whether parity gave them back."""
    for g, group in enumerate(groups):
        there = {index for g_of, index in arrived if g_of == g}
        for stripe in group.stripes:
            for index, places in enumerate(stripe.symbols):
                if index in there or len(there) >= stripe.k:
                    yield from ((place, index not in there) for place in places)


def expected_features(vector: TensorVector, there: set[int]) -> Features:
    grid = grid_of(vector)
    rows = np.zeros((grid.count, grid.size), np.float32)
    for place in there:
        rows[place] = values_of(vector, vector.coded.packets[place], grid.size)
    return grid.join(rows)


def values_of(vector: TensorVector, packet: bytes, elements: int) -> list[float]:
    if vector.quantiser == TOY:
        return [*map(float, packet.ljust(elements, b"\0"))]
    if vector.quantiser == second_encoder.LAPLACE:
        levels = second_encoder.range_decoded(packet, elements)
        assert levels is not None
        (step,) = struct.unpack(">f", vector.coded.parameters)
        return [level * step for level in levels]
    if vector.quantiser in second_encoder.LOCAL:
        ends, levels = second_encoder.local_levels(packet, second_encoder.LOCAL[vector.quantiser], elements)
        return [second_encoder.value_of(9 - second_encoder.LOCAL[vector.quantiser], ends, level) for level in levels]
    size = second_encoder.QUANTISERS[vector.quantiser][1]
    bits = "".join(f"{byte:08b}" for byte in packet)
    levels = [int(bits[start : start + size], 2) for start in range(0, elements * size, size)]
    return [second_encoder.value_of(vector.quantiser, vector.coded.parameters, level) for level in levels]


# --- the golden files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VECTORS)
def test_the_second_encoder_makes_the_golden_file(name: str) -> None:
    assert (GOLDEN / f"{name}.hex").read_text("utf-8") == VECTORS[name].text()


def test_there_is_no_golden_file_without_its_inputs_and_they_are_small() -> None:
    files = list(GOLDEN.iterdir())
    assert {file.name for file in files} == {f"{name}.hex" for name in VECTORS}
    assert sum(file.stat().st_size for file in files) < 100_000


def test_the_golden_vectors_have_every_kind_of_datagram_message_cipher_quantiser_and_code() -> None:
    datagrams = [vector.datagrams[0] for vector in TENSORS.values()] + [c.datagram() for c in CONTROLS.values()]
    stripes = [stripe for vector in TENSORS.values() for group in vector.groups for stripe in group.stripes]
    assert {datagram[2] for datagram in datagrams} == {*wire.Kind}
    assert {control.kind for control in CONTROLS.values()} == {*wire.MessageKind.__members__}
    assert {vector.cipher for vector in TENSORS.values()} == {*Cipher}
    parts = {quantiser.id for quantiser in QUANTISERS.values() if quantiser.needs is Needs.NOTHING}
    assert {vector.quantiser for vector in TENSORS.values()} == parts
    assert {stripe.code for stripe in stripes} >= {*CODES}


def test_a_golden_tensor_has_a_reserve_and_the_others_have_none() -> None:
    reserves = {name: vector.reserve for name, vector in TENSORS.items() if vector.reserve}
    assert reserves == {"reserve": 4}
    assert {len(vector.groups) for vector in TENSORS.values() if vector.reserve} == {1}


def test_a_golden_tensor_is_a_second_look_as_far_from_the_first_as_can_be_and_the_others_are_none() -> None:
    assert {name: vector.again for name, vector in TENSORS.items() if vector.again} == {"again": MAX_AGAIN}


def test_the_golden_tensors_are_of_cuts_of_resnet50() -> None:
    for vector in TENSORS.values():
        cut = RESNET50.cut_by_id(vector.cut)
        assert cut is not None and cut.shape == vector.shape
    assert RESNET50.digest == golden_inputs.RESNET50


# --- the product's encoder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TENSORS)
def test_the_product_encodes_a_tensor_to_the_golden_datagrams(name: str) -> None:
    vector = TENSORS[name]
    sealer = Sealer(vector.session.secrets[0], Cipher(vector.cipher), SESSION)
    datagrams = [row.tobytes() for row in sealer.seal(wire.Kind.SYMBOL, bodies_of(vector))]
    assert {position: datagrams[position] for position in vector.shown} == golden_symbols(name)
    assert digest(datagrams) == golden_digest(name)


@pytest.mark.parametrize("name", CONTROLS)
def test_the_product_encodes_a_control_message_to_the_golden_body_and_reads_it(name: str) -> None:
    vector = CONTROLS[name]
    message = wire.MESSAGES[wire.MessageKind[vector.kind]](**vector.values)
    assert wire.message_body(message) == golden_body(name)
    assert vars(wire.read_message(golden_body(name))) == vars(message)  # with the times, which `==` leaves out


@pytest.mark.parametrize("name", SEALED)
def test_the_product_seals_a_control_message_to_the_golden_datagram(name: str) -> None:
    sealer = Sealer(CONTROL_SESSION.secrets[CONTROLS[name].downwards], Cipher(CONTROL_SESSION.cipher), SESSION)
    assert sealer.seal_one(wire.Kind.MESSAGE, golden_body(name)) == golden_control(name)


def test_the_product_says_the_golden_hello() -> None:
    assert EdgeHandshake(KEY, golden_body("hello"), lambda _: EDGE).hello == golden_control("hello")


@pytest.mark.parametrize("name", ["welcome", *REFUSALS])
def test_the_product_answers_the_golden_hello_with_the_golden_welcome_or_refusal(name: str) -> None:
    hello = read_hello(golden_control("hello"), {KEY.id: KEY})
    assert not isinstance(hello, wire.Drop)
    number = SESSION if name == "welcome" else 0
    answer = answer_hello(
        hello, number, golden_body(name), lambda count: {4: SESSION.to_bytes(4, "big"), 32: CLOUD}[count]
    )
    assert answer is not None
    assert answer[0] == golden_control(name)


# --- the product's receiver ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TENSORS)
def test_the_product_opens_and_decodes_the_golden_datagrams_of_a_tensor(name: str) -> None:
    vector = TENSORS[name]
    opener = Opener(vector.session.secrets[0], Cipher(vector.cipher))
    bodies, _ = opener.open(matrix(vector.datagrams))
    assert [body.tobytes() for body in bodies] == vector.bodies
    tensor = decoded(bodies, grid_of(vector))
    assert (tensor.recovered, tensor.missing, tensor.conflicting) == (0, 0, 0)
    there = {place for group in vector.groups for stripe in group.stripes for place in stripe.places}
    np.testing.assert_allclose(tensor.tensor, expected_features(vector, there), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", TENSORS)
def test_the_product_decodes_a_golden_tensor_from_as_much_parity_as_there_is(name: str) -> None:
    vector = TENSORS[name]
    last = {(g, i) for g, i in vector.order if i >= vector.groups[g].n - vector.groups[g].most_k}
    assert_right_from(vector, last, missing=0)


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("seed", range(3))
def test_the_product_makes_of_some_golden_datagrams_what_the_page_says(name: str, seed: int) -> None:
    vector = TENSORS[name]
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, len(vector.order) + 1))
    assert_right_from(vector, {vector.order[i] for i in rng.permutation(len(vector.order))[:size]})


def assert_right_from(vector: TensorVector, arrived: set[second_encoder.Slot], missing: int | None = None) -> None:
    bodies = [body for slot, body in zip(vector.order, vector.bodies, strict=True) if slot in arrived]
    tensor = decoded(matrix(bodies), grid_of(vector))
    found = dict(at_hand(vector.groups, arrived))
    kept = sum(len(stripe.places) for group in vector.groups for stripe in group.stripes)
    assert (tensor.recovered, tensor.missing) == (sum(found.values()), kept - len(found))
    assert missing is None or tensor.missing == missing
    np.testing.assert_allclose(tensor.tensor, expected_features(vector, {*found}), rtol=1e-6, atol=1e-6)


# --- random tensors and plans --------------------------------------------------------------------------------------

SMALL = PacketGrid((4, 5, 6), 2)  # 12 packets of 10 elements
SIZES = {1: 10, 2: 9, 3: 8, 4: 7, 5: 5, 18: 3, 19: 4, 20: 5, 21: 7, 22: 8}  # bytes of its packets, by quantiser


@st.composite
def plans_of(draw: st.DrawFn, entry: int) -> list[Group]:
    """Up to three groups, all of as many stripes, over some of the small grid's packets, each of `entry` bytes."""
    shapes: list[tuple[int, list[tuple[int, int]]]] = []
    count = draw(st.integers(1, 3))
    for _ in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 8))
        codes = [draw(st.sampled_from([*CODES])) for _ in range(count)]
        shapes.append((n, [(code, draw(st.integers(1, n)) if code else n) for code in codes]))
    symbols = {
        (g, s, i): [] for g, (_, stripes) in enumerate(shapes) for s, (_, k) in enumerate(stripes) for i in range(k)
    }
    for place in draw(st.permutations(range(SMALL.count)))[: draw(st.integers(1, SMALL.count))]:
        symbols[draw(st.sampled_from(sorted(symbols)))].append(place)
    lengths = [
        max(2 * entry * max(len(places) for (_, of, _), places in symbols.items() if of == s), 2) for s in range(count)
    ]
    return [
        Group(
            n,
            [Stripe([symbols[g, s, i] for i in range(k)], lengths[s], code) for s, (code, k) in enumerate(stripes)],
        )
        for g, (n, stripes) in enumerate(shapes)
    ]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([*SIZES]), st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 63))
def test_both_encoders_make_the_same_bodies_of_any_small_tensor_and_plan(
    data: st.DataObject, quantiser: int, number: int, form: int, again: int
) -> None:
    floats = st.floats(-(2.0**126), 2.0**126, width=32).map(lambda x: x + 0.0)  # no negative zero
    values = data.draw(st.lists(floats, min_size=1, max_size=40))
    tensor = np.resize(np.array(values, np.float32), SMALL.shape)
    groups = data.draw(plans_of(3 + SIZES[quantiser]))
    coded = second_encoder.code(tensor.ravel().tolist(), SMALL.shape, SMALL.rows, quantiser)
    most = groups[0].n - groups[0].most_k if len(groups) == 1 else 0
    reserve = data.draw(st.integers(0, most))
    theirs = second_encoder.bodies(coded, groups, number, second_encoder.send_order(groups), reserve, form, again)
    made = product_bodies(tensor, SMALL, quantiser, groups, number, reserve, form, again)
    assert [row.tobytes() for row in made] == theirs


@pytest.mark.usefixtures("range_coder")
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-4, 0.1, 1.0, 30.0, 1e4]), st.sampled_from([1e-6, 0.125, 3.0]))
def test_both_encoders_make_the_same_packets_of_any_tensor_with_laplace(seed: int, scale: float, step: float) -> None:
    rng = np.random.default_rng(seed)
    tensor = rng.laplace(0, scale * rng.exponential(1, SMALL.shape[2]), SMALL.shape).astype(np.float32)
    tensor[:, :, rng.random(SMALL.shape[2]) < 0.2] = 0
    packets, parameters, _ = Laplace(step).encode(tensor, SMALL)
    theirs = second_encoder.code(tensor.ravel().tolist(), SMALL.shape, SMALL.rows, second_encoder.LAPLACE, step)
    assert parameters == theirs.parameters
    ends = zip(packets.offsets[:-1], packets.offsets[1:], strict=True)
    ours = {place: packets.data[start:end].tobytes() for place, (start, end) in enumerate(ends)}
    assert ours == theirs.packets


@pytest.mark.usefixtures("range_coder")
@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, entropy.TABLES - 1), st.integers(1, 120))
def test_both_encoders_make_the_same_bytes_of_any_levels_with_any_table(seed: int, table: int, count: int) -> None:
    rng, largest = np.random.default_rng(seed), entropy.LARGEST[table]
    spread = rng.choice([0.1, 1.0, largest])  # the outermost are cheap to say and costly to code
    levels = np.clip(np.rint(rng.normal(0, spread, (1, count))), -largest, largest).astype(np.int32)
    (ours,) = entropy.encode(levels, np.array([table]))
    assert ours == second_encoder.range_coded(levels[0].tolist(), table)
    assert second_encoder.range_decoded(ours, count) == levels[0].tolist()


@pytest.mark.usefixtures("range_coder")
@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(min_size=1, max_size=60), st.integers(1, 40).map(lambda n: b"\xff" * n)), st.integers(1, 99))
def test_both_decoders_make_the_same_levels_of_any_bytes_or_none(untrusted: bytes, count: int) -> None:
    (levels,), (there,) = entropy.decode([untrusted], count)
    assert (levels.tolist() if there else None) == second_encoder.range_decoded(untrusted, count)


@pytest.mark.leopard
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**32 - 1), st.sampled_from([1, 2]))
def test_both_encoders_make_the_same_parity_of_any_small_stripe(
    k: int, parity: int, words: int, seed: int, number: int
) -> None:
    data = np.random.default_rng(seed).integers(0, 256, (k, 2 * words), np.uint8)
    ours = CODES[number].encode(data, k + parity)
    theirs = {1: second_encoder.zfec_parity, 2: second_encoder.leopard_parity}[number]
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
    answer = [[small % 1000, text, score]] * min(len(numbers), 5)
    for message in (
        wire.Hello(small % 256, text.encode()[:16].ljust(16, b"\0"), small, small % 256, text),
        wire.Hello(1, bytes(16), small, 7, text, [[bytes(range(16)), small, small]] * 3),
        wire.Welcome(tensor, small % 2 == 0, [0, 3]),
        wire.Refuse("full", text),
        wire.Ping(),
        wire.Pong(),
        wire.Result(tensor, "partial", answer, small, small, {text: score}),
        wire.Report(tensor, small, small, small, text.encode(), tensor, tensor, tensor),
        wire.Request(tensor, small),
        wire.Ack(numbers, numbers[::-1]),
        wire.Bye(),
    ):
        assert wire.message_body(message) == second_encoder.message(message.kind.name, vars(message))
