"""A hello and a welcome give both sides the same secrets, and nobody else any; what is not authentic is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.common import second_seal
from tests.common.second_seal import CLOUD, EDGE, HELLO_BODY, PSK, SESSION, WELCOME_BODY, golden

from gradfec_common import hkdf
from gradfec_common.keys import INSECURE_KEY, Key
from gradfec_common.session import handshake
from gradfec_common.session.handshake import (
    AuthenticHello,
    EdgeHandshake,
    Established,
    HandshakeKey,
    answer_hello,
    read_hello,
)
from gradfec_common.wire import Drop

KEY = HandshakeKey(Key(PSK))
OTHER = HandshakeKey(Key(b"o" * 32))
KEYS = {KEY.id: KEY, OTHER.id: OTHER}
BAD_LENGTH, UNKNOWN_KEY, FORGED = Drop.BAD_LENGTH, Drop.UNKNOWN_KEY, Drop.FORGED

# The points of low order on Curve25519, and the forms of them that are not reduced: x25519 of each is zero.
P = 2**255 - 19
LOW_ORDER = [
    number.to_bytes(32, "little")
    for number in (
        *(0, 1, P - 1, P, P + 1),
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
]


def edge_of(key=KEY, body=HELLO_BODY, private=EDGE):
    return EdgeHandshake(key, body, lambda count: private[:count])


def answered(hello, session=SESSION, body=WELCOME_BODY, private=CLOUD):
    """The cloud's (welcome, Established) to the bytes of a hello."""
    return answer_hello(read_hello(hello, KEYS), session, body, lambda count: private[:count])


def flipped(datagram):
    for offset in range(len(datagram)):
        for flip in (1, 0x80, 0xFF):
            yield offset, datagram[:offset] + bytes([datagram[offset] ^ flip]) + datagram[offset + 1 :]


# --- both sides agree ---


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=446),
    st.binary(max_size=456),
    st.integers(0, 2**32 - 1),
)
def test_edge_and_cloud_agree_on_what_nobody_else_has(psk, private, other, wish, reply, session):
    key = HandshakeKey(Key(psk))
    edge = EdgeHandshake(key, wish, lambda _: private)
    hello = read_hello(edge.hello, {key.id: key})
    assert isinstance(hello, AuthenticHello)
    assert (hello.key, hello.body, hello.datagram) == (key, wish, edge.hello)
    welcome, clouds = answer_hello(hello, session, reply, lambda _: other)
    assert edge.finish(welcome) == clouds
    assert (clouds.session, clouds.body) == (session, reply)
    assert len({clouds.edge_to_cloud, clouds.cloud_to_edge}) == 2
    assert (len(clouds.edge_to_cloud), len(clouds.cloud_to_edge)) == (32, 32)


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=446),
    st.binary(max_size=456),
)
def test_the_second_implementation_is_understood_on_either_side(psk, private, other, wish, reply):
    key = HandshakeKey(Key(psk))
    ours, theirs = second_seal.public(private), second_seal.public(other)
    shared = second_seal.exchange(other, ours)
    hello = second_seal.hello(psk, ours, wish)
    welcome = second_seal.welcome(psk, hello, theirs, shared, 7, reply)
    _, up, down = second_seal.secrets(psk, hello, welcome, shared)

    edge = EdgeHandshake(key, wish, lambda _: private)
    assert edge.hello == hello
    assert edge.finish(welcome) == Established(7, reply, up, down)

    assert second_seal.read_hello(psk, edge.hello) == wish
    found = read_hello(hello, {key.id: key})
    assert (found.body, answer_hello(found, 7, reply, lambda _: other)) == (
        wish,
        (welcome, Established(7, reply, up, down)),
    )
    assert second_seal.read_welcome(psk, hello, welcome, shared) == reply


def test_the_golden_datagrams_are_what_both_implementations_make():
    for name in ("hello", "welcome", "refusal"):
        assert golden(name) == second_seal.vectors()[name]
    edge = edge_of()
    assert [edge.hello] == golden("hello")
    assert [answered(edge.hello)[0]] == golden("welcome")
    assert [answered(edge.hello, session=0)[0]] == golden("refusal")


def test_a_refusal_is_as_authentic_as_a_welcome_and_has_session_0():
    edge = edge_of()
    welcome, _ = answered(edge.hello, session=0, body=b"full")
    found = edge.finish(welcome)
    assert (found.session, found.body) == (0, b"full")


