"""The wire format refuses whatever is not in it, under a name, and never raises."""

import struct

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.plan import UnequalProtection
from gradfec_common.seal import Sealer
from gradfec_common.wire import (
    Ack,
    Bye,
    Drop,
    Hello,
    Kind,
    MessageKind,
    Ping,
    Pong,
    Refuse,
    Report,
    Result,
    SketchPart,
    Welcome,
    is_answer,
    message_body,
    read_message,
)

from . import second_seal
from .small_tensors import GRID, bodies_of, encoded, matrix_of, odd_plan

U8, U16, U32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
TEXT = st.text(max_size=64)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
MESSAGES = st.one_of(
    st.builds(Hello, U8, U16, U16, TEXT),
    st.builds(Welcome, U32, st.booleans()),
    st.builds(Refuse, TEXT, TEXT),
    st.sampled_from([Pong(), Bye()]),
    st.builds(Ping, st.binary(max_size=40)),
    st.builds(
        Result,
        U32,
        st.sampled_from(["complete", "partial"]),
        st.lists(st.tuples(U16, TEXT, SCORES).map(list), max_size=5),
        U16,
        U16,
        st.dictionaries(st.text(max_size=12), SCORES, max_size=5),
    ),
    st.builds(Report, U32, U16, U16, U16, st.binary(max_size=40)),
    st.builds(SketchPart, U32, U8, U8, U8, st.binary(max_size=40)),
    st.builds(Ack, st.lists(U32, max_size=50), st.lists(U32, max_size=50)),
)
EXAMPLES = [
    Hello(1, 18, 7, "kitchen"),
    Welcome(250),
    Refuse("full", "the cloud serves 256 edges already"),
    Ping(b"\0" * 1024),
    Pong(),
    Result(9, "partial", [[282, "tiger cat", 0.5], [3, "ä", 0.1]], 3, 4, {"decode": 1.5}),
    Report(9, 11, 4, 2, b"\xc8\x20"),
    Ack([1, 2**32 - 1], []),
    Bye(),
    SketchPart(9, 4, 2, 1, b"half of it"),
]
SEALER = Sealer(bytes(32), Cipher.AES_256_GCM, 7)
SYMBOL = SEALER.seal(Kind.SYMBOL, matrix_of(bodies_of(UnequalProtection(50).plan(np.zeros(GRID.count)))))[0].tobytes()
DATAGRAMS = {
    "SYMBOL": SYMBOL,
    "MESSAGE": SEALER.seal_one(Kind.MESSAGE, message_body(Bye())),
    "HELLO": second_seal.golden("hello")[0],
    "WELCOME": second_seal.golden("welcome")[0],
}
NAMED = pytest.mark.parametrize("datagram", DATAGRAMS.values(), ids=DATAGRAMS)
MESSAGES_NAMED = pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.kind.name)


def fate(datagram):
    """What a datagram claims to be, by name, or the reason why it is nothing of ours."""
    return fates([datagram])[0]


def fates(datagrams):
    return sorted_as(wire.sort_batch(wire.batch_of(datagrams, [None] * len(datagrams))), len(datagrams))


def sorted_as(found, count):
    """The fate of each of a batch's datagrams, which have one each."""
    named = {int(row): reason for reason, rows in found.drops.items() for row in rows}
    named |= {int(row): "hello" for row in found.hellos} | {int(row): "welcome" for row in found.welcomes}
    named |= {int(row): "sealed" for row in found.sealed}
    kinds = (found.sealed, found.hellos, found.welcomes, *found.drops.values())
    assert sum(map(len, kinds)) == len(named) == count
    assert len(found.headers) == len(found.sealed)
    return [named[row] for row in range(count)]


# --- what is in the format ---


def test_there_is_an_example_of_every_message():
    assert [message.kind for message in EXAMPLES] == [*MessageKind]
    assert set(wire.MESSAGES) == {*MessageKind}


