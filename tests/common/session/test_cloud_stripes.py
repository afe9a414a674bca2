"""The cloud's core: headers that lie, datagrams of several lengths, groups of several stripes, and what is held."""

import numpy as np
import pytest
from tests.common.small_tensors import (
    GRID,
    UNIFORM8,
    ZERO,
    alone,
    bodies_of,
    coded,
    features,
    planned,
    with_header,
)
from tests.common.toys import Deflate

from gradfec_common.codes import BARE
from gradfec_common.decode import decode_tensor
from gradfec_common.protect import Group, Plan
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.session.events import Decided, Finished
from gradfec_common.transmit import encode_tensor, room_for
from gradfec_common.wire import Report, Result

from .clouds import ALICE, BARE_PLAN, BOB, DEADLINE_S, NESTED, PLAN, Cloud, tensor_of
from .ends import flipped

# --- headers that lie ---

LIES = [
    ("sent", 0, "bad_parameters"),  # the field, what it says, and the fate of a datagram that begins a tensor so
    ("sent", 7, "bad_parameters"),  # the group alone has as many
    ("sent", 4 * GRID.count + 1, "bad_parameters"),
    ("sent", 65535, "bad_parameters"),
    ("kept", 0, "bad_parameters"),
    ("kept", GRID.count + 1, "bad_parameters"),
    ("groups", 0, "bad_parameters"),
    ("groups", 11, "bad_parameters"),  # 7 datagrams, and one of each other group
    ("groups", 255, "bad_parameters"),
    ("stripes", 0, "bad_length"),
    ("stripes", 2, "unknown_code"),  # which is a byte of the parameters
    ("stripes", 33, "bad_length"),
    ("stripes", 255, "bad_length"),
    ("quantiser", 0, "unknown_quantiser"),
    ("quantiser", 255, "unknown_quantiser"),
    ("parameters", 0, "bad_parameters"),
    ("parameters", 9, "bad_parameters"),
    ("parameters", 65, "bad_length"),
    ("group", 2, "bad_parameters"),
    ("group", 255, "bad_parameters"),
    ("n", 0, "bad_parameters"),
    ("n", 3, "bad_parameters"),  # fewer than k
    ("n", 16, "bad_parameters"),  # nothing is left for the other group
    ("index", 7, "bad_parameters"),
    ("index", 65535, "bad_parameters"),
    ("position", 16, "bad_parameters"),
    ("k", 0, "bad_parameters"),
    ("k", 8, "bad_parameters"),
    ("length", 0, "bad_parameters"),
    ("length", 30, "bad_parameters"),
    ("code", 3, "unknown_code"),
    ("code", 0, "bad_parameters"),  # without a code n is k
]


@pytest.mark.parametrize(("field", "lie", "fate"), LIES)
def test_a_header_that_cannot_be_true_begins_no_tensor(cloud, field, lie, fate):
    session = cloud.connect()
    true = bodies_of(PLAN, tensor=0)[0]
    cloud.feed(*session.sends(with_header(true, **{field: lie})))
    assert cloud.counts == {"hello": 1, "ping": 1, fate: 1}
    assert not cloud.tensors
    assert cloud.core.held_bytes == 0
    cloud.feed(*tensor_of(session))
    (decided,) = cloud.took(Decided)
    assert decided.complete


@pytest.mark.parametrize(("field", "lie", "fate"), LIES)
def test_a_header_that_cannot_be_true_costs_a_tensor_that_has_begun_nothing(cloud, field, lie, fate):
    session = cloud.connect()
    first, of_other_group, second, *others = bodies_of(PLAN, tensor=0)
    cloud.feed(*session.sends(first, with_header(second, **{field: lie})))
    assert cloud.counts == {"hello": 1, "ping": 1, "collected": 1, fate: 1}
    cloud.feed(*session.sends(of_other_group, second, *others))
    (decided,) = cloud.took(Decided)
    assert decode_tensor(decided.arrived, ZERO).missing == 0


