"""The cloud's core: one named fate for every datagram."""

from collections import Counter

import numpy as np
import pytest
from tests.common.small_tensors import GRID, SPLIT, with_checksum

from gradfec_common import wire
from gradfec_common.session.events import Decided
from gradfec_common.wire import Ack, Drop, Hello, Kind, Refuse, Report, Welcome

from .clouds import ALICE, BOB, SYMBOL_BYTES, Cloud, tensor_of


def changed(datagram, offset, value):
    """The datagram with some bytes replaced, and a good checksum."""
    return with_checksum(datagram[:offset] + value + datagram[offset + len(value) : -4])


def fates():
    """For each reason, what the cloud's limits are, what it knows, and the datagram that is dropped."""
    hello = wire.control_datagram(0, Hello(1, SPLIT.id, GRID.rows, "e"))
    return {
        Drop.TOO_SHORT: lambda s: hello[:11],
        Drop.NOT_GRADFEC: lambda s: b"X" + hello[1:],
        Drop.TOO_LONG: lambda s: with_checksum(hello + bytes(1200)),
        Drop.BAD_CHECKSUM: lambda s: hello[:-1] + bytes([hello[-1] ^ 1]),
        Drop.UNKNOWN_VERSION: lambda s: changed(hello, 1, b"\2"),
        Drop.UNKNOWN_KIND: lambda s: changed(hello, 2, b"\2"),
        Drop.BAD_MESSAGE: lambda s: changed(hello, 8, b"\x80"),
        Drop.UNKNOWN_SESSION: lambda s: tensor_of(s ^ 1)[0],
        Drop.FOREIGN_ADDRESS: lambda s: (tensor_of(s)[0], BOB),
        Drop.UNEXPECTED: lambda s: wire.control_datagram(s, Report(0, 1, 1, 0)),
        Drop.BAD_LENGTH: lambda s: with_checksum(tensor_of(s)[0][:-5]),
        Drop.LATE: lambda s: tensor_of(s, 0)[0],
        Drop.OUT_OF_WINDOW: lambda s: tensor_of(s, 9999)[0],
        Drop.WRONG_SPLIT: lambda s: changed(tensor_of(s, 999)[0], 16, b"\0\1"),
        Drop.WRONG_ROWS: lambda s: changed(tensor_of(s, 999)[0], 19, b"\1"),
        Drop.UNKNOWN_QUANTISER: lambda s: changed(tensor_of(s, 999)[0], 20, b"\2"),
        Drop.UNKNOWN_FILL: lambda s: changed(tensor_of(s, 999)[0], 21, b"\3"),
        Drop.UNKNOWN_CODE: lambda s: changed(tensor_of(s, 999)[0], 33, b"\3"),
        Drop.BAD_PARAMETERS: lambda s: changed(tensor_of(s, 999)[0], 12, b"\0\0"),
        Drop.CONFLICT: lambda s: changed(tensor_of(s, 998)[1], 22, b"\xc4\x7a\0\0"),
        Drop.DUPLICATE: lambda s: tensor_of(s, 998)[0],
        Drop.TENSOR_LIMIT: lambda s: tensor_of(s, 999)[0],
        Drop.MEMORY_LIMIT: lambda s: tensor_of(s, 999)[0],
        Drop.LEAVING: lambda s: tensor_of(s, 999)[0],
    }


@pytest.mark.parametrize("reason", [*Drop], ids=lambda reason: reason.value)
def test_each_reason_is_the_fate_of_a_datagram_that_deserves_it(reason):
    limits = {
        Drop.TENSOR_LIMIT: {"tensors_per_session": 1, "pending_tensors": 0},
        Drop.MEMORY_LIMIT: {"reassembly_bytes": 16 * SYMBOL_BYTES},
    }
    cloud = Cloud(**limits.get(reason, {}))
    session = cloud.connect()
    cloud.feed(tensor_of(session, 998)[0])  # open, so that it can be contradicted
    if reason is Drop.LEAVING:
        cloud.core.leave()
        cloud._collect()
        cloud.told()
    before = Counter(cloud.counts)
    cloud.told()
    datagram = fates()[reason](session)
    datagram, peer = datagram if isinstance(datagram, tuple) else (datagram, ALICE)
    cloud.feed(datagram, peer=peer)
    assert Counter(cloud.counts) - before == Counter({reason.value: 1})
    assert bool(cloud.told()) == (reason is Drop.UNKNOWN_VERSION)
    assert not cloud.took(Decided)


def test_datagrams_of_one_batch_that_are_too_short_in_two_ways_are_both_counted(cloud):
    cloud.feed(b"G\1\1", with_checksum(b"G\1\1\0" + bytes(38)))  # no datagram at all; no symbol
    assert cloud.counts == {"too_short": 2}


@pytest.mark.filterwarnings("error")
def test_a_range_of_signalling_nans_is_a_bad_parameter_without_a_warning(cloud):
    session = cloud.connect()
    cloud.feed(changed(tensor_of(session)[0], 22, b"\x7f\x80\0\1" * 2))
    assert cloud.counts == {"hello": 1, "bad_parameters": 1}


@pytest.mark.parametrize("message", [Welcome(1, 2), Refuse(1, "full", ""), Report(1, 2, 3, 4)])
def test_messages_in_the_wrong_direction_are_unexpected_and_change_nothing(cloud, message):
    session = cloud.connect()
    cloud.told()
    cloud.say(message, session)
    cloud.say(message, 0)
    assert cloud.counts == {"hello": 1, "unexpected": 1, "unknown_session": 1}
    assert not cloud.answers


def test_any_mixture_of_good_and_bad_datagrams_in_one_batch_has_one_fate_each():
    rng = np.random.default_rng(11)
    cloud = Cloud(tensors_per_session=2, pending_tensors=2, answers_per_session=3)
    session = cloud.connect()
    stock = [tensor for number in (0, 1, 2, 3, 999, 9999) for tensor in tensor_of(session, number)]
    stock += [wire.control_datagram(session, message) for message in (Ack([0], [1]), Report(0, 1, 1, 0))]
    stock += [wire.control_datagram(0, Hello(1, SPLIT.id, GRID.rows, "e"))]
    for _ in range(100):
        datagrams = [stock[i] for i in rng.integers(0, len(stock), 30)]
        for i in np.flatnonzero(rng.random(30) < 0.4):
            mutated = bytearray(datagrams[i])
            for offset in rng.integers(0, len(mutated), 3):
                mutated[offset] = rng.integers(0, 256)
            datagrams[i] = with_checksum(bytes(mutated[:-4])) if rng.random() < 0.8 else bytes(mutated)
        peers = [ALICE if rng.random() < 0.9 else BOB for _ in datagrams]
        cloud.core.receive(wire.batch_of(datagrams, peers), cloud.now)
        cloud.fed += 30
        cloud._collect()
        if rng.random() < 0.5:
            cloud.answer_all()
        cloud.wait(float(rng.choice([0.0, 0.01, 0.3])))
    assert {kind.name for kind in (Kind.HELLO, Kind.ACK)} <= {fate.upper() for fate in cloud.counts}
