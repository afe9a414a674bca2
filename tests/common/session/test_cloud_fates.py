"""The cloud's core: one named fate for every datagram."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import bodies_of, with_header

from gradfec_common import wire
from gradfec_common.replay import REPLAY_WINDOW
from gradfec_common.session.events import Decided
from gradfec_common.wire import Ack, Bye, Drop, Ping, Pong, Refuse, Report, Result, SketchPart, Welcome

from .clouds import ALICE, BOB, NESTED, PLAN, SYMBOL_BYTES, Cloud, tensor_of
from .ends import PING, STRANGE_KEY, WANTED, drawn_handshake, flipped

HELLO = drawn_handshake(7).hello
OPEN, NEW, DONE = 998, 999, 0  # tensors: one that has begun, and two that have not


def lie(session, number=NEW, position=0, **changes):
    """A datagram of a tensor with other values in its header, sealed with the session's key."""
    return session.sends(with_header(bodies_of(PLAN, seed=number, tensor=number)[position], **changes))[0]


def replayed(session, cloud):
    (datagram,) = session.says(Ping())
    cloud.feed(datagram)
    return datagram


def over_the_limit(session, cloud):
    cloud.feed(*session.says(*[Ack([], [])] * 10))
    return session.says(Ping())[0]


def too_old(session, cloud):
    (old,) = session.says(Ping())
    session.sealer.counter += REPLAY_WINDOW
    cloud.feed(*session.says(Ack([], [])))
    return old


# For each reason a datagram that deserves it, of a session in which tensor OPEN has begun.
FATES = {
    Drop.TOO_SHORT: lambda session, cloud: HELLO[:32],
    Drop.TOO_LONG: lambda session, cloud: HELLO.ljust(1201, b"\0"),
    Drop.NOT_GRADFEC: lambda session, cloud: b"X" + HELLO[1:],
    Drop.UNKNOWN_VERSION: lambda session, cloud: b"G\2" + HELLO[2:],
    Drop.UNKNOWN_KIND: lambda session, cloud: b"G\3\3" + HELLO[3:],
    Drop.UNKNOWN_KEY: lambda session, cloud: drawn_handshake(1, key=STRANGE_KEY).hello,
    Drop.UNKNOWN_SESSION: lambda session, cloud: changed_session(tensor_of(session)[0]),
    Drop.RATE_LIMIT: over_the_limit,
    Drop.FORGED: lambda session, cloud: flipped(tensor_of(session)[0]),
    Drop.REPLAYED: replayed,
    Drop.TOO_OLD: too_old,
    Drop.BAD_MESSAGE: lambda session, cloud: session.says(b"\x04\xc0")[0],
    Drop.UNKNOWN_QUANTISER: lambda session, cloud: lie(session, quantiser=255),
    Drop.UNKNOWN_CODE: lambda session, cloud: lie(session, code=3),
    Drop.BAD_PARAMETERS: lambda session, cloud: lie(session, sent=0),
    Drop.BAD_LENGTH: lambda session, cloud: lie(session, stripes=0),
    Drop.CONFLICT: lambda session, cloud: lie(session, OPEN, 1, kept=12),
    Drop.DUPLICATE: lambda session, cloud: tensor_of(session, OPEN)[0],
    Drop.LATE: lambda session, cloud: tensor_of(session, DONE)[0],
    Drop.OUT_OF_WINDOW: lambda session, cloud: tensor_of(session, 9999)[0],
    Drop.UNEXPECTED: lambda session, cloud: session.says(Report(0, 1, 1, 0))[0],
    Drop.TENSOR_LIMIT: lambda session, cloud: tensor_of(session, NEW)[0],
    Drop.MEMORY_LIMIT: lambda session, cloud: tensor_of(session, NEW)[0],
    Drop.LEAVING: lambda session, cloud: tensor_of(session, NEW)[0],
}
LIMITS = {
    Drop.TENSOR_LIMIT: {"tensors_per_session": 1, "pending_tensors": 0},
    Drop.MEMORY_LIMIT: {"reassembly_bytes": 16 * SYMBOL_BYTES},
    Drop.RATE_LIMIT: {"tensors_per_session": 1, "tensors_per_s": 0.001},
}


def changed_session(datagram):
    return datagram[:7] + bytes([datagram[7] ^ 1]) + datagram[8:]


def test_there_is_a_datagram_for_each_reason_that_the_cloud_has():
    assert {*FATES} == {*Drop} - {Drop.FOREIGN_ADDRESS}  # which is for the edge's socket


@pytest.mark.parametrize("reason", FATES, ids=lambda reason: reason.value)
def test_each_reason_is_the_fate_of_a_datagram_that_deserves_it(reason):
    cloud = Cloud(**LIMITS.get(reason, {}))
    session = cloud.connect()
    cloud.feed(tensor_of(session, OPEN)[0])  # so that it can be contradicted
    if reason is Drop.LEAVING:
        cloud.core.leave()
    datagram = FATES[reason](session, cloud)
    cloud.look()
    cloud.told()
    before = Counter(cloud.counts)
    cloud.feed(datagram)
    assert Counter(cloud.counts) - before == Counter({reason.value: 1})
    assert not cloud.told()
    assert not cloud.took(Decided)


