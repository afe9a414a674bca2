"""The cloud's core: who is let in, who is turned away, and who gets no answer at all."""

import itertools
from dataclasses import replace

import pytest
from tests.common import second_seal
from tests.common.small_tensors import NETWORK

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.keys import Key
from gradfec_common.session.events import Decided, SessionEnded, SessionOpened
from gradfec_common.session.handshake import HELLO_BYTES, HandshakeKey
from gradfec_common.wire import Bye, Ping, Pong, Result, Welcome

from .clouds import ALICE, BOB, DEADLINE_S, Cloud, tensor_of, timers_of
from .ends import KEY, OTHER_KEY, STRANGE_KEY, WANTED, drawn_handshake, flipped

WELCOME = Welcome(round(DEADLINE_S * 1000))


def kept(cloud):
    """All that the cloud keeps of anybody."""
    core, greeter = cloud.core, cloud.core._reception._greeter
    return len(core._sessions), len(greeter._greeted), len(greeter._by_host), timers_of(cloud)


# --- letting in ---


def test_a_hello_is_welcomed_with_a_new_session_and_the_deadline(cloud):
    session = cloud.greet()
    assert cloud.answers == [(session.number, WELCOME, ALICE)]
    assert session.number != 0
    assert cloud.counts == {"hello": 1}


def test_a_session_is_open_once_its_edge_has_used_it(cloud):
    session = cloud.greet(replace(WANTED, name="kitchen"))
    assert (cloud.core.open_sessions, cloud.took(SessionOpened)) == (0, [])
    cloud.say(Ping(), session)
    assert cloud.took(SessionOpened) == [SessionOpened(session.number, "kitchen", ALICE)]
    assert cloud.core.open_sessions == 1
    cloud.say(Ping(), session)
    assert not cloud.took(SessionOpened)


def test_a_tensor_may_be_the_first_that_is_heard_of_a_session(cloud):
    session = cloud.greet()
    cloud.feed(*tensor_of(session))
    assert len(cloud.took(SessionOpened)) == 1
    assert [d.complete for d in cloud.took(Decided)] == [True]


@pytest.mark.parametrize("cipher", Cipher, ids=[cipher.name for cipher in Cipher])
def test_both_ways_are_sealed_under_the_cipher_that_the_edge_wants(cloud, cipher):
    session = cloud.connect(cipher=cipher)
    cloud.feed(*tensor_of(session))
    cloud.answer_all()
    assert len(cloud.told(Result)) == 1


def test_a_key_of_one_edge_names_it_whatever_it_says():
    labelled = HandshakeKey(Key(b"l" * 32), "garage")
    cloud = Cloud(keys=(KEY, labelled))
    for key, edge in ((KEY, "kitchen"), (labelled, "garage")):
        session = cloud.greet(replace(WANTED, name="kitchen"), key=key)
        cloud.say(Ping(), session)
        assert [e.edge for e in cloud.took(SessionOpened)] == [edge]


def test_hellos_of_one_address_open_a_session_each_and_none_ends_for_it(cloud):
    old, new = cloud.connect(), cloud.connect()
    assert old.number != new.number
    assert cloud.core.open_sessions == 2
    cloud.feed(*tensor_of(old), *tensor_of(new))  # the same tensor number in either
    assert [d.complete for d in cloud.took(Decided)] == [True, True]
    assert not cloud.took(SessionEnded)


# --- hellos that come again ---


def test_a_repeated_hello_is_answered_with_the_same_welcome(cloud):
    hello = cloud.hello()
    cloud.feed(hello)
    cloud.wait(4.9)
    cloud.feed(hello, hello)
    assert len({datagram for datagram, _ in cloud.sent}) == 1
    assert len(cloud.sent) == 3
    assert cloud.counts == {"hello": 3}
    cloud.say(Ping(), cloud.end_of[hello])
    assert cloud.core.open_sessions == 1


def test_a_repeated_hello_from_elsewhere_gets_no_byte(cloud):
    hello = cloud.hello()
    cloud.feed(hello)
    cloud.told()
    cloud.feed(hello, peer=BOB)
    cloud.feed(hello, peer=(ALICE[0], ALICE[1] + 1))
    assert cloud.counts == {"hello": 1, "replayed": 2}
    assert not cloud.sent


def test_a_hello_is_answered_again_for_5_s_only(cloud):
    hello = cloud.hello()
    cloud.feed(hello)
    cloud.wait(5)
    cloud.told()
    cloud.feed(hello)
    assert cloud.counts == {"hello": 1, "replayed": 1}
    assert not cloud.sent