CONTRADICTIONS = {
    "more is sent": {"sent": 17},
    "less is kept": {"kept": 10},
    "more groups": {"groups": 3},
    "another quantiser": {"quantiser": QUANTISERS["uniform7"].id},
    "a taken position": {"position": 0},
    "more in its group": {"n": 8},
    "a smaller k": {"k": 3},
    "another code": {"code": 2},
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_a_header_that_contradicts_an_earlier_one_is_a_conflict_and_costs_nothing(cloud, what):
    session = cloud.connect()
    bodies = bodies_of(PLAN, tensor=0)
    liar = 2  # of the group of the first
    cloud.feed(*session.sends(*bodies[:liar]))
    changes = dict(CONTRADICTIONS[what])
    if what == "another code":  # whose symbols have an even length
        pytest.importorskip("reed_solomon_leopard")
        changes |= {"length": 30}
        lie = with_header(bodies[liar][:-1], **changes)
    else:
        lie = with_header(bodies[liar], **changes)
    cloud.feed(*session.sends(lie))
    assert cloud.counts == {"hello": 1, "ping": 1, "collected": liar, "conflict": 1}
    cloud.feed(*session.sends(*bodies[liar:]))
    (decided,) = cloud.took(Decided)
    assert decode_tensor(decided.arrived, ZERO).missing == 0


def test_an_index_that_has_come_at_another_position_is_a_conflict_and_at_its_own_a_duplicate(cloud):
    session = cloud.connect()
    first, *_ = bodies_of(PLAN, tensor=0)
    cloud.feed(*session.sends(first, first, with_header(first, position=9)))
    assert cloud.counts == {"hello": 1, "ping": 1, "collected": 1, "duplicate": 1, "conflict": 1}


def test_of_a_group_that_a_liar_has_described_first_nothing_comes_but_the_others_are_decided(cloud):
    session = cloud.connect()
    bodies = bodies_of(PLAN, tensor=0)
    first_of_group_1 = 1
    cloud.feed(*session.sends(with_header(bodies[first_of_group_1], k=6)))  # 7 is true
    cloud.feed(*session.sends(*bodies))
    assert cloud.counts == {"hello": 1, "ping": 1, "collected": 8, "conflict": 9}
    cloud.wait(2 * DEADLINE_S)
    (decided,) = cloud.took(Decided)
    decoded = decode_tensor(decided.arrived, ZERO)
    assert not decided.complete
    assert {3, 1, 4, 0} <= set(decoded.found.places.tolist())


@pytest.mark.parametrize("length", [1, 20, 21, 25, 33])
def test_a_body_too_short_for_its_own_header_is_of_bad_length(cloud, length):
    session = cloud.connect()
    cloud.feed(*session.sends(bodies_of(PLAN, tensor=0)[0][:length]))
    assert cloud.counts == {"hello": 1, "ping": 1, "bad_length": 1}


def test_a_body_longer_or_shorter_than_its_symbols_has_bad_parameters(cloud):
    session = cloud.connect()
    body = bodies_of(PLAN, tensor=0)[0]
    cloud.feed(*session.sends(body[:-1], body + b"\0"))
    assert cloud.counts == {"hello": 1, "ping": 1, "bad_parameters": 2}


# --- datagrams of several lengths ---

KINDS = {  # quantiser, policy, packets a datagram
    "the paper's": (UNIFORM8, "FEC_50_50", 1),
    "few bits, many packets": (QUANTISERS["sqrt4"], "none", 5),
    "nested": (UNIFORM8, "nested:1,2,4/5", None),
    "of many sizes": (Deflate(), "FEC_20_80", 2),
}


def tensor_kind(kind, seed):
    """A tensor of a kind: its plan, and its features."""
    quantiser, policy, most = KINDS[kind]
    made = coded(seed, quantiser)
    room = room_for(quantiser.parameter_bytes, packets_a_symbol=most)
    return encode_tensor(made, quantiser, planned(policy, sizes=made.packets.sizes, room=room))


@pytest.fixture
def _deflate(monkeypatch):
    monkeypatch.setitem(QUANTISERS, Deflate.name, Deflate())


@pytest.mark.usefixtures("_deflate")
@pytest.mark.parametrize("seed", range(4))
def test_tensors_of_every_kind_that_come_mixed_in_one_batch_are_kept_apart(seed):
    cloud = Cloud(pending_tensors=64)
    sessions = {ALICE: cloud.connect(peer=ALICE), BOB: cloud.connect(peer=BOB)}
    tensors = {}
    mixed = []
    for (number, kind), peer in ((one, peer) for one in enumerate(KINDS) for peer in sessions):
        encoded = tensors[sessions[peer].number, number] = tensor_kind(kind, number)
        datagrams = sessions[peer].sends(*(row.tobytes() for row in encoded.bodies(number)))
        mixed += [(datagram, peer) for datagram in datagrams]
    assert len({len(datagram) for datagram, _ in mixed}) == len(KINDS)
    order = np.random.default_rng(seed).permutation(len(mixed))
    forged = [(flipped(mixed[i][0]), BOB) for i in order[:5]]
    cloud.feed_from(*forged, *(mixed[i] for i in order))
    assert cloud.counts == {"hello": 2, "ping": 2, "forged": 5} | {
        fate: cloud.counts[fate] for fate in ("collected", "surplus") if fate in cloud.counts
    }
    decided = {(d.session, d.tensor): d for d in cloud.took(Decided)}
    assert decided.keys() == tensors.keys()
    for key, encoded in tensors.items():
        assert decided[key].complete
        decoded = decode_tensor(decided[key].arrived, ZERO)
        assert (decoded.missing, decoded.conflicting) == (0, 0)
        kept = np.setdiff1d(np.arange(GRID.count), encoded.plan.dropped)
        sent = GRID.split(features(np.random.default_rng(key[1])))[kept]
        assert np.allclose(GRID.split(decoded.tensor)[kept], sent, atol=1.3)


def test_of_a_batch_an_older_tensor_comes_first_whatever_the_lengths_of_the_datagrams():
    cloud = Cloud(tensors_per_session=1)
    session = cloud.connect()
    long, short = tensor_of(session, 0, NESTED)[:3], tensor_of(session, 1, BARE_PLAN)[:3]
    assert len(long[0]) > len(short[0])
    cloud.feed(*long, *short)
    assert cloud.counts == {"hello": 1, "ping": 1, "collected": 6}
    assert [(decided.tensor, decided.arrived.received) for decided in cloud.took(Decided)] == [(0, 3)]


def test_what_has_another_length_than_its_tensor_is_a_conflict(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session)[:3], *tensor_of(session, plan=NESTED))
    assert cloud.counts == {"hello": 1, "ping": 1, "collected": 3, "conflict": 6}
    cloud.feed(*tensor_of(session)[3:])
    assert [decided.complete for decided in cloud.took(Decided)] == [True]


