"""The wire format refuses whatever is not in it, under a name, and never raises."""

import struct

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common import wire
from gradfec_common.plan import UnequalProtection
from gradfec_common.wire import Ack, Bye, Drop, Hello, Kind, Refuse, Report, Result, Welcome

from .small_tensors import GRID, datagrams_of, with_checksum

U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
TEXT = st.text(max_size=64)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
MESSAGES = st.one_of(
    st.builds(Hello, U64, U16, U16, TEXT),
    st.builds(Welcome, U64, U32),
    st.builds(Refuse, U64, TEXT, TEXT),
    st.builds(
        Result,
        U32,
        st.sampled_from(["complete", "partial"]),
        st.lists(st.tuples(U16, TEXT, SCORES).map(list), max_size=5),
        U16,
        U16,
        st.dictionaries(st.text(max_size=12), SCORES, max_size=5),
    ),
    st.builds(Report, U32, U16, U16, U16),
    st.builds(Ack, st.lists(U32, max_size=50), st.lists(U32, max_size=50)),
    st.just(Bye()),
)
EXAMPLES = [
    Hello(2**64 - 1, 18, 7, "kitchen"),
    Welcome(1, 250),
    Refuse(1, "full", "the cloud serves 256 edges already"),
    Result(9, "partial", [[282, "tiger cat", 0.5], [3, "ä", 0.1]], 3, 4, {"decode": 1.5}),
    Report(9, 2048, 2000, 7),
    Ack([1, 2**32 - 1], []),
    Bye(),
]
SYMBOL = datagrams_of(UnequalProtection(50).plan(np.zeros(GRID.count, np.float32)))[0]
DATAGRAMS = {"SYMBOL": SYMBOL} | {m.kind.name: wire.control_datagram(7, m) for m in EXAMPLES}
NAMED = pytest.mark.parametrize("datagram", DATAGRAMS.values(), ids=DATAGRAMS)


def fate(datagram):
    """What becomes of one datagram: a message, 'symbol', or the reason why it is refused."""
    return fates([datagram])[0]


def fates(datagrams):
    batch = wire.batch_of(datagrams, [None] * len(datagrams))
    opened = wire.open_batch(batch)
    found = {int(row): reason for reason, rows in opened.drops.items() for row in rows}
    found |= {int(row): "symbol" for row in opened.symbols}
    found |= {int(row): wire.read_control(batch.buffer[row, : batch.lengths[row]]) for row in opened.control}
    assert len(opened.headers) == len(opened.symbols)
    assert sum(map(len, opened.drops.values())) + len(opened.symbols) + len(opened.control) == len(datagrams)
    return [found[row] for row in range(len(datagrams))]


def control(body, kind=Kind.HELLO, session=7):
    """A well-formed control datagram around any msgpack body."""
    return with_checksum(bytes([wire.MAGIC, wire.VERSION, kind, 0]) + session.to_bytes(4, "big") + body)


# --- what is in the format ---


@given(st.integers(0, 2**32 - 1), MESSAGES)
def test_a_control_message_comes_back_as_it_was_sent(session, message):
    assert fate(wire.control_datagram(session, message)) == (session, message)


@NAMED
def test_every_kind_of_datagram_is_accepted_whatever_its_flags(datagram):
    for flags in (0, 1, 255):
        changed = with_checksum(datagram[:3] + bytes([flags]) + datagram[4:-4])
        assert not isinstance(fate(changed), Drop)


def test_unknown_keys_of_a_message_are_ignored():
    body = msgpack.packb({"future": [1, {"a": None}], "nonce": 1, "deadline_ms": 2})
    assert fate(control(body, Kind.WELCOME)) == (7, Welcome(1, 2))


def test_an_empty_batch_has_nothing_in_it():
    opened = wire.open_batch(wire.batch_of([], []))
    assert not len(opened.symbols)
    assert not len(opened.control)
    assert not opened.drops


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
def test_every_flip_of_any_bits_of_one_byte_is_refused(datagram):
    for offset in range(len(datagram)):
        flips = [1 << bit for bit in range(8)] + [0xFF, 0x5A]
        changed = [datagram[:offset] + bytes([datagram[offset] ^ flip]) + datagram[offset + 1 :] for flip in flips]
        expected = Drop.NOT_GRADFEC if offset == 0 else Drop.BAD_CHECKSUM
        assert set(fates(changed)) == {expected}, offset