def test_a_hello_whose_edge_has_the_answer_is_answered_no_more(cloud):
    hello = cloud.hello()
    cloud.feed(hello)
    cloud.say(Ping(), cloud.end_of[hello])
    cloud.told()
    cloud.feed(hello)
    assert cloud.counts == {"hello": 1, "ping": 1, "replayed": 1}
    assert not cloud.sent
    cloud.say(Bye(), cloud.end_of[hello])
    cloud.told()
    cloud.feed(hello)
    assert not cloud.sent  # nor when the session is over


def test_a_replayed_hello_opens_nothing_long_after_its_session(cloud):
    hello = cloud.hello()
    cloud.feed(hello)
    cloud.wait(3600)
    cloud.told()
    for peer in (ALICE, BOB):
        cloud.feed(hello, peer=peer)
    assert not cloud.sent
    assert len(cloud.core._sessions) == 0


def test_a_replay_of_a_hello_that_is_forgotten_ends_and_moves_nothing():
    cloud = Cloud(greetings=1)
    hello = cloud.hello()
    cloud.feed(hello)
    session = cloud.end_of[hello]
    cloud.say(Ping(), session)
    cloud.greet(peer=BOB)  # and the older one is forgotten
    cloud.feed(hello, peer=BOB)
    cloud.took(SessionOpened)
    cloud.feed(*tensor_of(session))
    assert [d.session for d in cloud.took(Decided)] == [session.number]
    cloud.wait(10)  # whoever replayed it can make nothing of the welcome
    assert cloud.core.open_sessions == len(cloud.core._sessions) == 1
    assert not [event for event in cloud.events if event]


# --- hellos that get no answer ---


@pytest.mark.parametrize("case", ["unknown key", "forged", "another version", "cut", "longer"])
def test_a_hello_of_nobody_who_has_a_key_gets_no_byte_and_leaves_nothing_behind(cloud, case):
    hello = drawn_handshake(1, key=STRANGE_KEY if case == "unknown key" else KEY).hello
    changed, fate = {
        "unknown key": (hello, "unknown_key"),
        "forged": (flipped(hello), "forged"),
        "another version": (hello[:1] + b"\1" + hello[2:], "unknown_version"),
        "cut": (hello[:-1], "bad_length"),
        "longer": (hello + b"\0", "bad_length"),
    }[case]
    before = kept(cloud)
    cloud.feed(*[changed] * 100)
    assert cloud.counts == {fate: 100}
    assert not cloud.sent
    assert kept(cloud) == before


def test_an_authentic_hello_that_wants_nothing_known_gets_no_byte(cloud):
    for body in (b"", b"?", wire.message_body(Ping()), wire.message_body(WANTED)[:-1]):
        cloud.feed(cloud.hello(body))
    assert cloud.counts == {"bad_message": 4}
    assert not cloud.sent
    assert len(cloud.core._sessions) == 0


def test_a_hello_with_a_point_of_low_order_gets_no_byte(cloud):
    cloud.feed(second_seal.hello(bytes([1]) * 32, bytes(32), wire.message_body(WANTED)))
    assert cloud.counts == {"forged": 1}
    assert not cloud.sent
    assert len(cloud.core._sessions) == 0


# --- refusing ---


@pytest.mark.parametrize(
    ("wanted", "reason", "says"),
    [
        ({"model": bytes(16)}, "model", ") at a_small_one; the edge asked for model 00000000"),
        ({"cut": 18}, "cut", "not at cut 18: use --split small:a_small_one on the edge"),
        ({"cut": 0}, "cut", "this cloud has small at a_small_one, not at cut 0"),
        ({"rows": 3}, "rows", "3 rows a packet do not divide the 14 rows"),
        ({"rows": 0}, "rows", "0 rows"),
        ({"rows": 65535}, "rows", "65535 rows"),
        ({"cipher": 0}, "cipher", "no cipher 0: update it"),
        ({"cipher": 255}, "cipher", "no cipher 255: update it"),
    ],
)
def test_an_edge_that_does_not_fit_is_refused_with_the_reason(cloud, wanted, reason, says):
    assert cloud.greet(replace(WANTED, **wanted)) is None
    ((session, refusal, peer),) = cloud.answers
    assert (session, peer) == (0, ALICE)
    assert refusal.reason == reason
    assert says in refusal.detail
    assert cloud.counts == {"hello": 1}
    assert len(cloud.core._sessions) == 0
    assert cloud.core.next_timer() is None


