"""What every datagram begins with: a batch is sorted by it, and what is not ours is dropped under a name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.common.small_tensors import bodies_of, matrix_of, planned

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.seal import Sealer
from gradfec_common.wire import Bye, Drop, Kind, message_body

U32 = st.integers(0, 2**32 - 1)
SEALER = Sealer(bytes(32), Cipher.AES_256_GCM, 7)
SYMBOL = SEALER.seal(Kind.SYMBOL, matrix_of(bodies_of(planned("FEC_50_50"))))[0].tobytes()
DATAGRAMS = {
    "SYMBOL": SYMBOL,
    "MESSAGE": SEALER.seal_one(Kind.MESSAGE, message_body(Bye())),
    "HELLO": bytes([wire.MAGIC, wire.VERSION, Kind.HELLO, 0]).ljust(200, b"h"),
    "WELCOME": bytes([wire.MAGIC, wire.VERSION, Kind.WELCOME, 0]).ljust(150, b"w"),
}
NAMED = pytest.mark.parametrize("datagram", DATAGRAMS.values(), ids=DATAGRAMS)


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


def test_an_empty_batch_has_nothing_in_it():
    found = wire.sort_batch(wire.batch_of([], []))
    assert not any(map(len, (found.sealed, found.headers, found.hellos, found.welcomes)))
    assert not found.drops


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


# --- which reason comes first ---


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"x" * 32, Drop.TOO_SHORT),  # also not gradfec
        (b"x" * 1201, Drop.NOT_GRADFEC),  # also too long
        (b"G" * 1201, Drop.TOO_LONG),  # also an unknown version
        (b"G" * 33, Drop.UNKNOWN_VERSION),  # also an unknown kind
        (b"G\3" + b"G" * 31, Drop.UNKNOWN_KIND),
    ],
)
def test_the_cheapest_check_that_fails_names_the_reason(datagram, reason):
    assert fate(datagram) == reason