@NAMED
def test_every_truncation_and_every_extension_is_refused(datagram):
    cut = [datagram[:length] for length in range(len(datagram))]
    for length, reason in enumerate(fates(cut)):
        assert reason == (Drop.TOO_SHORT if length < 12 else Drop.BAD_CHECKSUM), length
    assert fate(datagram + b"\0") == Drop.BAD_CHECKSUM
    assert fate(datagram + datagram) == Drop.BAD_CHECKSUM


@NAMED
def test_every_truncation_with_a_good_checksum_is_refused_too(datagram):
    is_symbol = datagram[2] == Kind.SYMBOL
    for length in range(8, len(datagram) - 4):
        found = fate(with_checksum(datagram[:length]))
        if not is_symbol:
            assert found == Drop.BAD_MESSAGE, length
        elif length <= wire.HEADER_BYTES + wire.PLACE_BYTES:
            assert found == Drop.TOO_SHORT, length
        else:
            assert found == "symbol"  # of a length that its session will refuse


def test_every_other_version_and_every_other_kind_is_refused():
    for offset, good, reason in ((1, [wire.VERSION], Drop.UNKNOWN_VERSION), (2, [*Kind], Drop.UNKNOWN_KIND)):
        others = [value for value in range(256) if value not in good]
        changed = [with_checksum(SYMBOL[:offset] + bytes([v]) + SYMBOL[offset + 1 : -4]) for v in others]
        assert fates(changed) == [reason] * len(others)


@pytest.mark.parametrize(("length", "reason"), [(1200, "symbol"), (1201, Drop.TOO_LONG), (65_507, Drop.TOO_LONG)])
def test_a_datagram_has_1200_bytes_at_most(length, reason):
    assert fate(with_checksum(SYMBOL[:-4].ljust(length - 4, b"\0"))) == reason


def test_a_datagram_that_its_buffer_did_not_hold_is_too_long():
    batch = wire.batch_of([SYMBOL], [None])
    opened = wire.open_batch(batch._replace(buffer=batch.buffer[:, :60].copy()))
    assert [*opened.drops] == [Drop.TOO_LONG]


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=20))
def test_a_batch_knows_each_datagram_and_who_sent_it(peers):
    datagrams = [bytes([number]) * number for number in range(len(peers))]
    batch = wire.batch_of(datagrams, peers)
    assert [batch.peer(row) for row in range(len(peers))] == peers
    assert [batch.datagram(row).tobytes() for row in range(len(peers))] == datagrams
    assert sorted(batch.peers) == sorted(set(peers))


@pytest.mark.parametrize("spoilt", range(5))
def test_one_bad_checksum_of_a_batch_costs_that_datagram_alone(spoilt):
    datagrams = [*DATAGRAMS.values()][:5]
    datagrams[spoilt] = datagrams[spoilt][:-1] + bytes([datagrams[spoilt][-1] ^ 1])
    opened = wire.open_batch(wire.batch_of(datagrams, [None] * 5))
    assert {reason: rows.tolist() for reason, rows in opened.drops.items()} == {Drop.BAD_CHECKSUM: [spoilt]}


def test_a_buffer_may_be_as_wide_as_its_longest_datagram_whatever_lies_beyond_the_others():
    datagrams = [SYMBOL, wire.control_datagram(7, Bye()), b"", b"G"]
    buffer = np.full((4, len(SYMBOL)), 0xFF, np.uint8)
    for row, datagram in zip(buffer, datagrams, strict=True):
        row[: len(datagram)] = np.frombuffer(datagram, np.uint8)
    opened = wire.open_batch(wire.batch_of(datagrams, [None] * 4)._replace(buffer=buffer))
    assert (opened.symbols.tolist(), opened.control.tolist()) == ([0], [1])
    assert {reason: rows.tolist() for reason, rows in opened.drops.items()} == {Drop.TOO_SHORT: [2, 3]}


@given(st.lists(st.binary(max_size=1300), max_size=8))
def test_random_bytes_never_raise(datagrams):
    for reason in fates(datagrams):
        assert isinstance(reason, Drop)


@given(st.sampled_from([*Kind]), st.binary(max_size=100))
def test_random_bodies_with_a_good_checksum_never_raise(kind, body):
    assert fate(control(body, kind)) is not None


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


@given(st.sampled_from([*Kind]), VALUES | st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8))
@settings(max_examples=150)
def test_any_msgpack_body_is_a_message_of_its_kind_or_a_bad_one(kind, body):
    found = fate(control(msgpack.packb(body), kind))
    if kind != Kind.SYMBOL and found != Drop.BAD_MESSAGE:
        assert found[1].kind == kind
        assert fate(wire.control_datagram(*found)) == found


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_message_with_a_missing_key_is_bad(message, data):
    values = dict(vars(message))
    if values:
        del values[data.draw(st.sampled_from(sorted(values)))]
        assert fate(control(msgpack.packb(values), message.kind)) == Drop.BAD_MESSAGE