def test_a_hello_may_be_answered_more_than_once_and_each_answer_has_its_own_secrets():
    edge = edge_of()
    (first, one), (second, other) = answered(edge.hello), answered(edge.hello, private=b"c" * 32)
    assert edge.finish(first) == edge.finish(first) == one
    assert edge.finish(second) == other
    assert not {one.edge_to_cloud, one.cloud_to_edge} & {other.edge_to_cloud, other.cloud_to_edge}


@pytest.mark.parametrize("length", [0, 1, 445, 446])
def test_every_hello_has_512_bytes(length):
    edge = edge_of(body=b"x" * length)
    assert len(edge.hello) == 512
    assert read_hello(edge.hello, KEYS).body == b"x" * length


def test_no_welcome_is_longer_than_a_hello():
    welcome, _ = answered(edge_of().hello, body=b"x" * 456)
    assert len(welcome) == 512
    assert len(answered(edge_of().hello, body=b"")[0]) == 56


def test_bodies_that_would_not_fit_are_refused():
    with pytest.raises(ValueError, match="446 bytes at most, not 447"):
        edge_of(body=b"x" * 447)
    with pytest.raises(ValueError, match="456 bytes at most, not 457"):
        answered(edge_of().hello, body=b"x" * 457)


def test_a_body_may_begin_or_end_with_zeros():
    for body in (bytes(1), bytes(446), b"\0a\0"):
        assert read_hello(edge_of(body=body).hello, KEYS).body == body


def test_entropy_is_asked_for_32_bytes_on_either_side():
    asked = []

    def entropy(count):
        asked.append(count)
        return bytes(range(count))

    edge = EdgeHandshake(KEY, b"", entropy)
    answer_hello(read_hello(edge.hello, KEYS), 1, b"", entropy)
    assert asked == [32, 32]


# --- hellos that are none ---


def test_every_flip_in_a_hello_is_refused():
    hello = edge_of().hello
    for offset, changed in flipped(hello):
        expected = UNKNOWN_KEY if 8 <= offset < 16 else FORGED
        assert read_hello(changed, KEYS) is expected, offset


def test_every_truncation_and_extension_of_a_hello_is_refused():
    hello = edge_of().hello
    for changed in [hello[:length] for length in range(512)] + [hello + b"\0", hello * 2]:
        assert read_hello(changed, KEYS) is BAD_LENGTH


def test_a_hello_under_a_key_that_the_cloud_lacks_or_under_anothers_name_is_refused():
    hello = edge_of().hello
    assert read_hello(hello, {}) is UNKNOWN_KEY
    assert read_hello(hello, {OTHER.id: OTHER}) is UNKNOWN_KEY
    assert read_hello(hello, {KEY.id: OTHER}) is FORGED
    assert read_hello(hello[:8] + OTHER.id + hello[16:], KEYS) is FORGED


def test_a_cloud_with_several_keys_knows_which_edge_it_is():
    assert read_hello(edge_of(OTHER).hello, KEYS).key is OTHER
    assert read_hello(edge_of(KEY).hello, KEYS).key is KEY


@pytest.mark.parametrize("claimed", [447, 448, 0xFFFF])
def test_an_authentic_hello_whose_length_cannot_be_is_refused(claimed):
    hello = second_seal.hello_of(PSK, second_seal.public(EDGE), claimed.to_bytes(2, "big"))
    assert read_hello(hello, KEYS) is FORGED


def test_what_fills_a_hello_up_may_be_anything():
    hello = second_seal.hello_of(PSK, second_seal.public(EDGE), b"\0\3abc" + b"later versions" * 31)
    assert read_hello(hello, KEYS).body == b"abc"


@given(st.binary(max_size=600))
def test_random_bytes_are_no_hello(datagram):
    assert isinstance(read_hello(datagram, KEYS), Drop)
    head = edge_of().hello[:16]
    assert read_hello((head + datagram).ljust(512, b"\0")[:512], KEYS) is FORGED


def test_a_forged_hello_costs_no_derivation_and_no_curve(monkeypatch):
    hello = edge_of().hello
    forged = hello[:-1] + bytes([hello[-1] ^ 1])

    def never(*_):
        raise AssertionError("costly")

    for module, name in ((hkdf, "expand"), (hkdf, "extract"), (handshake, "_shared_secret")):
        monkeypatch.setattr(module, name, never)
    monkeypatch.setattr(handshake, "X25519PrivateKey", None)
    assert read_hello(forged, KEYS) is FORGED
    assert read_hello(hello, KEYS).body == HELLO_BODY


