"""What is sealed opens once, on the other side, unchanged; nothing else opens, and nothing else changes anything."""

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common import hkdf
from gradfec_common.ciphers import Cipher
from gradfec_common.replay import REPLAY_WINDOW, Verdict
from gradfec_common.seal import COUNTER_LIMIT, REKEY_DATAGRAMS, SEAL_BYTES, Epoch, Opener, Sealer
from gradfec_common.wire import Kind

from . import second_seal
from .second_seal import SESSION, golden

OK, REPLAYED, TOO_OLD, FORGED = Verdict
AES, CHACHA = Cipher
SYMBOL, MESSAGE = Kind.SYMBOL, Kind.MESSAGE
SECRET = bytes(range(100, 132))
WINDOW, EPOCH = 8, 16
CIPHERS = pytest.mark.parametrize("cipher", Cipher, ids=[cipher.name for cipher in Cipher])


def some_bodies(count, length, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, length), np.uint8)


def matrix(datagrams):
    return np.frombuffer(b"".join(datagrams), np.uint8).reshape(len(datagrams), -1)


def sealed(counter, body=b"body", secret=SECRET, cipher=AES, session=SESSION, kind=MESSAGE, epoch=EPOCH):
    """A datagram of any counter, from the second implementation."""
    return second_seal.seal(secret, cipher, session, counter, kind, body, epoch)


def forged(counter):
    datagram = sealed(counter)
    return datagram[:-1] + bytes([datagram[-1] ^ 1])


def an_opener(cipher=AES):
    return Opener(SECRET, cipher, EPOCH, WINDOW)


def verdicts(opener, datagrams):
    return opener.open(matrix(datagrams))[1].tolist()


def counters_of(datagrams):
    return [int.from_bytes(bytes(datagram[8:16]), "big") for datagram in datagrams]


# --- what the specification says ---


@CIPHERS
@pytest.mark.parametrize("first", [0, REKEY_DATAGRAMS - 2, 2 * REKEY_DATAGRAMS - 1])
def test_every_datagram_is_that_of_the_second_implementation(cipher, first):
    sealer, bodies = Sealer(SECRET, cipher, 0xFFFFFFFE), some_bodies(4, 30)
    sealer.counter = first
    datagrams = [*sealer.seal(SYMBOL, bodies), np.frombuffer(sealer.seal_one(MESSAGE, b"one"), np.uint8)]
    inside = [(SYMBOL, body.tobytes()) for body in bodies] + [(MESSAGE, b"one")]
    for number, (kind, body) in enumerate(inside):
        expected = second_seal.seal(SECRET, cipher, 0xFFFFFFFE, first + number, kind, body)
        assert datagrams[number].tobytes() == expected


@given(
    st.binary(min_size=32, max_size=32),
    st.sampled_from(Cipher),
    st.integers(0, 2**32 - 1),
    st.integers(1, 7),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40)), max_size=4),
)
def test_the_second_implementation_and_this_one_open_each_other(secret, cipher, session, epoch, batches):
    sealer, opener = Sealer(secret, cipher, session, epoch), Opener(secret, cipher, epoch, 1)
    counter = 0
    for count, length in batches:
        bodies = some_bodies(count, length)
        theirs = [
            second_seal.seal(secret, cipher, session, counter + i, SYMBOL, body.tobytes(), epoch)
            for i, body in enumerate(bodies)
        ]
        np.testing.assert_array_equal(sealer.seal(SYMBOL, bodies), matrix(theirs))
        for datagram, body in zip(theirs, bodies, strict=True):
            assert opener.open_one(datagram) == body.tobytes()
        counter += count


@pytest.mark.parametrize("name", ["aes_256_gcm", "chacha20_poly1305"])
def test_the_golden_datagrams_are_what_both_implementations_make_and_open(name):
    datagrams = golden(name)
    assert datagrams == second_seal.vectors()[name]
    up, down = second_seal.secrets(
        second_seal.PSK,
        golden("hello")[0],
        golden("welcome")[0],
        second_seal.exchange(second_seal.EDGE, second_seal.public(second_seal.CLOUD)),
    )[1:]
    secret, cipher, kind, body = {
        "aes_256_gcm": (up, AES, SYMBOL, bytes(range(40))),
        "chacha20_poly1305": (down, CHACHA, MESSAGE, b"a message"),
    }[name]
    sealer, opener = Sealer(secret, cipher, SESSION), Opener(secret, cipher)
    for counter, datagram in zip(second_seal.COUNTERS, datagrams, strict=True):
        sealer.counter = counter
        assert sealer.seal_one(kind, body) == datagram
        assert opener.open_one(datagram) == body