GOOD = {m.kind: dict(vars(m)) for m in EXAMPLES}
MISTYPED = [
    (kind, key, value)
    for kind, values in GOOD.items()
    for key, good in values.items()
    for value in (None, -1, 1.5, True, b"bytes", "text", [], [1], {}, {"a": 1}, [None], 2**64 - 1, "x" * 257)
    if not (type(value) is type(good) and value not in (-1, 2**64 - 1, "x" * 257, [1], [None], {"a": 1}))
    and not (key == "nonce" and value == 2**64 - 1)
    and not (kind == Kind.ACK and value == [1])
]


@pytest.mark.parametrize(("kind", "key", "value"), MISTYPED)
def test_a_message_with_a_mistyped_value_is_bad(kind, key, value):
    assert fate(control(msgpack.packb(GOOD[kind] | {key: value}), kind)) == Drop.BAD_MESSAGE


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (Kind.HELLO, "nonce", 2**64 - 1),
        (Kind.HELLO, "split", 2**16 - 1),
        (Kind.WELCOME, "deadline_ms", 2**32 - 1),
        (Kind.RESULT, "tensor", 2**32 - 1),
        (Kind.REPORT, "bursts", 2**16 - 1),
        (Kind.HELLO, "name", "x" * 256),
        (Kind.ACK, "results", [2**32 - 1]),
    ],
)
def test_the_largest_value_of_each_width_is_good_and_one_more_is_bad(kind, key, value):
    more = [value[0] + 1] if isinstance(value, list) else value + "x" if isinstance(value, str) else value + 1
    assert not isinstance(fate(control(msgpack.packb(GOOD[kind] | {key: value}), kind)), Drop)
    if more != 2**64:  # which msgpack cannot say
        assert fate(control(msgpack.packb(GOOD[kind] | {key: more}), kind)) == Drop.BAD_MESSAGE


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
    kinds = [kind for kind in Kind if kind != Kind.SYMBOL]
    assert fates([control(body, kind) for kind in kinds]) == [Drop.BAD_MESSAGE] * len(kinds)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 1])
def test_scores_and_times_are_finite_floats(score):
    for bad in ({"top5": [[1, "a", score]]}, {"stages_ms": {"a": score}}):
        assert fate(control(msgpack.packb(GOOD[Kind.RESULT] | bad), Kind.RESULT)) == Drop.BAD_MESSAGE


@pytest.mark.parametrize(
    "answer", [[], [1, "a"], [1, "a", 0.5, 1], ["1", "a", 0.5], [1, b"a", 0.5], [1.0, "a", 0.5], {"1": 2}, "abc"]
)
def test_an_answer_is_class_index_label_and_score(answer):
    assert fate(control(msgpack.packb(GOOD[Kind.RESULT] | {"top5": [answer]}), Kind.RESULT)) == Drop.BAD_MESSAGE


@pytest.mark.parametrize(
    "bad",
    [
        {"top5": [[True, "a", 0.5]]},
        {"top5": [[-1, "a", 0.5]]},
        {"top5": [[1, "x" * 257, 0.5]]},
        {"stages_ms": {"x" * 257: 0.5}},
        {"outcome": "nonsense"},
    ],
    ids=["bool", "negative", "long label", "long stage", "outcome"],
)
def test_what_is_inside_a_result_has_the_same_bounds(bad):
    assert fate(control(msgpack.packb(GOOD[Kind.RESULT] | bad), Kind.RESULT)) == Drop.BAD_MESSAGE


# --- which reason comes first ---


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"x" * 11, Drop.TOO_SHORT),  # also not gradfec
        (b"x" * 1201, Drop.NOT_GRADFEC),  # also too long
        (b"G" * 1201, Drop.TOO_LONG),  # also a bad checksum
        (b"G" * 12, Drop.BAD_CHECKSUM),  # also an unknown version
        (with_checksum(b"GGGG0000"), Drop.UNKNOWN_VERSION),  # also an unknown kind
        (with_checksum(b"G\1GG0000"), Drop.UNKNOWN_KIND),
        (with_checksum(b"G\1\1G0000"), Drop.TOO_SHORT),  # a symbol without a symbol
    ],
)
def test_the_cheapest_check_that_fails_names_the_reason(datagram, reason):
    assert fate(datagram) == reason
