"""What is received is never made worse: whatever is lost, repeated, reordered or lied about."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common import wire
from gradfec_common.codes import LEOPARD, ZFEC
from gradfec_common.packets import PacketGrid
from gradfec_common.plan import Block, NoProtection, Plan, UnequalProtection
from gradfec_common.quantise import dequantise, quantise
from gradfec_common.reassembly import MAX_SENT_PER_PACKET, Reassembly, decode_tensor, is_first, judge, read_map
from gradfec_common.transmit import FILL_MEAN
from gradfec_common.wire import Drop

from . import second_encoder
from .small_tensors import GRID, SPLIT, bodies_of, encoded, features, headers_of, odd_plan, symbols_of

SEEDS = st.integers(0, 2**32 - 1)
FEC_50_50 = UnequalProtection(50).plan(np.arange(GRID.count, dtype=np.float32))
TWO_BLOCKS = Plan(
    GRID.count,
    np.array([11]),
    (Block(np.array([3, 1, 4, 0]), 7, ZFEC), Block(np.array([5, 9, 2, 6, 8, 7, 10]), 9, ZFEC)),
)


def begin(datagrams):
    headers = headers_of(datagrams)
    assert judge(headers, GRID, SPLIT.id)[1] == {}
    return Reassembly(headers[0], GRID)


def feed(arrived, datagrams):
    if not datagrams:
        return {}
    headers, symbols = headers_of(datagrams), symbols_of(datagrams)
    good, drops = judge(headers, arrived.grid, SPLIT.id)
    return drops | arrived.add(headers[good], symbols[good])


def received(datagrams):
    arrived = begin(datagrams)
    assert feed(arrived, datagrams) == {}
    return arrived


def sent_packets(seed):
    """(12, 28) what the cloud makes of each packet if it gets it."""
    return GRID.split(dequantise(*quantise(features(np.random.default_rng(seed)))))


def state(arrived):
    """All that a datagram may change."""
    return {
        name: value.tobytes() if isinstance(value, np.ndarray) and name != "symbols" else value
        for name, value in vars(arrived).items()
        if name != "symbols"
    } | {"symbols": arrived.symbols[arrived.present].tobytes() if len(arrived.symbols) else b""}


@st.composite
def lossy(draw):
    """A plan, the seed of its tensor, its datagrams, and those of them that arrive, in any order."""
    seed = draw(SEEDS)
    rng = np.random.default_rng(seed)
    plan = draw(
        st.sampled_from([FEC_50_50, TWO_BLOCKS, NoProtection().plan(np.zeros(12)), odd_plan(rng), odd_plan(rng)])
    )
    datagrams = bodies_of(plan, seed)
    survival = draw(st.sampled_from([0.2, 0.5, 0.8, 1.0]))
    alive = rng.permutation(np.flatnonzero(rng.random(plan.sent) < survival))
    return plan, seed, datagrams, [datagrams[i] for i in alive]


# --- the promise ---


@given(lossy())
def test_for_any_loss_what_arrived_is_exact_what_parity_gives_is_exact_and_the_rest_is_zero(case):
    plan, seed, _, alive = case
    if not alive:
        return
    decoded = decode_tensor(received(alive))
    headers, packets = headers_of(alive), GRID.split(decoded.chi)
    expected, recovered = set(), 0
    for number, block in enumerate(plan.blocks):
        indices = set(headers["index"][headers["block"] == number].tolist())
        data = {i for i in indices if i < block.k}
        if len(indices) >= block.k:
            recovered += block.k - len(data)
            data = set(range(block.k))
        expected |= {int(block.packets[i]) for i in data}
    there = np.isin(np.arange(GRID.count), [*expected])
    np.testing.assert_array_equal(packets[there], sent_packets(seed)[there])
    assert not packets[~there].any()
    assert (decoded.recovered, decoded.conflicting) == (recovered, 0)
    assert decoded.missing == plan.kept - len(expected)
    received_data = int((headers["index"] < headers["k"]).sum())
    assert plan.kept == received_data + decoded.recovered + decoded.missing


@given(lossy())
def test_what_was_dropped_and_what_was_lost_become_the_value_of_their_channel(case):
    plan, _, _, alive = case
    if not alive:
        return
    arrived = received(alive)
    fill = np.arange(-1, -1 - GRID.shape[2], -1, dtype=np.float32)  # features are positive: what is filled is not
    zero, mean = GRID.split(decode_tensor(arrived).chi), GRID.split(decode_tensor(arrived, fill).chi)
    there = zero[:, 0] != 0
    assert set(plan.dropped) <= set(np.flatnonzero(~there))
    np.testing.assert_array_equal(mean[there], zero[there])
    channels = np.arange(GRID.count) // GRID.groups
    np.testing.assert_array_equal(mean[~there], np.repeat(fill[channels[~there], None], GRID.size, axis=1))


def test_the_clouds_fill_rule_holds_whatever_rule_the_edge_planned_for():
    datagrams = [set_field(datagram, "fill", FILL_MEAN) for datagram in bodies_of(FEC_50_50)]
    assert not GRID.split(decode_tensor(received(datagrams)).chi)[FEC_50_50.dropped].any()


@given(lossy())
def test_the_counts_of_datagrams_and_bursts_are_those_of_what_arrived(case):
    plan, _, datagrams, alive = case
    if not alive:
        return
    arrived = received(alive)
    lost = "".join("." if datagram in set(alive) else "x" for datagram in datagrams)
    assert arrived.received == len(alive)
    assert arrived.lost_bursts() == len([run for run in lost.split(".") if run])
    assert arrived.all_arrived == (len(alive) == plan.sent)
    assert (arrived.sent, arrived.kept, arrived.blocks) == (plan.sent, plan.kept, len(plan.blocks))


@given(lossy())
def test_the_map_says_which_datagrams_arrived_if_there_are_as_many_as_it_has_bytes(case):
    plan, _, datagrams, alive = case
    if not alive:
        return
    positions = [position for position, datagram in enumerate(datagrams) if datagram in alive]
    made = received(alive).map()
    assert made == (second_encoder.arrived(positions, plan.sent) if len(alive) >= -(-plan.sent // 8) else b"")
    if made:
        assert np.flatnonzero(read_map(made, plan.sent)).tolist() == positions


def test_a_tensor_of_more_datagrams_than_a_report_has_room_for_has_no_map():
    arrived = begin(bodies_of(FEC_50_50))
    arrived.sent = 8 * wire.MAX_MAP_BYTES
    arrived.arrived = np.ones(arrived.sent, bool)
    assert arrived.map() == b"\xff" * wire.MAX_MAP_BYTES
    arrived.sent += 1
    arrived.arrived = np.ones(arrived.sent, bool)
    assert arrived.map() == b""


@pytest.mark.parametrize("untrue", [b"", b"\xff", b"\xff" * 3])
def test_a_map_of_another_length_says_nothing(untrue):
    assert read_map(untrue, 12) is None


@given(lossy())
def test_a_tensor_is_complete_exactly_when_every_block_has_k_symbols(case):
    plan, _, _, alive = case
    if not alive:
        return
    blocks = headers_of(alive)["block"]
    enough = all((blocks == number).sum() >= block.k for number, block in enumerate(plan.blocks))
    arrived = received(alive)
    assert arrived.complete == enough
    assert (decode_tensor(arrived).missing == 0) == enough or not enough


@given(lossy(), st.lists(st.integers(1, 5), max_size=10), SEEDS)
def test_it_does_not_matter_in_which_batches_datagrams_come(case, sizes, seed):
    _, _, _, alive = case
    if not alive:
        return
    at_once, bit_by_bit = received(alive), begin(alive)
    shuffled = [alive[i] for i in np.random.default_rng(seed).permutation(len(alive))]
    for size in [*sizes, len(alive)]:
        batch, shuffled = shuffled[:size], shuffled[size:]
        assert feed(bit_by_bit, batch) == {}
    np.testing.assert_array_equal(decode_tensor(bit_by_bit).chi, decode_tensor(at_once).chi)
    assert bit_by_bit.received == at_once.received


@given(lossy(), SEEDS)
def test_duplicates_change_nothing_within_a_batch_or_after_it(case, seed):
    _, _, _, alive = case
    if not alive:
        return
    rng = np.random.default_rng(seed)
    twice = [alive[i] for i in rng.permutation(np.repeat(np.arange(len(alive)), 2))]
    arrived = begin(alive)
    assert feed(arrived, twice) == {Drop.DUPLICATE: len(alive)}
    before = state(arrived)
    assert feed(arrived, alive) == {Drop.DUPLICATE: len(alive)}
    assert state(arrived) == before
    np.testing.assert_array_equal(decode_tensor(arrived).chi, decode_tensor(received(alive)).chi)


@given(lossy(), SEEDS)
def test_what_is_handed_over_does_not_change_when_more_arrives(case, seed):
    _, _, datagrams, alive = case
    if not alive:
        return
    arrived = received(alive)
    expected = decode_tensor(received(alive))
    whole = arrived.handed_over()
    assert not arrived.symbols.size
    before = state(whole)
    late = [d for d in datagrams if d not in set(alive)]
    assert feed(arrived, late) == {}
    assert feed(arrived, alive) == ({Drop.DUPLICATE: len(alive)})
    assert arrived.all_arrived
    assert state(whole) == before
    decoded = decode_tensor(whole)
    np.testing.assert_array_equal(decoded.chi, expected.chi)
    assert (decoded.recovered, decoded.missing) == (expected.recovered, expected.missing)


def test_a_tensor_of_zeros_and_one_of_a_single_value_come_back():
    for value in (0.0, 3.25):
        tensor = encoded(FEC_50_50)
        headers = tensor.headers.copy()
        headers["low"] = headers["high"] = value
        arrived = Reassembly(headers[0], GRID)
        arrived.add(headers, tensor.symbols)
        packets = GRID.split(decode_tensor(arrived).chi)
        kept = np.setdiff1d(np.arange(GRID.count), FEC_50_50.dropped)
        assert (packets[kept] == value).all()


@given(st.lists(st.integers(0, 20), max_size=60))
def test_the_first_of_equal_values_is_told_from_the_others(values):
    found = is_first(np.array(values, np.intp), 21)
    assert found.tolist() == [value not in values[:at] for at, value in enumerate(values)]


# --- what is expected ---


@given(lossy(), SEEDS)
def test_bodies_of_blocks_that_are_known_are_expected_and_taken_as_if_they_had_been_judged(case, seed):
    _, _, datagrams, alive = case
    if not alive:
        return
    one, other = received(alive), received(alive)
    known = {int(block) for block in headers_of(alive)["block"]}
    late = [d for d, block in zip(datagrams, headers_of(datagrams)["block"], strict=True) if int(block) in known]
    late = [late[i] for i in np.random.default_rng(seed).permutation(len(late))]
    headers, symbols = headers_of(late), symbols_of(late)
    assert one.expects(headers)
    assert one.add(headers, symbols, expected=True) == other.add(headers, symbols)
    assert state(one) == state(other)
    unknown = [d for d, block in zip(datagrams, headers_of(datagrams)["block"], strict=True) if int(block) not in known]
    if unknown:
        assert not received(alive).expects(headers_of(unknown))


@given(lossy(), SEEDS)
def test_what_is_expected_is_what_judge_and_all_that_is_known_find_good(case, seed):
    _, _, _, alive = case
    if not alive:
        return
    arrived, rng = received(alive), np.random.default_rng(seed)
    header = headers_of([alive[0]])
    field = str(rng.choice(wire.SYMBOL_HEADER.names))
    header.view(np.uint8)[wire.SYMBOL_HEADER.fields[field][1]] ^= rng.integers(1, 256, dtype=np.uint8)
    by_itself = judge(header, GRID, SPLIT.id)[0].all()
    expected = arrived.expects(header)
    assert by_itself or not expected
    if expected:
        drops = arrived.add(header, symbols_of([alive[0]]))
        assert set(drops) <= {Drop.DUPLICATE, Drop.CONFLICT}
        assert field in {"position", "index"}  # all else is fixed


# --- lies ---


def set_field(body, field, value):
    """The body with one header field changed."""
    header = headers_of([body])
    header[field] = value
    return header.tobytes() + body[wire.HEADER_BYTES :]


BY_ITSELF = {
    Drop.WRONG_SPLIT,
    Drop.WRONG_ROWS,
    Drop.UNKNOWN_QUANTISER,
    Drop.UNKNOWN_FILL,
    Drop.UNKNOWN_CODE,
    Drop.BAD_PARAMETERS,
}  # what a header may show without any other

LIES = [
    ("tensor", 1),
    ("sent", 15),
    ("sent", 17),
    ("kept", 10),
    ("kept", 12),
    ("split", 1),
    ("blocks", 1),
    ("blocks", 3),
    ("rows", 14),
    ("quantiser", 2),
    ("fill", 2),
    ("fill", 3),
    ("low", -1.0),
    ("low", np.nan),
    ("high", 100.0),
    ("high", np.inf),
    ("position", 0),  # another symbol's
    ("position", 16),
    ("position", 65535),
    ("block", 1),  # whose (n, k) differ
    ("block", 2),
    ("block", 255),
    ("code", 0),
    ("code", 9),
    ("n", 6),
    ("n", 8),
    ("n", 0),
    ("k", 3),
    ("k", 5),
    ("k", 0),
    ("index", 7),
    ("index", 65535),
]


@pytest.mark.parametrize(("field", "lie"), LIES)
@pytest.mark.parametrize("known", ["all others", "one of its block", "one of the other block"])
@pytest.mark.filterwarnings("error")
def test_a_lie_in_any_header_field_is_refused_under_a_name_and_changes_nothing(field, lie, known):
    datagrams = bodies_of(TWO_BLOCKS)
    blocks = headers_of(datagrams)["block"]
    liar = next(i for i in range(len(datagrams)) if blocks[i] == 0 and i > 3)
    others = [d for i, d in enumerate(datagrams) if i != liar]
    if known == "one of its block":
        others = [datagrams[i] for i in range(3) if blocks[i] == 0][:1]
    if known == "one of the other block":
        others = [datagrams[i] for i in range(3) if blocks[i] == 1][:1]
    if field == "position" and lie == 0:
        others = [datagrams[0], *others] if datagrams[0] not in others else others
    arrived = begin(others)
    feed(arrived, others)
    before = state(arrived)
    refused = feed(arrived, [set_field(datagrams[liar], field, lie)])
    if known == "one of the other block" and (field, lie) in [("n", 8), ("n", 6), ("k", 3), ("k", 5)]:
        assert refused == {Drop.CONFLICT: 1}  # the sums give it away: it is the last block heard of
    assert sum(refused.values()) == 1
    assert set(refused) <= {Drop.CONFLICT, Drop.DUPLICATE, *BY_ITSELF}
    assert state(arrived) == before
    assert feed(arrived, [d for d in datagrams if d not in others]) == {}
    np.testing.assert_array_equal(decode_tensor(arrived).chi, decode_tensor(received(datagrams)).chi)


@pytest.mark.parametrize(
    ("field", "lie", "reason"),
    [
        ("sent", 17, Drop.CONFLICT),
        ("position", 16, Drop.BAD_PARAMETERS),
        ("block", 2, Drop.BAD_PARAMETERS),
        ("index", 7, Drop.BAD_PARAMETERS),
        ("n", 8, Drop.CONFLICT),
        ("code", 9, Drop.UNKNOWN_CODE),
        ("fill", 2, Drop.CONFLICT),
        ("fill", 3, Drop.UNKNOWN_FILL),
    ],
)
def test_the_reason_says_what_kind_of_lie_it_was(field, lie, reason):
    datagrams = bodies_of(TWO_BLOCKS)
    liar = next(d for d, h in zip(datagrams, headers_of(datagrams), strict=True) if h["block"] == 0)
    arrived = received([d for d in datagrams if d != liar])
    assert feed(arrived, [set_field(liar, field, lie)]) == {reason: 1}


def test_a_new_symbol_at_a_taken_position_and_an_old_one_at_a_new_position_are_conflicts():
    datagrams = bodies_of(TWO_BLOCKS)
    arrived = received(datagrams[:5])
    assert feed(arrived, [set_field(datagrams[5], "position", 0)]) == {Drop.CONFLICT: 1}
    assert feed(arrived, [set_field(datagrams[0], "position", 9)]) == {Drop.CONFLICT: 1}
    assert feed(arrived, datagrams[5:]) == {}
    assert arrived.all_arrived


def test_a_duplicate_with_other_contents_does_not_replace_the_first():
    datagrams = bodies_of(TWO_BLOCKS)
    arrived = received(datagrams)
    other = bytearray(datagrams[0])
    other[wire.HEADER_BYTES + 10] ^= 0xFF
    assert feed(arrived, [bytes(other)]) == {Drop.DUPLICATE: 1}
    np.testing.assert_array_equal(decode_tensor(arrived).chi, decode_tensor(received(datagrams)).chi)


@pytest.mark.parametrize("field", ["n", "k"])
@pytest.mark.parametrize("by", [-1, 1])
def test_blocks_that_do_not_add_up_to_what_was_sent_and_kept_are_refused(field, by):
    datagrams = bodies_of(TWO_BLOCKS)
    headers = headers_of(datagrams)
    first = [d for d, h in zip(datagrams, headers, strict=True) if h["block"] == 0]
    second = [d for d, h in zip(datagrams, headers, strict=True) if h["block"] == 1 and h["index"] < 6]
    arrived = received(first)
    wrong = [set_field(d, field, int(headers[headers["block"] == 1][field][0]) + by) for d in second]
    assert feed(arrived, wrong) == {Drop.CONFLICT: len(wrong)}
    assert not arrived.complete


def test_packets_that_claim_the_same_place_or_none_of_the_tensor_are_counted_and_one_is_taken():
    tensor = encoded(NoProtection().plan(np.zeros(GRID.count)))
    symbols = tensor.symbols.copy()
    symbols[0, :2], symbols[1, :2], symbols[2, :2] = (0, 7), (0, 7), (0xFF, 0xFF)
    arrived = Reassembly(tensor.headers[0], GRID)
    assert arrived.add(tensor.headers, symbols) == {}
    places = wire.without_places(symbols)[0]
    decoded = decode_tensor(arrived)
    assert decoded.conflicting == len(places) - len(set(places.tolist()) - {0xFFFF})
    assert np.isfinite(decoded.chi).all()


@given(SEEDS)
@settings(max_examples=100)
@pytest.mark.filterwarnings("error")
def test_headers_of_random_lies_are_refused_or_taken_but_never_raise_and_never_overfill(seed):
    rng = np.random.default_rng(seed)
    datagrams = bodies_of(TWO_BLOCKS)
    arrived = begin(datagrams)
    for _ in range(6):
        headers = headers_of([datagrams[i] for i in rng.integers(0, len(datagrams), 8)])
        for field in ("position", "block", "code", "n", "k", "index"):
            lies = rng.random(8) < 0.3
            limit = 256 if headers.dtype[field].itemsize == 1 else int(rng.choice([4, 12, 65536]))
            headers[field][lies] = rng.integers(0, limit, int(lies.sum()))
        good, drops = judge(headers, GRID, SPLIT.id)
        symbols = rng.integers(0, 256, (int(good.sum()), 30), np.uint8)
        before = arrived.received
        drops |= arrived.add(headers[good], symbols)
        assert sum(drops.values()) + arrived.received - before == 8
    assert arrived.received == arrived.present.sum() == arrived.have.sum() <= arrived.sent
    assert (arrived.n.sum(), arrived.k.sum()) <= (arrived.sent, arrived.kept)
    if arrived.received:
        decoded = decode_tensor(arrived.handed_over())
        assert decoded.missing >= 0
        assert decoded.recovered + decoded.missing <= arrived.kept


# --- what a first datagram may say ---

WRONG = [
    ("split", 901, Drop.WRONG_SPLIT),
    ("rows", 14, Drop.WRONG_ROWS),
    ("quantiser", 0, Drop.UNKNOWN_QUANTISER),
    ("fill", 0, Drop.UNKNOWN_FILL),
    ("fill", 3, Drop.UNKNOWN_FILL),
    ("code", 3, Drop.UNKNOWN_CODE),
    ("blocks", 0, Drop.BAD_PARAMETERS),
    ("blocks", 12, Drop.BAD_PARAMETERS),
    ("kept", 0, Drop.BAD_PARAMETERS),
    ("kept", 17, Drop.BAD_PARAMETERS),
    ("kept", 13, Drop.BAD_PARAMETERS),
    ("sent", 0, Drop.BAD_PARAMETERS),
    ("sent", 10, Drop.BAD_PARAMETERS),
    ("sent", MAX_SENT_PER_PACKET * GRID.count + 1, Drop.BAD_PARAMETERS),
    ("sent", 65535, Drop.BAD_PARAMETERS),
    ("low", np.nan, Drop.BAD_PARAMETERS),
    ("low", -np.inf, Drop.BAD_PARAMETERS),
    ("low", 1000.0, Drop.BAD_PARAMETERS),
    ("high", np.inf, Drop.BAD_PARAMETERS),
    ("high", -1000.0, Drop.BAD_PARAMETERS),
]


@pytest.mark.parametrize(("field", "value", "reason"), WRONG)
@pytest.mark.filterwarnings("error")
def test_a_tensor_that_cannot_be_true_is_not_begun(field, value, reason):
    header = headers_of([set_field(bodies_of(TWO_BLOCKS)[0], field, value)])
    assert judge(header, GRID, SPLIT.id)[1] == {reason: 1}


@pytest.mark.leopard
def test_a_code_of_words_of_two_bytes_has_no_symbols_of_odd_length():
    headers = headers_of(bodies_of(TWO_BLOCKS))
    headers["code"] = LEOPARD.id
    assert judge(headers, GRID, SPLIT.id)[1] == {}
    odd = PacketGrid((7, 7, 12), 7)  # symbols of 2 + 49 bytes
    headers["rows"] = odd.rows
    assert judge(headers, odd, SPLIT.id)[1] == {Drop.BAD_PARAMETERS: len(headers)}


def test_the_most_that_a_tensor_may_send_is_allowed():
    headers = headers_of(bodies_of(TWO_BLOCKS))
    headers["sent"] = MAX_SENT_PER_PACKET * GRID.count
    assert judge(headers, GRID, SPLIT.id)[1] == {}


@pytest.mark.filterwarnings("error")
def test_a_range_wider_than_float32_is_not_begun():
    headers = headers_of(bodies_of(TWO_BLOCKS))
    headers["low"], headers["high"] = -3e38, 3e38
    assert judge(headers, GRID, SPLIT.id)[1] == {Drop.BAD_PARAMETERS: len(headers)}


def test_a_bad_datagram_costs_no_good_one_that_comes_with_it():
    datagrams = bodies_of(TWO_BLOCKS)
    good, drops = judge(headers_of([set_field(datagrams[0], "code", 9), *datagrams]), GRID, SPLIT.id)
    assert good.tolist() == [False] + [True] * len(datagrams)
    assert drops == {Drop.UNKNOWN_CODE: 1}