@CIPHERS
def test_all_32_bytes_of_overhead_are_where_they_should_be(cipher):
    bodies = some_bodies(3, 426)
    datagrams = Sealer(SECRET, cipher, 0x0A0B0C0D).seal(SYMBOL, bodies)
    assert datagrams.shape == (3, 426 + SEAL_BYTES)
    assert datagrams.dtype == np.uint8
    assert datagrams.flags.c_contiguous
    assert datagrams[2, :16].tobytes().hex() == "47030100" + "0a0b0c0d" + "0000000000000002"


# --- what is sealed opens ---


@CIPHERS
@given(count=st.integers(0, 60), length=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_a_batch_comes_back_as_it_was_in_any_order(cipher, count, length, seed):
    bodies, order = some_bodies(count, length, seed), np.random.default_rng(seed).permutation(count)
    datagrams = Sealer(SECRET, cipher, 1).seal(SYMBOL, bodies)[order]
    opened, found = Opener(SECRET, cipher).open(datagrams)
    assert (found == OK).all()
    np.testing.assert_array_equal(opened, bodies[order])


def test_one_datagram_may_be_opened_out_of_a_batch_and_a_batch_of_single_ones():
    sealer, opener = Sealer(SECRET, AES, 1), Opener(SECRET, AES)
    batch = sealer.seal(SYMBOL, some_bodies(3, 20))
    assert [opener.open_one(row.tobytes()) for row in batch] == [row.tobytes() for row in some_bodies(3, 20)]
    opened, found = opener.open(matrix([sealer.seal_one(MESSAGE, bytes([n])) for n in range(4)]))
    assert (opened[:, 0].tolist(), found.tolist()) == ([0, 1, 2, 3], [OK] * 4)


def test_datagrams_may_lie_in_a_wider_buffer():
    bodies = some_bodies(5, 20)
    buffer = np.full((9, 99), 0xEE, np.uint8)
    buffer[::2, : 20 + SEAL_BYTES] = Sealer(SECRET, AES, 1).seal(SYMBOL, bodies)
    opened, found = Opener(SECRET, AES).open(buffer[::2, : 20 + SEAL_BYTES])
    assert (found == OK).all()
    np.testing.assert_array_equal(opened, bodies)


@pytest.mark.parametrize("length", [0, 1])
def test_an_empty_body_and_an_empty_batch_are_no_trouble(length):
    opener = an_opener()
    body = bytes(length)
    assert opener.open_one(sealed(0, body)) == body
    opened, found = opener.open(matrix([sealed(1, body), sealed(2, body)]))
    assert (opened.shape, found.tolist()) == ((2, length), [OK, OK])
    opened, found = opener.open(np.empty((0, SEAL_BYTES + length), np.uint8))
    assert (opened.shape, found.shape) == ((0, length), (0,))
    assert Sealer(SECRET, AES, 1).seal(SYMBOL, np.empty((0, 5), np.uint8)).shape == (0, 5 + SEAL_BYTES)


def test_either_direction_has_its_own_keys():
    datagram = Sealer(SECRET, AES, 1).seal_one(MESSAGE, b"to the cloud")
    assert Opener(bytes(32), AES).open_one(datagram) is FORGED
    assert Opener(SECRET, CHACHA).open_one(datagram) is FORGED


# --- what is not ---


@CIPHERS
def test_every_flip_of_any_bits_of_one_byte_is_refused_and_changes_nothing(cipher):
    datagram = sealed(5, cipher=cipher)
    flips = [1 << bit for bit in range(8)] + [0xFF, 0x5A]
    opener = an_opener(cipher)
    for offset in range(len(datagram)):
        changed = [datagram[:offset] + bytes([datagram[offset] ^ flip]) + datagram[offset + 1 :] for flip in flips]
        opened, found = opener.open(matrix(changed))
        assert found.tolist() == [FORGED] * len(flips), offset
        assert not opened.any()
        assert {opener.open_one(one) for one in changed} == {FORGED}, offset
    assert opener.open_one(datagram) == b"body"


@CIPHERS
def test_every_truncation_and_every_extension_is_refused_and_changes_nothing(cipher):
    datagram, opener = sealed(5, cipher=cipher), an_opener(cipher)
    for changed in [datagram[:length] for length in range(len(datagram))] + [datagram + b"\0", datagram * 2]:
        assert opener.open_one(changed) is FORGED
        opened, found = opener.open(np.frombuffer(changed, np.uint8)[None])
        assert (found.tolist(), opened.any()) == ([FORGED], False)
    assert opener.open_one(datagram) == b"body"


def test_a_datagram_of_another_session_or_kind_is_refused_though_its_key_is_the_same():
    datagram = sealed(0)
    opener = an_opener()
    other = sealed(0, session=SESSION + 1, kind=SYMBOL)
    assert opener.open_one(other[:8] + datagram[8:]) is FORGED
    assert opener.open_one(datagram[:2] + other[2:3] + datagram[3:]) is FORGED


@given(st.lists(st.binary(min_size=50, max_size=50), max_size=6), st.binary(max_size=80))
def test_random_bytes_never_raise(batch, single):
    opener = an_opener()
    assert set(opener.open(matrix([bytes(50), *batch]))[1].tolist()) == {FORGED}
    assert opener.open_one(single) is FORGED


@pytest.mark.parametrize("counter", [COUNTER_LIMIT - 1, COUNTER_LIMIT, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_counter_that_nobody_comes_to_is_refused(counter):
    opener = an_opener()
    datagram = sealed(0)[:8] + counter.to_bytes(8, "big") + sealed(0)[16:]
    assert opener.open_one(datagram) is FORGED
    assert verdicts(opener, [datagram, sealed(0)]) == [FORGED, OK]


def test_a_body_that_is_not_good_is_all_zeros():
    opener = an_opener()
    assert opener.open_one(sealed(1, b"seen")) == b"seen"
    opened, found = opener.open(matrix([sealed(1, b"seen"), forged(2), sealed(3, b"good"), sealed(3, b"good")]))
    assert found.tolist() == [REPLAYED, FORGED, OK, REPLAYED]
    assert [row.tobytes() for row in opened] == [bytes(4), bytes(4), b"good", bytes(4)]


# --- replays ---


def test_nothing_opens_twice_within_a_batch_or_later():
    opener = an_opener()
    assert verdicts(opener, [sealed(3), sealed(4), sealed(3)]) == [OK, OK, REPLAYED]
    assert verdicts(opener, [sealed(4), sealed(5), sealed(3)]) == [REPLAYED, OK, REPLAYED]
    assert opener.open_one(sealed(5)) is REPLAYED


def test_a_forgery_takes_no_place_from_the_authentic_one_after_it():
    opener = an_opener()
    assert verdicts(opener, [forged(3), sealed(3), forged(3), sealed(3)]) == [FORGED, OK, FORGED, REPLAYED]
    assert verdicts(opener, [forged(4)]) == [FORGED]
    assert verdicts(opener, [sealed(4)]) == [OK]


def test_a_forgery_moves_neither_window_nor_epoch():
    opener = an_opener()
    ahead = [forged(counter) for counter in range(2 * EPOCH)]
    assert set(verdicts(opener, ahead)) == {FORGED}
    assert verdicts(opener, [sealed(2 * EPOCH)]) == [FORGED]  # two epochs ahead, still
    assert verdicts(opener, [sealed(0)]) == [OK]


@pytest.mark.parametrize("newest", [WINDOW, EPOCH + 3, EPOCH + WINDOW])
def test_the_window_ends_exactly_where_it_should(newest):
    for distance, expected in ((WINDOW - 1, b"body"), (WINDOW, TOO_OLD), (WINDOW + 1, TOO_OLD)):
        opener = an_opener()
        assert opener.open_one(sealed(newest)) == b"body"
        if distance <= newest:
            assert opener.open_one(sealed(newest - distance)) == expected


def test_by_default_the_window_has_32768_datagrams():
    assert REPLAY_WINDOW == 32_768
    for distance, expected in ((32_767, b"body"), (32_768, TOO_OLD)):
        opener, sealer = Opener(SECRET, AES), Sealer(SECRET, AES, 1)
        sealer.counter = 10
        first = sealer.seal_one(MESSAGE, b"body")
        sealer.counter = 10 + distance
        assert opener.open_one(sealer.seal_one(MESSAGE, b"last")) == b"last"
        assert opener.open_one(first) == expected


def test_a_replay_is_refused_without_decrypting_it(monkeypatch):
    opener = an_opener()
    batch = matrix([sealed(20), sealed(19), sealed(1)])
    opener.open(batch)
    monkeypatch.setattr(opener, "_decrypt", lambda datagrams, counters, rows: dict.fromkeys(rows.tolist(), b"") or {})
    assert opener.open(batch)[1].tolist() == [REPLAYED, REPLAYED, TOO_OLD]


class Model:
    """What an opener should say: a set of all counters that came, and one datagram after the other."""

    def __init__(self):
        self.newest, self.seen = -1, set()

    def judge(self, counter):
        if counter <= self.newest - WINDOW:
            return TOO_OLD
        return REPLAYED if counter in self.seen else OK

    def open(self, batch):
        reachable = range(self.epoch - 1, self.epoch + 2)
        at_first = [self.judge(counter) for counter, _ in batch]
        return [
            first if first is not OK else self.open_one(counter, authentic and counter // EPOCH in reachable)
            for first, (counter, authentic) in zip(at_first, batch, strict=True)
        ]

    def open_one(self, counter, authentic):
        if not authentic:
            return FORGED
        if (verdict := self.judge(counter)) is OK:
            self.seen.add(counter)
            self.newest = max(self.newest, counter)
        return verdict

    @property
    def epoch(self):
        return max(self.newest, 0) // EPOCH


DATAGRAMS = {(counter, True): sealed(counter) for counter in range(6 * EPOCH)}
DATAGRAMS |= {(counter, False): forged(counter) for counter in range(6 * EPOCH)}
STEPS = st.one_of(st.integers(-WINDOW - 2, WINDOW + 2), st.sampled_from([1, 1, 1, 0, EPOCH, -EPOCH, 2 * EPOCH]))


@st.composite
def batches_of_datagrams(draw, counters):
    """Batches of (counter, whether it is authentic), wandering forwards for the most part."""
    counter, batches = 0, []
    for steps in draw(st.lists(st.lists(st.tuples(STEPS, st.integers(0, 3)), max_size=12), max_size=8)):
        batch = []
        for step, chance in steps:
            counter = min(max(counter + step, 0), counters - 1)
            batch.append((counter, chance > 0))
        batches.append(batch)
    return batches


@given(batches_of_datagrams(6 * EPOCH))
@settings(max_examples=300)
def test_batches_with_replays_and_forgeries_over_epochs_are_judged_as_by_a_set(batches):
    opener, model = an_opener(), Model()
    for batch in batches:
        if batch:
            assert verdicts(opener, [DATAGRAMS[datagram] for datagram in batch]) == model.open(batch)


@given(batches_of_datagrams(2 * EPOCH))
def test_what_opens_does_not_depend_on_how_it_is_batched(batches):
    batched, single = an_opener(), an_opener()
    for batch in batches:
        datagrams = [DATAGRAMS[datagram] for datagram in batch]
        one_by_one = [isinstance(single.open_one(datagram), bytes) for datagram in datagrams]
        if batch:
            assert [verdict == OK for verdict in verdicts(batched, datagrams)] == one_by_one


@given(st.lists(st.tuples(st.integers(0, 3 * EPOCH), st.booleans()), max_size=40))
def test_single_datagrams_are_judged_as_by_a_set(datagrams):
    opener, model = an_opener(), Model()
    for datagram in datagrams:
        found = opener.open_one(DATAGRAMS[datagram])
        assert [OK if found == b"body" else found] == model.open([datagram])


# --- counters ---


@given(st.lists(st.one_of(st.none(), st.integers(0, 3 * EPOCH)), max_size=8))
def test_counters_never_repeat_and_leave_none_out(batches):
    sealer, found = Sealer(SECRET, AES, 1, EPOCH), []
    for count in batches:
        if count is None:
            found += counters_of([sealer.seal_one(MESSAGE, b"body")])
        else:
            found += counters_of(sealer.seal(SYMBOL, np.zeros((count, 3), np.uint8)))
    assert found == [*range(len(found))]


def test_a_batch_that_fails_uses_its_counters_up():
    sealer = Sealer(SECRET, AES, 1)
    with pytest.raises(ValueError, match="contiguous"):
        sealer.seal(SYMBOL, np.zeros((6, 5), np.uint8).T)
    assert counters_of([sealer.seal_one(MESSAGE, b"")]) == [5]


def test_the_last_counter_is_not_passed():
    sealer = Sealer(SECRET, AES, 1, epoch_datagrams=2**61)
    sealer.counter = COUNTER_LIMIT - 2
    assert len(sealer.seal(SYMBOL, some_bodies(2, 4))) == 2
    with pytest.raises(OverflowError, match="open a new one"):
        sealer.seal(SYMBOL, some_bodies(1, 4))
    with pytest.raises(OverflowError, match="open a new one"):
        sealer.seal_one(MESSAGE, b"")


# --- epochs ---


def test_by_default_an_epoch_has_2_to_the_22_datagrams():
    assert REKEY_DATAGRAMS == 2**22
    sealer, opener = Sealer(SECRET, AES, 1), Opener(SECRET, AES)
    sealer.counter = 2**22 - 3
    datagrams = sealer.seal(SYMBOL, some_bodies(6, 5))
    keys = [SECRET] * 3 + [second_seal.expand(SECRET, "next")] * 3
    for datagram, secret, counter in zip(datagrams, keys, range(2**22 - 3, 2**22 + 3), strict=True):
        # The counter of the nonce goes on: only the key and the iv are the next epoch's.
        iv = int.from_bytes(second_seal.expand(secret, "iv", 12), "big")
        aead = second_seal.AESGCM(second_seal.expand(secret, "key"))
        aead.decrypt((iv ^ counter).to_bytes(12, "big"), datagram[16:].tobytes(), datagram[:16].tobytes())
    assert opener.open(datagrams)[1].tolist() == [OK] * 6


def test_what_was_overtaken_by_the_next_epoch_still_opens():
    opener = an_opener()
    late = [EPOCH - 1, EPOCH - 3]
    assert verdicts(opener, [sealed(c) for c in (EPOCH - 2, EPOCH, EPOCH + 1)]) == [OK] * 3
    assert verdicts(opener, [sealed(c) for c in (*late, EPOCH + 2)]) == [OK] * 3
    assert verdicts(opener, [sealed(c) for c in late]) == [REPLAYED] * 2


def test_in_one_batch_the_epochs_may_be_mixed():
    opener = an_opener()
    assert verdicts(opener, [sealed(c) for c in (EPOCH + 1, EPOCH - 1, EPOCH, EPOCH - 2)]) == [OK] * 4


@pytest.mark.parametrize("start", range(3))
def test_the_next_epoch_is_within_reach_and_the_one_after_it_is_not(start):
    opener = an_opener()
    for epoch in range(start + 1):
        assert opener.open_one(sealed(epoch * EPOCH)) == b"body"
    assert opener.open_one(sealed((start + 2) * EPOCH)) is FORGED
    assert opener.open_one(sealed((start + 2) * EPOCH - 1)) == b"body"
    assert opener.open_one(sealed((start + 2) * EPOCH)) == b"body"


def test_an_epoch_is_never_shorter_than_the_window():
    with pytest.raises(ValueError, match="an epoch of 7 datagrams is shorter than a window of 8"):
        Opener(SECRET, AES, 7, 8)
    assert REKEY_DATAGRAMS >= REPLAY_WINDOW


def test_forgeries_of_the_next_epoch_cost_no_derivations(monkeypatch):
    opener = an_opener()
    opener.open_one(sealed(0))
    forgeries = [forged(EPOCH + counter) for counter in range(EPOCH)] + [forged(9 * EPOCH)]

    def never(*_):
        raise AssertionError("derived")

    monkeypatch.setattr(hkdf, "expand", never)
    assert set(verdicts(opener, forgeries)) == {FORGED}
    assert {opener.open_one(datagram) for datagram in forgeries} == {FORGED}


def reachable_bytes(thing):
    """All bytes objects that can be got at from a thing, through attributes and containers."""
    found, seen, rest = set(), set(), [thing]
    while rest:
        one = rest.pop()
        if isinstance(one, bytes):
            found.add(one)
        elif id(one) not in seen and not isinstance(one, type):
            seen.add(id(one))
            rest += gc.get_referents(one)
    return found


def test_the_secrets_of_earlier_epochs_are_forgotten():
    sealer, opener = Sealer(SECRET, AES, 1, EPOCH), an_opener()
    secrets = [SECRET]
    for _ in range(6):
        secrets.append(second_seal.expand(secrets[-1], "next"))
    for epoch in range(4):
        sealer.counter = epoch * EPOCH
        datagram = sealer.seal_one(MESSAGE, b"")
        assert opener.open_one(datagram) == b""
        assert not reachable_bytes(sealer) & {*secrets[: epoch + 1]}
        assert secrets[epoch + 1] in reachable_bytes(sealer)
        assert not reachable_bytes(opener) & {*secrets[:epoch]}


def test_nothing_that_is_printed_reveals_a_secret():
    for thing in (Sealer(SECRET, AES, 1), Opener(SECRET, AES), Epoch(SECRET, AES)):
        for secret in (SECRET, second_seal.expand(SECRET, "next"), second_seal.expand(SECRET, "key")):
            assert secret.hex() not in f"{thing!r} {thing}"
            assert repr(secret)[2:-1] not in f"{thing!r} {thing}"
