"""nested:k1,k2,...: with any k1 datagrams the most important class is there, with k2 the next as well, and so on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import ALONE, FEC_CODES, planned

from gradfec_common.codes import BARE, ZFEC
from gradfec_common.delivery import packets_at_hand
from gradfec_common.errors import UsageError
from gradfec_common.protect import read_policy
from gradfec_common.symbols import entry_sizes, pack
from gradfec_common.transmit import room_for

SEEDS = st.integers(0, 2**32 - 1)
KS = st.lists(st.integers(1, 30), min_size=1, max_size=6, unique=True).map(sorted)


def written(ks, n):
    return f"nested:{','.join(map(str, ks))}/{n}"


@settings(max_examples=60)
@given(KS, st.integers(0, 9), SEEDS, st.sampled_from([None, 1, 2]))
def test_it_is_one_group_whose_classes_have_the_given_k_and_falling_importance(ks, more, seed, most):
    rng = np.random.default_rng(seed)
    sizes, importance = rng.integers(1, 100, 200), rng.random(200)
    plan = planned(written(ks, ks[-1] + more), importance, sizes=sizes, room=room_for(4, most))
    ((n, stripes),) = plan.groups
    assert n == ks[-1] + more
    assert [stripe.k for stripe in stripes] == ks[: len(stripes)]
    assert [stripe.code for stripe in stripes] == [BARE if stripe.k == n else ZFEC for stripe in stripes]
    assert len({stripe.packing.length for stripe in stripes}) == 1
    sent = np.concatenate([stripe.packets for stripe in stripes])
    np.testing.assert_array_equal(sent, np.argsort(-importance)[: len(sent)])


@settings(max_examples=40)
@given(KS, st.integers(0, 9), SEEDS)
def test_whichever_m_datagrams_arrive_every_class_of_at_most_m_is_whole(ks, more, seed):
    rng = np.random.default_rng(seed)
    plan = planned(written(ks, ks[-1] + more), rng.random(200), sizes=np.full(200, 50), room=room_for(4))
    arrived = rng.random(plan.sent) < rng.random()
    at_hand = packets_at_hand(plan, arrived)
    for _, stripe in plan.stripes:
        if stripe.k <= arrived.sum():
            assert at_hand[stripe.packets].all()


@settings(max_examples=60)
@given(KS, SEEDS, st.sampled_from(FEC_CODES), st.sampled_from([None, 1]))
def test_packets_are_dropped_only_from_full_datagrams_and_symbols_are_as_short_as_they_can_be(ks, seed, code, most):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 60, rng.integers(8, 400))
    importance = rng.permutation(len(sizes)).astype(np.float32)  # no two alike, also in float32
    room = room_for(4, most)
    plan = planned(written(ks, ks[-1]), importance, sizes=sizes, code=code, room=room)
    length = plan.groups[0].stripes[0].packing.length
    entries = entry_sizes(sizes[np.argsort(-importance)])

    def kept(length):
        """How many packets the data symbols of all classes hold."""
        return [0, *pack(entries, length, most)[1:]][: sum(ks) + 1][-1]

    share = room.left(len(ks)) // len(ks)
    assert plan.kept == kept(length)
    assert length <= share
    if plan.kept < plan.total:
        assert length == share - share % code.word_bytes
    elif length - code.word_bytes >= entries.max():
        assert kept(length - code.word_bytes) < plan.total


def test_classes_for_which_there_are_no_packets_left_are_left_out():
    plan = planned("nested:2,4,8,16/20", room=ALONE)  # 12 packets, of which 2 + 4 + 6 fill three classes
    ((n, stripes),) = plan.groups
    assert n == 20
    assert [(stripe.k, len(stripe.packets)) for stripe in stripes] == [(2, 2), (4, 4), (8, 6)]


def test_with_a_packet_a_symbol_as_many_are_kept_as_there_are_data_symbols():
    plan = planned("nested:1,3/5", room=ALONE)
    assert [stripe.packets.tolist() for _, stripe in plan.stripes] == [[11], [10, 9, 8]]
    assert plan.dropped.tolist() == list(range(8))


def test_all_data_is_there_once_the_largest_k_has_arrived_and_of_fewer_only_some():
    plan = planned("nested:2,5/8", sizes=np.full(70, 40), room=room_for(4))
    arrived = np.zeros(8, bool)
    arrived[3:] = True
    assert packets_at_hand(plan, arrived).all()
    arrived[3] = False
    at_hand = packets_at_hand(plan, arrived)
    assert at_hand[plan.groups[0].stripes[0].packets].all()
    assert not at_hand.all()


def test_classes_that_leave_no_room_for_a_packet_are_refused_with_what_to_do():
    ks = ",".join(map(str, range(1, 31)))
    says = (
        r"nested:1,2,.*,30 leaves 33 bytes of a datagram for each of its 30 classes, and a packet takes 43: use fewer"
    )
    with pytest.raises(UsageError, match=says):
        planned(f"nested:{ks}", sizes=np.full(12, 40), room=room_for(0))


def test_more_than_four_datagrams_a_packet_are_refused_with_what_to_do():
    assert planned("nested:2/48").sent == 48
    says = (
        "nested:2/49 makes 49 datagrams of 12 packets; 4 a packet are the limit: use fewer datagrams or smaller --rows"
    )
    with pytest.raises(UsageError, match=says):
        planned("nested:2/49")


@pytest.mark.parametrize(
    ("text", "name", "ks", "n"),
    [
        ("nested:4", "nested:4", (4,), 4),
        ("NESTED:4,8", "nested:4,8", (4, 8), 8),
        ("nested:4,8/8", "nested:4,8", (4, 8), 8),
        ("nested:4,8,12/16", "nested:4,8,12/16", (4, 8, 12), 16),
    ],
)
def test_the_policy_is_read_and_its_name_reads_as_the_same_policy(text, name, ks, n):
    policy = read_policy(text)
    assert (policy.name, policy.ks, policy.n) == (name, ks, n)
    assert read_policy(policy.name) == policy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nested", "is not a nested protection: write nested:4,8,12, or nested:4,8,12/16 for 16 datagrams"),
        ("nested:", "is not a nested protection"),
        ("nested:4,,8", "is not a nested protection"),
        ("nested:4/", "is not a nested protection"),
        ("nested:-4", "is not a nested protection"),
        ("nested:4,4", "each k must be greater than the one before it"),
        ("nested:8,4", "each k must be greater than the one before it"),
        ("nested:0,4", "each k must be greater than the one before it"),
        ("nested:4,8/7", "none greater than the 7 datagrams"),
        ("nested:4/257", "asks for 257 datagrams; zfec has 256 at most: use --fec leopard"),
        ("nested:" + ",".join(map(str, range(1, 34))), "has 33 classes, more than 32"),
    ],
)
def test_other_classes_are_refused_with_what_to_write_instead(text, says):
    with pytest.raises(UsageError, match=says):
        read_policy(text)


# --- levels of importance ---


@settings(max_examples=60)
@given(
    st.lists(st.integers(5, 20), min_size=2, max_size=8), KS, st.integers(0, 9), SEEDS, st.sampled_from([None, 1, 2])
)
def test_packets_of_few_levels_are_a_class_for_each_level_if_there_is_room(levels, ks, more, seed, most):
    rng = np.random.default_rng(seed)
    importance = np.repeat(np.arange(len(levels), 0, -1), levels).astype(np.float32)
    order = rng.permutation(len(importance))
    importance, sizes = importance[order], rng.integers(1, 30, len(importance))
    plan = planned(written(ks, ks[-1] + more), importance, sizes=sizes, room=room_for(0, most))
    ((_, stripes),) = plan.groups
    assert [stripe.k for stripe in stripes] == ks[: len(stripes)]
    assert sum(stripe.packing.length for stripe in stripes) + 5 * len(stripes) <= room_for(0).body_bytes
    lengths = {stripe.packing.length for stripe in stripes}
    if len(lengths) > 1:  # otherwise it has found no room, or by chance
        assert not len(plan.dropped)
        of = [{*importance[stripe.packets].tolist()} for stripe in stripes]
        assert of[:-1] == [{float(len(levels) - number)} for number in range(len(of) - 1)]
        assert len(stripes) == min(len(ks), len(levels))


def test_the_classes_of_levels_have_symbols_as_short_as_hold_them():
    importance, sizes = np.repeat([3.0, 2.0, 1.0], [4, 8, 12]), np.full(24, 10)
    plan = planned("nested:2,4/6", importance, sizes=sizes, room=room_for(0))
    ((n, (first, rest)),) = plan.groups
    assert (n, first.k, rest.k) == (6, 2, 4)
    assert (first.packets.tolist(), rest.packets.tolist()) == ([0, 1, 2, 3], [*range(4, 24)])
    assert (first.packing.length, rest.packing.length) == (2 * 13, 5 * 13)


def test_levels_that_have_no_room_are_divided_as_all_other_packets():
    importance, sizes = np.repeat([2.0, 1.0], [40, 4]), np.full(44, 100)
    plan = planned("nested:2,8/8", importance, sizes=sizes, room=room_for(0))
    ((_, stripes),) = plan.groups
    assert len({stripe.packing.length for stripe in stripes}) == 1
    assert {*importance[stripes[1].packets].tolist()} == {1.0, 2.0}