@given(MESSAGES)
def test_a_message_comes_back_as_it_was_sent(message):
    body = message_body(message)
    assert body[0] == message.kind
    assert read_message(body) == message


@NAMED
def test_every_kind_of_datagram_is_accepted_whatever_its_flags(datagram):
    for flags in (0, 1, 255):
        assert not isinstance(fate(datagram[:3] + bytes([flags]) + datagram[4:]), Drop)


def test_a_batch_is_sorted_by_what_its_datagrams_claim_to_be():
    datagrams = [DATAGRAMS[kind] for kind in ("WELCOME", "SYMBOL", "HELLO", "MESSAGE", "SYMBOL", "HELLO")]
    found = wire.sort_batch(wire.batch_of([b"G", *datagrams], [None] * 7))
    assert (found.welcomes.tolist(), found.hellos.tolist(), found.sealed.tolist()) == ([1], [3, 6], [2, 4, 5])
    assert found.headers["kind"].tolist() == [Kind.SYMBOL, Kind.MESSAGE, Kind.SYMBOL]


@given(U32, st.integers(0, 2**62), st.sampled_from([Kind.SYMBOL, Kind.MESSAGE]), st.binary(min_size=1, max_size=200))
def test_what_may_be_seen_of_a_sealed_datagram_is_read_from_its_header(session, counter, kind, body):
    sealer = Sealer(bytes(32), Cipher.AES_256_GCM, session, 2**62)
    sealer.counter = min(counter, 2**62 - 1)
    found = wire.sort_batch(wire.batch_of([sealer.seal_one(kind, body)], [None]))
    (header,) = found.headers
    assert (header["session"], header["counter"], header["kind"]) == (session, min(counter, 2**62 - 1), kind)


def test_unknown_keys_of_a_message_are_ignored():
    body = bytes([MessageKind.WELCOME]) + msgpack.packb({"future": [1, {}], "sketches": True, "deadline_ms": 2})
    assert read_message(body) == Welcome(2, True)


def test_an_empty_batch_has_nothing_in_it():
    found = wire.sort_batch(wire.batch_of([], []))
    assert not any(map(len, (found.sealed, found.headers, found.hellos, found.welcomes)))
    assert not found.drops


@given(st.integers(0, 2**32 - 1))
def test_symbols_come_back_from_their_bodies(seed):
    tensor = encoded(odd_plan(np.random.default_rng(seed)), seed)
    bodies = wire.symbol_bodies(tensor.headers, tensor.symbols)
    assert bodies.shape == (len(tensor.symbols), wire.HEADER_BYTES + tensor.symbols.shape[1])
    assert bodies.flags.c_contiguous  # as sealing wants them
    assert bodies[0, : wire.HEADER_BYTES].tobytes() == tensor.headers[0].tobytes()
    headers, symbols = wire.read_symbols(bodies)
    np.testing.assert_array_equal(headers, tensor.headers)
    np.testing.assert_array_equal(symbols, tensor.symbols)
    odd = np.zeros((len(bodies), bodies.shape[1] + 3), np.uint8)  # whatever they lie in
    odd[:, 2:-1] = bodies
    np.testing.assert_array_equal(wire.read_symbols(odd[:, 2:-1])[0], tensor.headers)


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_places_go_in_front_of_packets_and_come_off_again(count, size, seed):
    rng = np.random.default_rng(seed)
    places, packets = rng.integers(0, 65536, count), rng.integers(0, 256, (count, size), np.uint8)
    symbols = wire.with_places(places, packets)
    assert symbols[0, :2].tobytes() == struct.pack(">H", places[0])
    got_places, got_packets = wire.without_places(symbols)
    np.testing.assert_array_equal(got_places, places)
    np.testing.assert_array_equal(got_packets, packets)


# --- what is not ---


