"""Control messages come back as they were sent, and whatever is no message is bad; nothing raises."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common import wire
from gradfec_common.wire import (
    Ack,
    Bye,
    Drop,
    Hello,
    MessageKind,
    Ping,
    Pong,
    Refuse,
    Report,
    Request,
    Result,
    SketchPart,
    Welcome,
    is_answer,
    message_body,
    read_message,
)

U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
TEXT = st.text(max_size=64)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
ANSWERS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | SCORES | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
).filter(is_answer)
MESSAGES = st.one_of(
    st.builds(Hello, U8, st.binary(min_size=16, max_size=16), U16, U16, TEXT),
    st.builds(Welcome, U32, st.booleans()),
    st.builds(Refuse, TEXT, TEXT),
    st.sampled_from([Pong(), Bye()]),
    st.builds(Ping, st.binary(max_size=40)),
    st.builds(
        Result,
        U32,
        st.sampled_from(["complete", "partial"]),
        ANSWERS,
        U16,
        U16,
        st.dictionaries(st.text(max_size=12), SCORES, max_size=5),
    ),
    st.builds(Report, U32, U16, U16, U16, st.binary(max_size=40), U64, U32, U32),
    st.builds(Request, U32, U16),
    st.builds(SketchPart, U32, U8, U8, st.binary(max_size=40)),
    st.builds(Ack, st.lists(U32, max_size=50), st.lists(U32, max_size=50)),
)
EXAMPLES = [
    Hello(1, bytes(range(16)), 18, 7, "kitchen", [[bytes(16), 1, 7]]),
    Welcome(250, forms=[0, 1]),
    Refuse("full", "the cloud serves 256 edges already"),
    Ping(b"\0" * 1024),
    Pong(),
    Result(9, "partial", [[282, "tiger cat", 0.5], [3, "ä", 0.1]], 3, 4, {"decode": 1.5}),
    Report(9, 11, 4, 2, b"\xc8\x20", 2**40, 80_000, 30_000),
    Ack([1, 2**32 - 1], []),
    Bye(),
    SketchPart(9, 1, 2, b"half of it", 3),
    Request(9, 14),
]
MESSAGES_NAMED = pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.kind.name)


# --- what is in the format ---


def test_there_is_an_example_of_every_message():
    assert [message.kind for message in EXAMPLES] == [*MessageKind]
    assert set(wire.MESSAGES) == {*MessageKind}


@given(MESSAGES)
def test_a_message_comes_back_as_it_was_sent(message):
    body = message_body(message)
    assert body[0] == message.kind
    assert vars(read_message(body)) == vars(message)  # with the times of a report, which `==` leaves out


def test_unknown_keys_of_a_message_are_ignored():
    values = {"future": [1, {}], "sketches": True, "forms": [0], "deadline_ms": 2}
    body = bytes([MessageKind.WELCOME]) + msgpack.packb(values)
    assert read_message(body) == Welcome(2, True)


# --- what is not ---


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


@pytest.mark.parametrize("kind", [0, *range(12, 256)])
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
    if key != "answer"
    for value in (None, -1, 1.5, True, b"bytes", "text", [], [1], {}, {"a": 1}, [None], 2**64 - 1, "x" * 257)
    if not (type(value) is type(good) and value not in (-1, 2**64 - 1, "x" * 257, [1], [None], {"a": 1}))
    and not (kind == MessageKind.ACK and value == [1])
    and not (key == "first_us" and value == 2**64 - 1)  # which it may hold
]


@pytest.mark.parametrize(("kind", "key", "value"), MISTYPED)
def test_a_message_with_a_mistyped_value_is_bad(kind, key, value):
    assert of_kind(kind, GOOD[kind] | {key: value}) == Drop.BAD_MESSAGE


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (MessageKind.HELLO, "cipher", 2**8 - 1),
        (MessageKind.HELLO, "cut", 2**16 - 1),
        (MessageKind.WELCOME, "deadline_ms", 2**32 - 1),
        (MessageKind.RESULT, "tensor", 2**32 - 1),
        (MessageKind.REPORT, "bursts", 2**16 - 1),
        (MessageKind.REPORT, "span_us", 2**32 - 1),
        (MessageKind.REPORT, "held_us", 2**32 - 1),
        (MessageKind.REQUEST, "tensor", 2**32 - 1),
        (MessageKind.REQUEST, "until", 2**16 - 1),
        (MessageKind.HELLO, "name", "x" * 256),
        (MessageKind.ACK, "results", [2**32 - 1]),
        (MessageKind.REPORT, "arrived", bytes(1024)),
        (MessageKind.SKETCH, "data", bytes(1024)),
        (MessageKind.SKETCH, "part", 2**8 - 1),
        (MessageKind.SKETCH, "parts", 2**8 - 1),
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


@pytest.mark.parametrize("digest", [b"", bytes(15), bytes(17), "x" * 16, [0] * 16])
def test_a_model_is_named_by_the_16_bytes_of_its_digest(digest):
    assert of_kind(MessageKind.HELLO, GOOD[MessageKind.HELLO] | {"model": digest}) == Drop.BAD_MESSAGE


def answered(answer):
    """What a result with any answer is read as."""
    return of_kind(MessageKind.RESULT, GOOD[MessageKind.RESULT] | {"answer": answer})


@given(ANSWERS)
def test_an_answer_is_any_plain_data_and_comes_back_as_it_is(answer):
    assert answered(answer).answer == answer


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("inside", [lambda x: x, lambda x: [[1, "a", x]], lambda x: {"boxes": [{"at": x}]}])
def test_no_number_in_an_answer_is_not_finite(number, inside):
    assert answered(inside(number)) == Drop.BAD_MESSAGE


def nested(depth, wrap):
    return 1 if not depth else wrap(nested(depth - 1, wrap))


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"a": x}], ids=["lists", "maps"])
def test_an_answer_has_four_lists_or_maps_inside_each_other_at_most(wrap):
    assert answered(nested(wire.MAX_ANSWER_DEPTH, wrap)).answer == nested(4, wrap)
    assert answered(nested(wire.MAX_ANSWER_DEPTH + 1, wrap)) == Drop.BAD_MESSAGE


def test_an_answer_has_1024_bytes_of_msgpack_at_most():
    assert len(msgpack.packb(bytes(1021))) == wire.MAX_ANSWER_BYTES
    assert answered(bytes(1021)).answer == bytes(1021)
    assert answered(bytes(1022)) == Drop.BAD_MESSAGE
    assert answered([1] * 1100) == Drop.BAD_MESSAGE


@pytest.mark.parametrize("answer", [msgpack.ExtType(5, b"x"), [msgpack.Timestamp(1)], {1: 2}, [{b"a": 1}]])
def test_an_answer_has_only_plain_values_and_its_maps_have_texts_as_keys(answer):
    assert answered(answer) == Drop.BAD_MESSAGE


def test_the_largest_result_fits_a_datagram():
    stages = {"collect": 0.5, "queue": 0.25, "decode": 1.5, "back_end": 22.5}
    largest = Result(2**32 - 1, "complete", bytes(1021), 2**16 - 1, 2**16 - 1, stages)
    assert len(message_body(largest)) + wire.SEAL_BYTES <= wire.MAX_DATAGRAM_BYTES


@pytest.mark.parametrize(
    "bad",
    [
        *({"stages_ms": {"a": ms}} for ms in (float("nan"), float("inf"), 1)),
        {"stages_ms": {"x" * 257: 0.5}},
        {"outcome": "nonsense"},
    ],
    ids=["nan", "infinity", "integer", "long name", "outcome"],
)
def test_times_are_finite_floats_with_names_and_an_outcome_is_one_of_two(bad):
    assert of_kind(MessageKind.RESULT, GOOD[MessageKind.RESULT] | bad) == Drop.BAD_MESSAGE


FORM = [bytes(16), 1, 7]


@pytest.mark.parametrize(
    "also", [[FORM] * 4, [FORM[:2]], [[*FORM, 0]], [[bytes(15), 1, 7]], [[bytes(16), -1, 7]], [[bytes(16), 1, 2**16]]]
)
def test_a_hello_with_too_many_forms_or_a_wrong_one_is_bad(also):
    assert of_kind(MessageKind.HELLO, GOOD[MessageKind.HELLO] | {"also": also}) == Drop.BAD_MESSAGE
    assert of_kind(MessageKind.HELLO, GOOD[MessageKind.HELLO] | {"also": [FORM] * 3}).also == [FORM] * 3


@pytest.mark.parametrize("forms", [[0, 4], [0, -1], [0.0], [False], [0, None], [], [1]])
def test_a_welcome_with_a_form_that_no_hello_can_have_or_without_the_edges_own_is_bad(forms):
    assert of_kind(MessageKind.WELCOME, GOOD[MessageKind.WELCOME] | {"forms": forms}) == Drop.BAD_MESSAGE