def test_a_cloud_of_several_networks_and_cuts_gives_each_edge_its_own():
    other = replace(NETWORK, name="another", title="another network")
    cuts = [NETWORK.cut("a_small_one"), NETWORK.cut("relu"), other.cut("relu")]
    cloud = Cloud(cuts=cuts)
    for cut in cuts:
        session = cloud.greet(replace(WANTED, model=cut.network.digest, cut=cut.id))
        cloud.feed(*tensor_of(session))
        (decided,) = cloud.answer_all()
        assert (decided.session, decided.cut) == (session.number, cut)
    cloud.told()
    for model, says in (
        (NETWORK.digest, "small at a_small_one, relu, not at cut 99: use --split with one of these on the edge"),
        (other.digest, "another at relu, not at cut 99: use --split another:relu on the edge"),
    ):
        assert cloud.greet(replace(WANTED, model=model, cut=99)) is None
        assert [refusal.detail for refusal in cloud.told()] == [f"this cloud has {says}"]


def test_a_refusal_is_repeated_like_a_welcome(cloud):
    hello = cloud.hello(replace(WANTED, cut=18))
    cloud.feed(hello, hello)
    assert [m.reason for m in cloud.told()] == ["cut", "cut"]
    cloud.feed(hello, peer=BOB)
    assert not cloud.sent


def test_every_answer_to_a_hello_is_no_longer_than_it(cloud):
    for changes in ({}, {"cut": 18, "name": "x" * 256}, {"rows": 65535}, {"model": bytes(16)}):
        cloud.greet(replace(WANTED, **changes))
    assert max(len(datagram) for datagram, _ in cloud.sent) <= HELLO_BYTES


def test_a_full_cloud_refuses_new_sessions_until_one_has_ended():
    cloud = Cloud(sessions=1)
    cloud.connect()
    assert cloud.greet(peer=BOB) is None
    assert [m.reason for m in cloud.told()] == ["full"]
    cloud.wait(36)  # Alice has been silent
    cloud.connect(peer=BOB)


def test_one_key_cannot_take_all_the_places():
    cloud = Cloud(sessions=10, sessions_per_key=2)
    first = [cloud.connect(key=KEY), cloud.connect(key=KEY)]
    assert cloud.greet(key=KEY) is None
    (refusal,) = cloud.told()
    assert (refusal.reason, refusal.detail) == ("full", "the cloud serves 2 edges with this key already")
    cloud.connect(key=OTHER_KEY)
    cloud.say(Bye(), first[0])
    cloud.connect(key=KEY)


def test_sessions_from_before_the_keys_were_read_again_count_towards_their_keys_share():
    cloud = Cloud(sessions_per_key=1)
    cloud.connect()
    again = HandshakeKey(Key(bytes([1]) * 32))
    assert again.id == KEY.id
    cloud.core.change_keys({again.id: again})
    assert cloud.core.open_sessions == 1
    assert cloud.greet() is None
    assert [m.reason for m in cloud.told()] == ["full"]


def test_a_leaving_cloud_refuses_new_edges(cloud):
    cloud.core.leave()
    assert cloud.greet() is None
    assert [m.reason for m in cloud.told()] == ["leaving"]


# --- sessions that nobody uses ---


def test_a_session_that_its_edge_does_not_use_vanishes_without_a_trace(cloud):
    session = cloud.greet()
    cloud.wait(4.9)
    assert len(cloud.core._sessions) == 1
    cloud.wait(0.2)
    assert len(cloud.core._sessions) == 0
    assert not cloud.events
    cloud.say(Ping(), session)
    assert cloud.counts == {"hello": 1, "unknown_session": 1}


@pytest.mark.parametrize("limit", ["sessions", "sessions_per_key"])
def test_the_oldest_session_that_nobody_uses_gives_way_to_a_new_one(limit):
    cloud = Cloud(**{limit: 3})
    used = cloud.connect()
    unused = [cloud.greet() for _ in range(3)]
    for session in [used, *unused]:
        cloud.say(Ping(), session)
    assert cloud.counts["unknown_session"] == 1
    assert {e.session for e in cloud.took(SessionOpened)} == {session.number for session in unused[1:]}
    assert cloud.greet() is None  # all are in use now
    assert not cloud.took(SessionEnded)


def test_replayed_hellos_by_the_hundred_keep_no_edge_out():
    cloud = Cloud(sessions=4, hellos_per_s=10_000, hellos_per_s_and_address=10_000)
    hellos = [cloud.hello() for _ in range(200)]
    for hello in hellos[:100]:
        cloud.feed(hello, peer=BOB)
    session = cloud.greet()
    cloud.feed(*hellos[100:103], peer=BOB)
    cloud.say(Ping(), session)
    cloud.feed(*hellos[103:], peer=BOB)
    assert [e.session for e in cloud.took(SessionOpened)] == [session.number]
    assert cloud.core.open_sessions == 1
    assert len(cloud.core._sessions) <= 4