@NAMED
def test_every_flip_in_the_first_three_bytes_is_another_kind_or_refused_under_a_name(datagram):
    reasons = (Drop.NOT_GRADFEC, Drop.UNKNOWN_VERSION, Drop.UNKNOWN_KIND)
    for offset, reason in enumerate(reasons):
        for flip in range(1, 256):
            found = fate(datagram[:offset] + bytes([datagram[offset] ^ flip]) + datagram[offset + 1 :])
            if offset < 2 or (datagram[offset] ^ flip) not in {*Kind}:
                assert found == reason
            else:
                assert found in ("sealed", "hello", "welcome")


@NAMED
def test_whatever_follows_the_header_is_for_the_keys_to_judge(datagram):
    whole = fate(datagram)
    for offset in range(3, len(datagram)):
        assert fate(datagram[:offset] + bytes([datagram[offset] ^ 0xFF]) + datagram[offset + 1 :]) == whole


@NAMED
def test_a_datagram_that_could_hold_nothing_is_too_short(datagram):
    found = fates([datagram[:length] for length in range(len(datagram) + 1)])
    assert found == [Drop.TOO_SHORT if length <= 32 else fate(datagram) for length in range(len(datagram) + 1)]


@pytest.mark.parametrize(("length", "reason"), [(1200, "sealed"), (1201, Drop.TOO_LONG), (65_507, Drop.TOO_LONG)])
def test_a_datagram_has_1200_bytes_at_most(length, reason):
    assert fate(SYMBOL.ljust(length, b"\0")) == reason


def test_a_datagram_that_its_buffer_did_not_hold_is_too_long():
    batch = wire.batch_of([SYMBOL], [None])
    found = wire.sort_batch(batch._replace(buffer=batch.buffer[:, :60].copy()))
    assert [*found.drops] == [Drop.TOO_LONG]


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=20))
def test_a_batch_knows_each_datagram_and_who_sent_it(peers):
    datagrams = [bytes([number]) * number for number in range(len(peers))]
    batch = wire.batch_of(datagrams, peers)
    assert [batch.peer(row) for row in range(len(peers))] == peers
    assert [batch.datagram(row).tobytes() for row in range(len(peers))] == datagrams
    assert sorted(batch.peers) == sorted(set(peers))


@pytest.mark.parametrize("spoilt", range(4))
def test_one_bad_datagram_of_a_batch_costs_that_one_alone(spoilt):
    datagrams = [*DATAGRAMS.values()]
    datagrams[spoilt] = b"X" + datagrams[spoilt][1:]
    found = wire.sort_batch(wire.batch_of(datagrams, [None] * 4))
    assert {reason: rows.tolist() for reason, rows in found.drops.items()} == {Drop.NOT_GRADFEC: [spoilt]}


def test_a_buffer_may_be_as_wide_as_its_longest_datagram_whatever_lies_beyond_the_others():
    datagrams = [SYMBOL, DATAGRAMS["MESSAGE"], b"", b"G" * 16]
    buffer = np.full((4, len(SYMBOL)), 0xFF, np.uint8)
    for row, datagram in zip(buffer, datagrams, strict=True):
        row[: len(datagram)] = np.frombuffer(datagram, np.uint8)
    found = wire.sort_batch(wire.batch_of(datagrams, [None] * 4)._replace(buffer=buffer))
    assert sorted_as(found, 4) == ["sealed", "sealed", Drop.TOO_SHORT, Drop.TOO_SHORT]


def test_a_buffer_of_short_datagrams_may_be_as_narrow_as_their_header():
    buffer = np.full((3, wire.MIN_WIDTH_BYTES), 0x47, np.uint8)
    batch = wire.batch_of([b"", b"G", b"G" * 16], [None] * 3)
    assert sorted_as(wire.sort_batch(batch._replace(buffer=buffer)), 3) == [Drop.TOO_SHORT] * 3