@pytest.mark.parametrize("public", LOW_ORDER, ids=range(len(LOW_ORDER)))
def test_a_hello_with_a_point_of_low_order_is_not_answered(public):
    hello = second_seal.hello(PSK, public, b"")
    found = read_hello(hello, KEYS)
    assert isinstance(found, AuthenticHello)
    assert answer_hello(found, 1, b"", lambda _: CLOUD) is None


# --- welcomes that are none ---


def test_every_flip_in_a_welcome_is_refused_and_the_welcome_still_finishes():
    edge = edge_of()
    welcome, established = answered(edge.hello)
    for offset, changed in flipped(welcome):
        assert edge.finish(changed) is None, offset
    assert edge.finish(welcome) == established


def test_every_truncation_and_extension_of_a_welcome_is_refused():
    edge = edge_of()
    welcome, _ = answered(edge.hello)
    for changed in [welcome[:length] for length in range(len(welcome))] + [welcome + b"\0", welcome * 2, welcome * 9]:
        assert edge.finish(changed) is None


def test_a_welcome_finishes_no_handshake_but_its_own():
    welcome, _ = answered(edge_of().hello)
    assert edge_of(private=b"e" * 32).finish(welcome) is None  # it started again
    assert edge_of(body=b"other").finish(welcome) is None
    assert edge_of(OTHER).finish(welcome) is None


def test_who_has_not_the_key_cannot_welcome():
    edge = edge_of()
    shared = second_seal.exchange(CLOUD, second_seal.public(EDGE))
    for psk in (b"o" * 32, bytes(32)):
        assert edge.finish(second_seal.welcome(psk, edge.hello, second_seal.public(CLOUD), shared, 1, b"")) is None


def test_a_hello_is_no_welcome_and_a_welcome_no_hello():
    edge = edge_of()
    assert edge.finish(edge.hello) is None
    assert read_hello(answered(edge.hello, body=b"x" * 456)[0], KEYS) is UNKNOWN_KEY  # bytes of the cloud's public key


@pytest.mark.parametrize("public", LOW_ORDER, ids=range(len(LOW_ORDER)))
def test_a_welcome_with_a_point_of_low_order_is_refused_even_with_the_key(public):
    edge = edge_of()
    assert edge.finish(second_seal.welcome(PSK, edge.hello, public, bytes(32), 1, b"")) is None


@given(st.binary(max_size=600))
def test_random_bytes_are_no_welcome(datagram):
    edge = edge_of()
    assert edge.finish(datagram) is None
    assert edge.finish(answered(edge.hello)[0][:8] + datagram) is None


# --- secrets ---


def test_the_key_alone_does_not_give_a_recorded_sessions_secrets():
    """All that was sent, and the key: what is missing is one of the two private keys."""
    edge = edge_of()
    welcome, established = answered(edge.hello)
    for guess in (bytes(32), second_seal.exchange(b"g" * 32, second_seal.public(EDGE))):
        assert established.edge_to_cloud not in second_seal.secrets(PSK, edge.hello, welcome, guess)


def test_the_insecure_key_works_like_any_other():
    key = HandshakeKey(INSECURE_KEY)
    edge = edge_of(key)
    welcome, established = answer_hello(read_hello(edge.hello, {key.id: key}), 1, b"", lambda _: CLOUD)
    assert edge.finish(welcome) == established


def test_nothing_that_is_printed_reveals_a_secret():
    edge = edge_of()
    hello = read_hello(edge.hello, KEYS)
    welcome, established = answered(edge.hello)
    schedule = KEY.schedule(edge.hello, welcome[:40], bytes(32))
    secrets = [PSK, EDGE, CLOUD, established.edge_to_cloud, established.cloud_to_edge, schedule.edge_to_cloud]
    for thing in (KEY, edge, hello, established, schedule, KEYS):
        for secret in secrets:
            assert secret.hex() not in f"{thing!r} {thing}"
            assert repr(secret)[2:-1] not in f"{thing!r} {thing}"
    assert repr(KEY) == "HandshakeKey(id=8629733e8b1e31d4)"


def test_no_error_reveals_a_secret():
    for attempt in (lambda: edge_of(body=b"x" * 447), lambda: answered(edge_of().hello, body=b"x" * 457)):
        with pytest.raises(ValueError, match="at most") as caught:
            attempt()
        assert "x" * 40 not in str(caught.value)