@pytest.mark.parametrize(
    "body",
    [b"", b"\0", b"\4", b"\4\xc0", b"\x0b\x80", PING + b"\0", wire.message_body(Ack([1], []))[:-1]],
    ids=["empty", "no kind", "no map", "nil", "unknown kind", "more than a map", "cut"],
)
def test_an_authentic_message_that_is_none_is_bad_and_changes_nothing(cloud, body):
    session = cloud.connect()
    cloud.feed(*(session.says(body) if body else [session.sealer.seal_one(wire.Kind.MESSAGE, b"")]))
    expected = {"too_short": 1} if not body else {"bad_message": 1}
    assert cloud.counts == {"hello": 1, "ping": 1} | expected
    assert not cloud.told()


@pytest.mark.filterwarnings("error")
def test_a_range_of_signalling_nans_is_a_bad_parameter_without_a_warning(cloud):
    session = cloud.connect()
    body = bodies_of(PLAN, tensor=0)[0]
    cloud.feed(*session.sends(body[:27] + b"\x7f\x80\0\1" * 2 + body[35:]))
    assert cloud.counts == {"hello": 1, "ping": 1, "bad_parameters": 1}


@pytest.mark.parametrize(
    "message",
    [
        WANTED,
        Welcome(250),
        Refuse("full", ""),
        Pong(),
        Result(0, "complete", [], 0, 0, {}),
        Report(1, 2, 3, 4),
        SketchPart(0, 0, 1, b"not asked for"),
    ],
    ids=lambda message: message.kind.name,
)
def test_messages_in_the_wrong_direction_are_unexpected_and_change_nothing(cloud, message):
    session = cloud.connect()
    cloud.say(message, session)
    assert cloud.counts == {"hello": 1, "ping": 1, "unexpected": 1}
    assert not cloud.told()


def test_a_welcome_that_comes_to_the_cloud_is_unexpected(cloud):
    cloud.greet()
    ((welcome, _),) = cloud.sent
    cloud.feed(welcome, peer=BOB)
    assert cloud.counts == {"hello": 1, "unexpected": 1}


def test_what_a_forger_sends_changes_nothing_whatever_it_claims(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session)[:3])
    cloud.feed(*[flipped(datagram) for datagram in tensor_of(session)], *map(flipped, session.says(Bye(), Ping())))
    assert cloud.counts == {"hello": 1, "ping": 1, "collected": 3, "forged": 18}
    assert cloud.core.open_sessions == 1
    assert not cloud.told()


def test_forged_datagrams_of_a_batch_cost_the_authentic_ones_nothing(cloud):
    session = cloud.connect()
    tensor = tensor_of(session)
    cloud.feed(*[datagram for good in tensor for datagram in (flipped(good), good, flipped(good))])
    assert cloud.counts == {"hello": 1, "ping": 1, "collected": 16, "forged": 32}


@given(st.lists(st.binary(max_size=600), max_size=6))
@settings(max_examples=40)
def test_random_bytes_of_any_kind_have_a_fate_and_no_answer(datagrams):
    cloud = Cloud()
    session = cloud.connect()
    heads = [b"", b"G\3", b"G\3\x10", b"G\3\x11", HELLO[:16], tensor_of(session)[0][:16]]
    cloud.feed(*[head + datagram for head in heads for datagram in datagrams])
    assert cloud.core.open_sessions == 1
    assert not cloud.told()


def test_any_mixture_of_good_and_bad_datagrams_in_one_batch_has_one_fate_each():
    rng = np.random.default_rng(11)
    cloud = Cloud(tensors_per_session=2, pending_tensors=2, answers_per_session=3)
    session = cloud.connect()
    messages = [wire.message_body(message) for message in (Ack([0], [1]), Report(0, 1, 1, 0), Ping(), WANTED)]
    hellos = [cloud.hello(), cloud.hello(replace(WANTED, cut=1)), cloud.hello(b"?")]
    for turn in range(100):
        numbers = (turn // 4, turn // 4 + 1, 999, 9999)
        bodies = [
            body for number in numbers for plan in (PLAN, PLAN, NESTED) for body in bodies_of(plan, number, number)
        ]
        datagrams = []
        for _ in range(30):
            if rng.random() < 0.05:
                datagram = hellos[rng.integers(3)]
            else:
                of_tensors = rng.random() < 0.9
                stock = bodies if of_tensors else messages
                body = bytearray(stock[rng.integers(len(stock))])
                if rng.random() < 0.3:
                    for offset in rng.integers(0, len(body), 3):
                        body[offset] = rng.integers(0, 256)
                (datagram,) = (session.sends if of_tensors else session.says)(bytes(body))
            if rng.random() < 0.1:
                at = rng.integers(len(datagram))
                datagram = datagram[:at] + rng.bytes(1) + datagram[at + 1 :]
            datagrams.append(datagram)
        cloud.feed_from(*[(datagram, ALICE if rng.random() < 0.9 else BOB) for datagram in datagrams])
        if rng.random() < 0.5:
            cloud.answer_all()
        cloud.wait(float(rng.choice([0.0, 0.01, 0.3])))
        session = session if session.number in cloud.core._sessions else cloud.connect()
    assert {"hello", "ack", "ping", "collected", "forged", "bad_message", "conflict", "unexpected"} <= set(cloud.counts)