@given(st.lists(st.binary(max_size=1300), max_size=8), st.lists(st.sampled_from([*DATAGRAMS.values()]), max_size=3))
def test_random_bytes_never_raise(datagrams, good):
    found = fates([*datagrams, *[known[:3] + datagram for known in good for datagram in datagrams]])
    assert all(isinstance(reason, (Drop, str)) for reason in found)


@given(st.integers(0, 255), st.binary(max_size=100))
def test_random_bodies_never_raise(kind, body):
    assert read_message(bytes([kind]) + body) is not None
    assert read_message(body) is not None


@MESSAGES_NAMED
def test_every_truncation_and_every_extension_of_a_message_is_bad(message):
    body = message_body(message)
    for length in range(len(body)):
        assert read_message(body[:length]) == Drop.BAD_MESSAGE, length
    assert read_message(body + b"\0") == Drop.BAD_MESSAGE
    assert read_message(body + body) == Drop.BAD_MESSAGE


@MESSAGES_NAMED
def test_a_flip_in_a_message_makes_another_message_or_a_bad_one(message):
    body = message_body(message)
    for offset in range(len(body)):
        for flip in [1 << bit for bit in range(8)] + [0xFF, 0x5A]:
            found = read_message(body[:offset] + bytes([body[offset] ^ flip]) + body[offset + 1 :])
            assert found == Drop.BAD_MESSAGE or read_message(message_body(found)) == found


@pytest.mark.parametrize("kind", [0, *range(11, 256)])
def test_a_message_of_an_unknown_kind_is_bad(kind):
    for message in EXAMPLES:
        assert read_message(bytes([kind]) + message_body(message)[1:]) == Drop.BAD_MESSAGE


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
KEYS = sorted({key for m in EXAMPLES for key in vars(m)})


def of_kind(kind, value):
    """What a message of that kind with any value in its map's place is read as."""
    return read_message(bytes([kind]) + msgpack.packb(value))


@given(st.sampled_from([*MessageKind]), VALUES | st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8))
@settings(max_examples=150)
def test_any_msgpack_body_is_a_message_of_its_kind_or_a_bad_one(kind, value):
    found = of_kind(kind, value)
    if found != Drop.BAD_MESSAGE:
        assert found.kind == kind
        assert read_message(message_body(found)) == found


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_message_with_a_missing_key_is_bad(message, data):
    values = dict(vars(message))
    if values:
        del values[data.draw(st.sampled_from(sorted(values)))]
        assert of_kind(message.kind, values) == Drop.BAD_MESSAGE


GOOD = {m.kind: dict(vars(m)) for m in EXAMPLES}
MISTYPED = [
    (kind, key, value)
    for kind, values in GOOD.items()
    for key, good in values.items()
    for value in (None, -1, 1.5, True, b"bytes", "text", [], [1], {}, {"a": 1}, [None], 2**64 - 1, "x" * 257)
    if not (type(value) is type(good) and value not in (-1, 2**64 - 1, "x" * 257, [1], [None], {"a": 1}))
    and not (kind == MessageKind.ACK and value == [1])
    and key != "answer"  # which may be anything that is plain
]


@pytest.mark.parametrize(("kind", "key", "value"), MISTYPED)
def test_a_message_with_a_mistyped_value_is_bad(kind, key, value):
    assert of_kind(kind, GOOD[kind] | {key: value}) == Drop.BAD_MESSAGE


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (MessageKind.HELLO, "cipher", 2**8 - 1),
        (MessageKind.HELLO, "split", 2**16 - 1),
        (MessageKind.WELCOME, "deadline_ms", 2**32 - 1),
        (MessageKind.RESULT, "tensor", 2**32 - 1),
        (MessageKind.REPORT, "bursts", 2**16 - 1),
        (MessageKind.HELLO, "name", "x" * 256),
        (MessageKind.ACK, "results", [2**32 - 1]),
        (MessageKind.REPORT, "arrived", bytes(1024)),
        (MessageKind.SKETCH, "data", bytes(1024)),
        (MessageKind.SKETCH, "index", 2**8 - 1),
    ],
)
def test_the_largest_value_of_each_width_is_good_and_one_more_is_bad(kind, key, value):
    end = {str: "x", bytes: b"x", int: 1}
    more = [value[0] + 1] if isinstance(value, list) else value + end[type(value)]
    assert not isinstance(of_kind(kind, GOOD[kind] | {key: value}), Drop)
    assert of_kind(kind, GOOD[kind] | {key: more}) == Drop.BAD_MESSAGE