def test_sessions_that_nobody_uses_take_nothing_of_the_others_shares():
    cloud = Cloud(pending_tensors=2)
    session = cloud.connect()
    for _ in range(20):
        cloud.greet(peer=BOB)
    for number in range(2):
        cloud.feed(*tensor_of(session, number))
    assert len(cloud.took(Decided)) == 2
    assert "overloaded" not in cloud.tensors


# --- hellos by the minute ---


def test_an_address_may_say_so_many_hellos_a_second_and_twice_as_many_at_once():
    cloud = Cloud(hellos_per_s_and_address=5)
    for _ in range(12):
        cloud.greet()
    assert cloud.counts == {"hello": 10, "rate_limit": 2}
    cloud.wait(1.01)
    for _ in range(7):
        cloud.greet(peer=(ALICE[0], 77))  # another port is the same address
    assert cloud.counts == {"hello": 15, "rate_limit": 4}
    cloud.greet(peer=BOB)
    assert cloud.counts == {"hello": 16, "rate_limit": 4}


def test_all_addresses_together_may_say_so_many_hellos_a_second():
    cloud = Cloud(hellos_per_s=5)
    for peer in itertools.islice(itertools.product("abcdefgh", [1, 2]), 12):
        cloud.greet(peer=peer)
    assert cloud.counts == {"hello": 10, "rate_limit": 2}
    cloud.wait(1.01)
    for peer in "opqrstu":
        cloud.greet(peer=(peer, 1))
    assert cloud.counts == {"hello": 15, "rate_limit": 4}


def test_a_hello_over_the_limit_gets_no_byte_and_may_come_again(cloud):
    cloud = Cloud(hellos_per_s_and_address=1)
    cloud.greet()
    cloud.greet()
    cloud.told()
    hello = cloud.hello()
    cloud.feed(hello)
    assert not cloud.sent
    cloud.wait(1.01)
    cloud.feed(hello)
    assert cloud.told() == [WELCOME]


def test_neither_forgeries_nor_repetitions_use_up_what_the_others_may_say():
    cloud = Cloud(hellos_per_s_and_address=1, hellos_per_s=1)
    hello = cloud.hello()
    cloud.feed(hello)
    cloud.feed(*[flipped(cloud.hello())] * 50, *[drawn_handshake(1, key=STRANGE_KEY).hello] * 50, *[hello] * 50)
    assert cloud.greet() is not None
    assert cloud.counts == {"hello": 52, "forged": 50, "unknown_key": 50}


def test_what_is_remembered_of_hellos_has_bounds():
    cloud = Cloud(greetings=50, addresses=20, hellos_per_s=1e6, sessions=5)
    for number in range(300):
        cloud.greet(peer=(f"host {number}", 1))
    assert kept(cloud) == (5, 50, 20, 1)
    cloud.wait(60)
    assert kept(cloud) == (0, 50, 20, 0)


def test_a_storm_of_hellos_and_goodbyes_leaves_nothing_behind():
    cloud = Cloud(hellos_per_s=1e6, hellos_per_s_and_address=1e6, sessions=2000, sessions_per_key=2000)
    for number in range(400):
        session = cloud.greet()
        if number % 2:
            cloud.say(Ping(), session)
        if number % 3 == 0:
            cloud.say(Bye(), session)
        assert timers_of(cloud) <= 2
    cloud.wait(60)
    assert len(cloud.core._sessions) == 0
    assert cloud.core.next_timer() is None


# --- keys that change ---


def test_sessions_of_a_key_that_is_removed_end_with_a_goodbye_and_the_others_stay(cloud):
    alice, bob = cloud.connect(key=KEY), cloud.connect(peer=BOB, key=OTHER_KEY)
    cloud.feed(*tensor_of(alice)[:3])
    cloud.core.change_keys({OTHER_KEY.id: OTHER_KEY})
    cloud.look()
    assert cloud.answers == [(alice.number, Bye(), ALICE)]
    assert [(e.session, e.reason) for e in cloud.took(SessionEnded)] == [(alice.number, "key removed")]
    assert cloud.tensors == {"opened": 1, "abandoned": 1}
    cloud.say(Ping(), bob, peer=BOB)
    assert cloud.told() == [Pong()]


def test_who_has_a_key_that_is_removed_comes_in_no_more_and_who_has_a_new_one_does(cloud):
    hello = cloud.hello()
    cloud.feed(hello)
    cloud.told()
    cloud.core.change_keys({STRANGE_KEY.id: STRANGE_KEY})
    cloud.look()
    assert cloud.told() == []  # nobody has used the session yet
    cloud.feed(hello, cloud.hello())
    assert cloud.counts == {"hello": 1, "unknown_key": 2}
    assert not cloud.sent
    assert len(cloud.core._sessions) == 0
    assert not cloud.took(SessionEnded)  # it was never open
    cloud.connect(key=STRANGE_KEY)