# --- groups of several stripes ---


def classes():
    """The packets of NESTED's classes."""
    return [set(stripe.packets.tolist()) for _, stripe in NESTED.stripes]


def test_a_nested_tensor_is_complete_when_every_stripe_is_whole_and_not_before(cloud):
    session = cloud.connect()
    tensor = tensor_of(session, plan=NESTED)
    for datagram in tensor[2:5]:  # the class of k = 2 is whole with the second of them
        cloud.feed(datagram)
        assert not cloud.took(Decided)
    cloud.feed(tensor[5])
    (decided,) = cloud.took(Decided)
    assert decided.complete
    decoded = decode_tensor(decided.arrived, ZERO)
    assert set(decoded.found.places.tolist()) == set(range(GRID.count))
    assert decoded.missing == 0


@pytest.mark.parametrize("came", [(0,), (5,), (1, 4), (4, 5), (0, 1, 2), (3, 4, 5)])
def test_at_the_deadline_a_nested_tensor_is_what_its_whole_stripes_and_its_own_data_give(cloud, came):
    session = cloud.connect()
    tensor = tensor_of(session, plan=NESTED)
    cloud.feed(*(tensor[index] for index in came))  # sent in the order of their indices, of which data comes first
    cloud.wait(DEADLINE_S + 0.01)
    (decided,) = cloud.answer_all()
    assert not decided.complete
    found = set(decode_tensor(decided.arrived, ZERO).found.places.tolist())
    headers = [with_header(body)[6:8] for body in bodies_of(NESTED, tensor=0)]
    indices = [int.from_bytes(headers[index], "big") for index in came]
    expected = set()
    for _, stripe in NESTED.stripes:
        if len(came) >= stripe.k:
            expected |= set(stripe.packets.tolist())
        else:
            own = np.isin(stripe.symbol_of_packet, indices)
            expected |= set(stripe.packets[own].tolist())
    assert found == expected
    assert (classes()[0] <= found) == (len(came) >= 2)
    (result,) = cloud.told(Result)
    assert (result.outcome, result.missing) == ("partial", GRID.count - len(expected))