HOSTILE = [
    b"",
    b"\x80\x80",  # two objects
    b"\x91" * 1100 + b"\x90",  # deep nesting
    b"\xdf\xff\xff\xff\xff",  # a map that claims 4 GiB of entries
    b"\xdd\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xc1",  # never used
    b"\x81\x01\x02",  # a key that is no string
    b"\x81\x91\x01\x02",  # a key that cannot be hashed
    b"\x81\xa1\xff\x01",  # a key that is not UTF-8
    b"\xd7\xff" + b"\xff" * 8,  # a timestamp that there is not
]
NO_MAP = [b"\xd6\xff\x00\x00\x00\x00", b"\xa5hello", b"\xc0", b"\x01", b"\x90", b"\x93\x01\x02\x03"]


@pytest.mark.parametrize("body", HOSTILE + NO_MAP)
def test_hostile_msgpack_is_a_bad_message(body):
    assert {read_message(bytes([kind]) + body) for kind in MessageKind} == {Drop.BAD_MESSAGE}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1])
def test_times_are_finite_floats(number):
    assert of_kind(MessageKind.RESULT, GOOD[MessageKind.RESULT] | {"stages_ms": {"a": number}}) == Drop.BAD_MESSAGE


@pytest.mark.parametrize(
    "answer",
    [None, True, -1, 2**64 - 1, 0.5, "ä", b"\xff", [], {}, [[[[]]]], {"a": [{"b": {"c": None}}]}, ["x" * 1000]],
)
def test_a_result_carries_plain_data_of_any_head(answer):
    read = of_kind(MessageKind.RESULT, GOOD[MessageKind.RESULT] | {"answer": answer})
    assert isinstance(read, Result) and read.answer == answer


@pytest.mark.parametrize(
    "answer",
    [
        float("nan"),
        [{"a": float("inf")}],
        [[[[[]]]]],
        {"a": {"b": {"c": {"d": {}}}}},
        {b"a": 1},
        ["x" * 1022],
        [None] * 1022,
        msgpack.ExtType(3, b"x"),
        [msgpack.Timestamp(0)],
    ],
)
def test_a_result_carries_nothing_else_nothing_too_deep_and_nothing_too_long(answer):
    assert not is_answer(answer)
    assert of_kind(MessageKind.RESULT, GOOD[MessageKind.RESULT] | {"answer": answer}) == Drop.BAD_MESSAGE


@pytest.mark.parametrize(
    "bad",
    [
        {"stages_ms": {"x" * 257: 0.5}},
        {"outcome": "nonsense"},
    ],
    ids=["long stage", "outcome"],
)
def test_what_is_inside_a_result_has_the_same_bounds(bad):
    assert of_kind(MessageKind.RESULT, GOOD[MessageKind.RESULT] | bad) == Drop.BAD_MESSAGE


# --- which reason comes first ---


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"x" * 32, Drop.TOO_SHORT),  # also not gradfec
        (b"x" * 1201, Drop.NOT_GRADFEC),  # also too long
        (b"G" * 1201, Drop.TOO_LONG),  # also an unknown version
        (b"G" * 33, Drop.UNKNOWN_VERSION),  # also an unknown kind
        (b"G\2" + b"G" * 31, Drop.UNKNOWN_KIND),
    ],
)
def test_the_cheapest_check_that_fails_names_the_reason(datagram, reason):
    assert fate(datagram) == reason