def test_groups_that_have_different_ks_are_each_decided_by_its_own(cloud):
    plan = Plan(
        GRID.count,
        np.empty(0, np.intp),
        (
            Group(5, (alone([0, 1], PLAN.groups[0].stripes[0].code), alone([2, 3, 4], PLAN.groups[0].stripes[0].code))),
            Group(4, (alone([5, 6, 7, 8], BARE), alone([9, 10, 11], PLAN.groups[0].stripes[0].code))),
        ),
    )
    session = cloud.connect()
    bodies = bodies_of(plan, tensor=0)
    of = [[body for body in bodies if body[19] == group] for group in (0, 1)]
    cloud.feed(*session.sends(*of[0][2:], *of[1][:3]))
    assert not cloud.took(Decided)  # the stripe without parity lacks a symbol
    cloud.feed(*session.sends(of[1][3]))
    assert [decided.complete for decided in cloud.took(Decided)] == [True]


# --- counts ---


def test_lost_datagrams_and_the_packets_in_them_are_counted_each_as_what_they_are(cloud):
    plan = planned("none", room=room_for(8, packets_a_symbol=4))  # three datagrams of four packets
    assert plan.sent == 3
    session = cloud.connect()
    cloud.feed(*tensor_of(session, plan=plan)[1:])
    cloud.wait(DEADLINE_S + 0.01)
    cloud.answer_all()
    assert [(result.missing, result.recovered) for result in cloud.told(Result)] == [(4, 0)]
    (finished,) = cloud.took(Finished)
    assert finished.packets == {"total": 12, "dropped_by_plan": 0, "recovered": 0, "missing": 4}
    assert finished.datagrams == {"sent": 3, "parity": 0, "received": 2, "lost": 1}


def test_datagrams_of_a_nested_tensor_carry_data_of_some_class_but_the_last(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session, plan=NESTED)[:4])
    cloud.answer_all()
    cloud.wait(DEADLINE_S + 0.01)
    (finished,) = cloud.took(Finished)
    assert finished.datagrams == {"sent": 6, "parity": 2, "received": 4, "lost": 2}
    assert Report(0, 6, 4, 1, b"\xf0") in cloud.told()


# --- what is held ---


@pytest.mark.usefixtures("_deflate")
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_tensor_holds_is_the_symbols_of_all_its_datagrams_to_the_byte(kind):
    encoded = tensor_kind(kind, 0)
    held = encoded.plan.sent * encoded.plan.symbol_bytes
    for limit, fate in ((held, "collected"), (held - 1, "memory_limit")):
        cloud = Cloud(reassembly_bytes=limit)
        session = cloud.connect()
        cloud.feed(*session.sends(encoded.bodies(0)[0].tobytes()))
        assert cloud.counts == {"hello": 1, "ping": 1, fate: 1}
        assert cloud.core.held_bytes == (held if fate == "collected" else 0)


def test_memory_is_shared_among_tensors_of_different_sizes_by_their_bytes():
    small, large = NESTED.sent * NESTED.symbol_bytes, BARE_PLAN.sent * BARE_PLAN.symbol_bytes
    cloud = Cloud(reassembly_bytes=2 * small)
    session = cloud.connect()
    cloud.feed(tensor_of(session, 0, NESTED)[0])
    cloud.feed(tensor_of(session, 1, BARE_PLAN)[0])
    assert cloud.core.held_bytes == small + large < 2 * small
    cloud.feed(tensor_of(session, 2, NESTED)[0])
    assert cloud.counts["memory_limit"] == 1
    cloud.feed(*tensor_of(session, 1, BARE_PLAN)[1:])  # complete: no longer held
    assert cloud.core.held_bytes == small
    cloud.feed(tensor_of(session, 3, NESTED)[0])
    assert cloud.core.held_bytes == 2 * small


def test_the_symbols_of_the_largest_tensor_that_a_header_may_announce_are_held_or_refused_by_the_limit(cloud):
    session = cloud.connect()
    most = 4 * GRID.count
    bodies = bodies_of(planned("none", room=room_for()), tensor=0)
    cloud.feed(*session.sends(with_header(bodies[0], sent=most, n=most, k=most)))
    assert cloud.core.held_bytes == most * (len(bodies[0]) - 35)
