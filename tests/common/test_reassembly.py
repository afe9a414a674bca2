"""What is received is never made worse: whatever is lost, repeated, reordered or lied about."""

import struct
from collections import Counter
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common import wire
from gradfec_common.codes import CODES, LEOPARD, ZFEC
from gradfec_common.decode import decode_tensor
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import Group, Plan
from gradfec_common.quantisers import MAX_PARAMETER_BYTES, QUANTISERS
from gradfec_common.reassembly import Reassembly, is_first, judge, read_map
from gradfec_common.transmit import room_for
from gradfec_common.wire import Drop
from gradfec_common.wire.symbol import MAX_SENT_PER_PACKET

from .small_tensors import GRID, ZERO, alone, bodies_of, headers_of, matrix_of, odd_plan, planned, with_header

SEEDS = st.integers(0, 2**32 - 1)
FIXED = struct.Struct(">IHHHHHBBBBBBH")
FIELDS = (
    "tensor",
    "position",
    "index",
    "sent",
    "unasked",
    "kept",
    "form",
    "groups",
    "stripes",
    "quantiser",
    "parameters",
    "group",
    "n",
)
TABLE_ENTRY = struct.Struct(">HHB")
FEC_50_50 = planned("FEC_50_50")


TWO_GROUPS = Plan(
    GRID.count,
    np.array([11]),
    (Group(7, (alone([3, 1, 4, 0], ZFEC),)), Group(9, (alone([5, 9, 2, 6, 8, 7, 10], ZFEC),))),
)
TWO_STRIPES = planned("nested:2,5/8")


RESERVE = planned("nested:3,5/12", room=room_for())
RESERVE = replace(RESERVE, reserve=4)


def begin(bodies):
    assert judge(matrix_of(bodies[:1]), GRID)[0] == {}
    return Reassembly(bodies[0], GRID)


def feed(arrived, bodies):
    return arrived.add(matrix_of(bodies)) if bodies else {}


def received(bodies):
    arrived = begin(bodies)
    assert feed(arrived, bodies) == {}
    return arrived


def state(arrived):
    """All that a datagram may change."""
    return {
        name: value.tobytes() if isinstance(value, np.ndarray) else value
        for name, value in vars(arrived).items()
        if name != "symbols"
    } | {"symbols": arrived.symbols[arrived.present].tobytes() if len(arrived.symbols) else b""}


@st.composite
def lossy(draw):
    """A plan, the seed of its tensor, its bodies, and those of them that arrive, at least one, in any order."""
    seed = draw(SEEDS)
    rng = np.random.default_rng(seed)
    some = [FEC_50_50, TWO_GROUPS, TWO_STRIPES, RESERVE, planned("none"), odd_plan(rng), odd_plan(rng)]
    plan = draw(st.sampled_from(some))
    bodies = bodies_of(plan, seed)
    survives = rng.random(plan.sent) < draw(st.sampled_from([0.2, 0.5, 0.8, 1.0]))
    survives[rng.integers(plan.sent)] = True
    alive = rng.permutation(np.flatnonzero(survives))
    return plan, seed, bodies, [bodies[i] for i in alive]


# --- what is counted ---


@settings(max_examples=50)
@given(lossy())
def test_the_counts_of_datagrams_and_bursts_are_those_of_what_arrived(case):
    plan, _, bodies, alive = case
    arrived = received(alive)
    due = bodies[: arrived.due]
    assert len(due) == max(plan.unasked, *(bodies.index(body) + 1 for body in alive))
    lost = "".join("." if body in set(alive) else "x" for body in due)
    assert arrived.received == len(alive)
    assert arrived.lost_bursts() == len([run for run in lost.split(".") if run])
    assert arrived.all_arrived == (set(alive) >= set(due))
    assert (arrived.sent, arrived.kept, arrived.groups) == (plan.sent, plan.kept, len(plan.groups))


@settings(max_examples=50)
@given(lossy())
def test_the_parity_that_was_sent_is_known_of_each_group_that_was_heard_of(case):
    plan, _, _, alive = case
    heard = {*headers_of(alive)["group"].tolist()}
    parity = [shape.n - shape.most_k for number, shape in enumerate(plan.shapes) if number in heard]
    assert received(alive).parity == sum(parity) - (plan.sent - received(alive).due)


@settings(max_examples=50)
@given(lossy())
def test_each_group_that_was_heard_of_has_the_table_of_its_stripes(case):
    plan, _, _, alive = case
    arrived = received(alive)
    for number in {*headers_of(alive)["group"].tolist()}:
        table = arrived.stripe_table(number).tolist()
        assert table == [tuple(shape) for shape in plan.shapes[number].stripes]


@settings(max_examples=50)
@given(lossy())
def test_the_bytes_that_a_tensor_will_hold_are_told_before_it_is_begun(case):
    _, _, bodies, alive = case
    assert {Reassembly.bytes_for(body) for body in bodies} == {received(alive).symbols.nbytes}


@settings(max_examples=50)
@given(lossy())
def test_the_map_says_which_datagrams_arrived_if_there_are_as_many_as_it_has_bytes(case):
    plan, _, bodies, alive = case
    here = [body in set(alive) for body in bodies]
    bits = "".join("01"[is_here] for is_here in here).ljust(-(-plan.sent // 8) * 8, "0")
    expected = int(bits, 2).to_bytes(len(bits) // 8, "big")
    made = received(alive).map()
    assert made == (expected if len(alive) >= len(expected) else b"")
    if made:
        assert read_map(made, plan.sent).tolist() == here


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


@settings(max_examples=50)
@given(lossy())
def test_a_tensor_is_complete_exactly_when_every_stripe_has_k_symbols(case):
    plan, _, _, alive = case
    groups = headers_of(alive)["group"]
    enough = all((groups == number).sum() >= shape.most_k for number, shape in enumerate(plan.shapes))
    arrived = received(alive)
    assert arrived.complete == enough
    if enough:
        assert decode_tensor(arrived, ZERO).missing == 0


# --- order, batches, repetitions ---


@settings(max_examples=50)
@given(lossy(), st.lists(st.integers(0, 5), max_size=10), SEEDS)
def test_it_does_not_matter_in_which_batches_datagrams_come(case, sizes, seed):
    _, _, _, alive = case
    at_once, bit_by_bit = received(alive), begin(alive)
    shuffled = [alive[i] for i in np.random.default_rng(seed).permutation(len(alive))]
    for size in [*sizes, len(alive)]:
        batch, shuffled = shuffled[:size], shuffled[size:]
        assert feed(bit_by_bit, batch) == {}
    np.testing.assert_array_equal(decode_tensor(bit_by_bit, ZERO).tensor, decode_tensor(at_once, ZERO).tensor)
    assert bit_by_bit.received == at_once.received


@settings(max_examples=50)
@given(lossy(), SEEDS)
def test_duplicates_change_nothing_within_a_batch_or_after_it(case, seed):
    _, _, _, alive = case
    rng = np.random.default_rng(seed)
    twice = [alive[i] for i in rng.permutation(np.repeat(np.arange(len(alive)), 2))]
    arrived = begin(alive)
    assert feed(arrived, twice) == {Drop.DUPLICATE: len(alive)}
    before = state(arrived)
    assert feed(arrived, alive) == {Drop.DUPLICATE: len(alive)}
    assert state(arrived) == before
    np.testing.assert_array_equal(decode_tensor(arrived, ZERO).tensor, decode_tensor(received(alive), ZERO).tensor)


@settings(max_examples=50)
@given(lossy())
def test_what_is_handed_over_does_not_change_when_more_arrives(case):
    _, _, bodies, alive = case
    arrived = received(alive)
    expected = decode_tensor(received(alive), ZERO)
    whole = arrived.handed_over()
    assert not arrived.symbols.size
    before = state(whole)
    late = [body for body in bodies if body not in set(alive)]
    assert feed(arrived, late) == {}
    assert feed(arrived, alive) == {Drop.DUPLICATE: len(alive)}
    assert arrived.all_arrived
    assert state(whole) == before
    decoded = decode_tensor(whole, ZERO)
    np.testing.assert_array_equal(decoded.tensor, expected.tensor)
    assert (decoded.recovered, decoded.missing) == (expected.recovered, expected.missing)


@given(st.lists(st.integers(0, 20), max_size=60))
def test_the_first_of_equal_values_is_told_from_the_others(values):
    found = is_first(np.array(values, np.intp), 21)
    assert found.tolist() == [value not in values[:at] for at, value in enumerate(values)]


# --- against a model ---


def fields_of(body):
    return dict(zip(FIELDS, FIXED.unpack_from(body), strict=True))


def table_of(body):
    return [TABLE_ENTRY.unpack_from(body, FIXED.size + 5 * row) for row in range(fields_of(body)["stripes"])]


def header_bytes(body):
    said = fields_of(body)
    return FIXED.size + 5 * said["stripes"] + said["parameters"]


def reason_for(body, grid=GRID):
    """Why a body cannot be used, by what it says itself; None if it can: the rules, one after the other."""
    said = fields_of(body)
    header = header_bytes(body)
    if not 1 <= said["stripes"] <= 32 or said["parameters"] > 64 or header >= len(body):
        return Drop.BAD_LENGTH
    quantisers = {quantiser.id: quantiser for quantiser in QUANTISERS.values()}
    if said["quantiser"] not in quantisers:
        return Drop.UNKNOWN_QUANTISER
    table = table_of(body)
    if any(code not in CODES for _, _, code in table):
        return Drop.UNKNOWN_CODE
    good = [
        quantisers[said["quantiser"]].are_valid(body[header - said["parameters"] : header]),
        sum(length for _, length, _ in table) == len(body) - header,
        said["index"] < said["n"],
        said["position"] < said["sent"] <= 4 * grid.count,
        1 <= said["unasked"] <= said["sent"],
        said["groups"] == 1 or said["unasked"] == said["sent"],
        1 <= said["kept"] <= grid.count,
        said["group"] < said["groups"],
        said["groups"] * said["stripes"] <= 255,
        said["n"] + said["groups"] - 1 <= said["sent"],
        said["groups"] > 1 or said["n"] == said["sent"],
    ]
    for k, length, code in table:
        good += [1 <= k <= said["n"] <= CODES[code].max_n, length > 0, length % CODES[code].word_bytes == 0]
        good.append(code != 0 or k == said["n"])
    return None if all(good) else Drop.BAD_PARAMETERS


class Model:
    """A slow Reassembly: what is known of the tensor and of each group, and a dict of datagrams by (group, index).

    Of a batch, those datagrams come first whose group is known. Then, of each new group, the first one at a position
    that is free, and that no other new group's claims before it, says what the group is. Then the rest. A datagram
    claims its place in its group and its position among those that it comes with, whether it is taken or not.
    """

    def __init__(self, body):
        self.of_tensor = self._of_tensor(body)
        self.said = fields_of(body)
        self.groups = {}
        self.taken = {}
        self.positions = {}

    def _of_tensor(self, body):
        said = fields_of(body)
        header = header_bytes(body)
        return len(body), body[8:19], body[header - said["parameters"] : header]

    def _of_group(self, body):
        said = fields_of(body)
        return said["n"], table_of(body)

    def _is_known(self, body):
        said = fields_of(body)
        return self._of_tensor(body) == self.of_tensor and self.groups.get(said["group"]) == self._of_group(body)

    def _may_be(self, n):
        total = sum(n for n, _ in self.groups.values()) + n
        unheard = self.said["groups"] - len(self.groups) - 1
        return total + unheard <= self.said["sent"] and (unheard > 0 or total == self.said["sent"])

    def add(self, batch):
        reasons = [reason_for(body) for body in batch]
        good = [body for body, reason in zip(batch, reasons, strict=True) if reason is None]
        known = [body for body in good if self._is_known(body)]
        others = [body for body in good if not self._is_known(body)]
        reasons += self._fates(known)
        teachers = self._teachers(others)
        reasons += self._fates(teachers)
        reasons += self._fates(self._without(others, teachers))
        return dict(Counter(reason for reason in reasons if reason))

    def _without(self, bodies, gone):
        left = [*bodies]
        for body in gone:
            left.remove(body)
        return left

    def _teachers(self, bodies):
        teachers, positions, groups = [], {*self.positions}, {*self.groups}
        for body in bodies:
            said = fields_of(body)
            fresh = said["group"] not in self.groups and self._of_tensor(body) == self.of_tensor
            if fresh and said["position"] not in positions:
                positions.add(said["position"])
                if said["group"] not in groups:
                    groups.add(said["group"])
                    teachers.append(body)
        return [body for body in teachers if self._learns(body)]

    def _learns(self, body):
        said = fields_of(body)
        if may_be := self._may_be(said["n"]):
            self.groups[said["group"]] = self._of_group(body)
        return may_be

    def _fates(self, bodies):
        claims, positions = {*self.taken}, {*self.positions}
        return [self._fate(body, claims, positions) for body in bodies]

    def _fate(self, body, claims, positions):
        if not self._is_known(body):
            return Drop.CONFLICT
        said = fields_of(body)
        claim, position = (said["group"], said["index"]), said["position"]
        new, free = claim not in claims, position not in positions
        claims.add(claim)
        positions.add(position)
        if not new and not free:
            return Drop.DUPLICATE
        if not (new and free):
            return Drop.CONFLICT
        self.taken[claim] = body
        self.positions[position] = claim
        return None


def with_entry(body, row, column, value):
    """The body with one number of its table changed."""
    entry = [*TABLE_ENTRY.unpack_from(body, FIXED.size + 5 * row)]
    entry[column] = value
    at = FIXED.size + 5 * row
    return body[:at] + TABLE_ENTRY.pack(*entry) + body[at + 5 :]


def lie(rng, body):
    """A body that says something else: of itself, its group, its tensor, or of how long it is."""
    said = fields_of(body)
    kind = rng.random()
    if kind < 0.1:
        return body[: rng.integers(FIXED.size, len(body))] if rng.random() < 0.5 else body + rng.bytes(4)
    if kind < 0.3:
        row, column = int(rng.integers(said["stripes"])), int(rng.integers(3))
        old = TABLE_ENTRY.unpack_from(body, FIXED.size + 5 * row)[column]
        most = 255 if column == 2 else 65_535
        return with_entry(body, row, column, int(np.clip(old + rng.integers(-2, 3), 0, most)))
    if kind < 0.4:
        at = int(rng.integers(FIXED.size, header_bytes(body)))
        return body[:at] + bytes([body[at] ^ int(rng.integers(1, 256))]) + body[at + 1 :]
    field = str(rng.choice(FIELDS))
    most = {"tensor": 2**32 - 1}.get(field, 255 if field in FIELDS[6:12] else 65_535)
    near = said[field] + int(rng.integers(-3, 4))
    value = near if rng.random() < 0.8 else int(rng.choice([0, 1, most, int(rng.integers(most))]))
    return with_header(body, **{field: int(np.clip(value, 0, most))})


@settings(max_examples=400)
@given(SEEDS)
@pytest.mark.filterwarnings("error")
def test_every_datagram_has_the_fate_that_the_model_gives_it(seed):
    rng = np.random.default_rng(seed)
    plan = odd_plan(rng) if rng.random() < 0.7 else [FEC_50_50, TWO_GROUPS, TWO_STRIPES, RESERVE][rng.integers(4)]
    true = bodies_of(plan, int(rng.integers(2**32)))
    alive = [body for body in true for _ in range(rng.choice([0, 1, 1, 1, 2]))]
    lies = [lie(rng, true[rng.integers(len(true))]) for _ in range(rng.integers(0, 8))]
    everything = [*alive, *lies]
    everything = [everything[i] for i in rng.permutation(len(everything))]
    first = next((body for body in everything if reason_for(body) is None), None)
    if first is None:
        return
    arrived, model = Reassembly(first, GRID), Model(first)
    while everything:
        batch = everything[: rng.integers(1, 9)]
        batch = next([*alike] for _, alike in groupby(batch, len))  # all of one length, as the session hands them over
        everything = everything[len(batch) :]
        before = arrived.received
        drops = feed(arrived, batch)
        assert drops == model.add(batch)
        assert sum(drops.values()) + arrived.received - before == len(batch)
    assert {*np.flatnonzero(arrived.arrived).tolist()} == {*model.positions}
    assert arrived.received == len(model.taken) == arrived.present.sum() == arrived.have.sum()
    begin_at = header_bytes(first)
    for (group, index), body in model.taken.items():
        assert arrived.symbols[arrived.base[group] + index].tobytes() == body[begin_at:]
    heard = {group: (int(arrived.n[group]), arrived.stripe_table(group).tolist()) for group in model.groups}
    assert heard == model.groups
    if model.taken:
        decoded = decode_tensor(arrived.handed_over(), ZERO)
        assert np.isfinite(decoded.tensor).all()
        assert 0 <= decoded.missing <= arrived.kept
        assert len(decoded.found.places) <= GRID.count


@given(SEEDS, st.integers(1, 12))
@settings(max_examples=200)
@pytest.mark.filterwarnings("error")
def test_bodies_of_any_bytes_are_judged_as_the_rules_say_and_never_raise(seed, count):
    rng = np.random.default_rng(seed)
    bodies = rng.integers(0, 256, (count, rng.integers(FIXED.size, 90)), np.uint8)
    true = np.frombuffer(bodies_of(FEC_50_50)[0], np.uint8)
    mixed = rng.random(bodies.shape) < rng.choice([0.5, 0.9, 0.97])
    wide = min(bodies.shape[1], len(true))
    bodies[:, :wide] = np.where(mixed[:, :wide], true[:wide], bodies[:, :wide])
    drops, good = judge(bodies, GRID)
    reasons = [reason_for(body.tobytes()) for body in bodies]
    assert good.tolist() == [reason is None for reason in reasons]
    assert +drops == Counter(reason for reason in reasons if reason)
    arrived = received(bodies_of(FEC_50_50, 3)[:2])
    assert sum(feed(arrived, [body.tobytes() for body in bodies]).values()) + arrived.received - 2 == count


# --- lies, one by one ---

BY_ITSELF = {Drop.BAD_LENGTH, Drop.UNKNOWN_QUANTISER, Drop.UNKNOWN_CODE, Drop.BAD_PARAMETERS}

LIES = [
    *(("sent", lie) for lie in (15, 17)),
    *(("unasked", lie) for lie in (0, 1, 15, 17, 65_535)),
    *(("kept", lie) for lie in (10, 12)),
    *(("form", lie) for lie in (1, 255)),
    *(("groups", lie) for lie in (1, 3)),
    *(("stripes", lie) for lie in (0, 2, 33, 255)),
    *(("quantiser", lie) for lie in (0, 2, 21, 99)),
    *(("parameters", lie) for lie in (0, 7, 9, 65)),
    *(("position", lie) for lie in (0, 16, 65_535)),  # 0 is another datagram's
    *(("group", lie) for lie in (1, 2, 255)),  # the n and k of group 1 differ
    *(("n", lie) for lie in (0, 6, 8, 65_535)),
    *(("index", lie) for lie in (7, 65_535)),
    *(("k", lie) for lie in (0, 3, 5, 8)),
    *(("length", lie) for lie in (0, 30, 32)),
    *(("code", lie) for lie in (0, 9)),
]


def told(lies):
    return [pytest.param(*lie, id="-".join(map(str, lie))) for lie in lies]


@pytest.mark.parametrize(("field", "value"), told(LIES))
@pytest.mark.parametrize("known", ["all others", "one of its group", "one of the other group"])
@pytest.mark.filterwarnings("error")
def test_a_lie_in_any_header_field_is_refused_under_a_name_and_changes_nothing(field, value, known):
    bodies = bodies_of(TWO_GROUPS)
    groups = headers_of(bodies)["group"]
    liar = next(i for i in range(len(bodies)) if groups[i] == 0 and i > 3)
    others = [body for i, body in enumerate(bodies) if i != liar]
    if known == "one of its group":
        others = [bodies[i] for i in range(3) if groups[i] == 0][:1]
    if known == "one of the other group":
        others = [bodies[i] for i in range(3) if groups[i] == 1][:1]
    if field == "position" and value == 0 and bodies[0] not in others:
        others = [bodies[0], *others]
    arrived = begin(others)
    feed(arrived, others)
    before = state(arrived)
    lying = with_header(bodies[liar], **{field: value})
    if known == "one of the other group" and (field, value) in [("k", 3), ("k", 5)]:
        return  # nobody can know yet
    refused = feed(arrived, [lying])
    assert sum(refused.values()) == 1
    assert set(refused) <= {Drop.CONFLICT, Drop.DUPLICATE, *BY_ITSELF}
    if known == "one of the other group" and (field, value) in [("n", 8), ("n", 6)]:
        assert refused == {Drop.CONFLICT: 1}  # the sums give it away: it is the last group heard of
    assert state(arrived) == before
    assert feed(arrived, [body for body in bodies if body not in others]) == {}
    np.testing.assert_array_equal(decode_tensor(arrived, ZERO).tensor, decode_tensor(received(bodies), ZERO).tensor)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("sent", 17, Drop.CONFLICT),
        ("unasked", 15, Drop.BAD_PARAMETERS),  # it has two groups
        ("quantiser", 2, Drop.CONFLICT),
        ("quantiser", 99, Drop.UNKNOWN_QUANTISER),
        ("position", 16, Drop.BAD_PARAMETERS),
        ("group", 2, Drop.BAD_PARAMETERS),
        ("index", 7, Drop.BAD_PARAMETERS),
        ("n", 8, Drop.CONFLICT),
        ("stripes", 33, Drop.BAD_LENGTH),
        ("parameters", 65, Drop.BAD_LENGTH),
        ("k", 3, Drop.CONFLICT),
        ("length", 30, Drop.BAD_PARAMETERS),
        ("code", 9, Drop.UNKNOWN_CODE),
    ],
)
def test_the_reason_says_what_kind_of_lie_it_was(field, value, reason):
    bodies = bodies_of(TWO_GROUPS)
    liar = next(body for body, header in zip(bodies, headers_of(bodies), strict=True) if header["group"] == 0)
    arrived = received([body for body in bodies if body != liar])
    lying = with_header(liar, **{field: value})
    assert feed(arrived, [lying]) == {reason: 1}


def test_datagrams_of_another_length_are_refused_and_change_nothing():
    """One more byte in its only stripe, and the table says so: good by itself, but of no tensor with the others."""
    bodies = bodies_of(FEC_50_50)
    arrived = received(bodies[:3])
    before = state(arrived)
    longer = [with_header(body, length=32) + b"\0" for body in bodies]
    assert judge(matrix_of(longer), GRID)[0] == {}
    assert feed(arrived, longer) == {Drop.CONFLICT: len(bodies)}
    assert feed(arrived, [body + b"\0" for body in bodies]) == {Drop.BAD_PARAMETERS: len(bodies)}
    assert feed(arrived, [body[: FIXED.size] for body in bodies]) == {Drop.BAD_LENGTH: len(bodies)}
    assert state(arrived) == before


def test_a_new_datagram_at_a_taken_position_and_an_old_one_at_a_new_position_are_conflicts():
    bodies = bodies_of(TWO_GROUPS)
    arrived = received(bodies[:5])
    assert feed(arrived, [with_header(bodies[5], position=0)]) == {Drop.CONFLICT: 1}
    assert feed(arrived, [with_header(bodies[0], position=9)]) == {Drop.CONFLICT: 1}
    assert feed(arrived, bodies[5:]) == {}
    assert arrived.all_arrived


def test_a_duplicate_with_other_contents_does_not_replace_the_first():
    bodies = bodies_of(TWO_GROUPS)
    arrived = received(bodies)
    other = bodies[0][:-1] + bytes([bodies[0][-1] ^ 0xFF])
    assert feed(arrived, [other]) == {Drop.DUPLICATE: 1}
    np.testing.assert_array_equal(decode_tensor(arrived, ZERO).tensor, decode_tensor(received(bodies), ZERO).tensor)


@pytest.mark.parametrize("by", [-1, 1])
def test_groups_that_do_not_add_up_to_what_was_sent_are_refused(by):
    bodies = bodies_of(TWO_GROUPS)
    headers = headers_of(bodies)
    first = [body for body, header in zip(bodies, headers, strict=True) if header["group"] == 0]
    second = [body for body, h in zip(bodies, headers, strict=True) if h["group"] == 1 and h["index"] < 6]
    arrived = received(first)
    wrong = [with_header(body, n=9 + by) for body in second]
    assert feed(arrived, wrong) == {Drop.CONFLICT: len(wrong)}
    assert not arrived.complete
    assert feed(arrived, second) == {}


def test_a_liar_at_a_taken_position_does_not_say_what_a_group_is():
    bodies = bodies_of(TWO_GROUPS)
    groups = headers_of(bodies)["group"]
    first = bodies[int(np.flatnonzero(groups == 0)[0])]
    arrived = received([first])
    other = bodies[int(np.flatnonzero(groups == 1)[0])]
    liar = with_header(other, position=fields_of(first)["position"], k=3)
    assert feed(arrived, [liar]) == {Drop.CONFLICT: 1}
    assert feed(arrived, [body for body in bodies if body != first]) == {}


# --- what a first datagram may say ---

WRONG = [
    *(("quantiser", value, Drop.UNKNOWN_QUANTISER) for value in (0, 6, 17, 255)),
    *(("stripes", value, Drop.BAD_LENGTH) for value in (0, 33, 255)),
    *(("parameters", value, Drop.BAD_LENGTH) for value in (MAX_PARAMETER_BYTES + 1, 255)),
    *(("parameters", value, Drop.BAD_PARAMETERS) for value in (0, 7, 9)),
    *(("groups", value, Drop.BAD_PARAMETERS) for value in (0, 1, 12, 255)),
    *(("kept", value, Drop.BAD_PARAMETERS) for value in (0, 13, 65_535)),
    *(("sent", value, Drop.BAD_PARAMETERS) for value in (0, 7, MAX_SENT_PER_PACKET * GRID.count + 1, 65_535)),
    *(("unasked", value, Drop.BAD_PARAMETERS) for value in (0, 1, 15, 17, 65_535)),  # there are two groups
    *(("n", value, Drop.BAD_PARAMETERS) for value in (0, 3, 16, 257, 65_535)),
    *(("k", value, Drop.BAD_PARAMETERS) for value in (0, 8, 65_535)),
    *(("length", value, Drop.BAD_PARAMETERS) for value in (0, 30, 32, 65_535)),
    ("code", 0, Drop.BAD_PARAMETERS),
    *(("code", value, Drop.UNKNOWN_CODE) for value in (3, 255)),
]


@pytest.mark.parametrize(("field", "value", "reason"), told(WRONG))
@pytest.mark.filterwarnings("error")
def test_a_tensor_that_cannot_be_true_is_not_begun(field, value, reason):
    body = next(body for body in bodies_of(TWO_GROUPS) if fields_of(body)["group"] == 0)
    wrong = with_header(body, **{field: value})
    drops, good = judge(matrix_of([wrong]), GRID)
    assert (drops, good.tolist()) == ({reason: 1}, [False])


@pytest.mark.parametrize(
    ("low", "high"),
    [(np.nan, 1), (0, np.nan), (-np.inf, 0), (0, np.inf), (1, 0), (-3e38, 3e38)],
)
@pytest.mark.filterwarnings("error")
def test_a_tensor_whose_quantiser_refuses_its_parameters_is_not_begun(low, high):
    body = bodies_of(FEC_50_50)[0]
    at = header_bytes(body)
    wrong = body[: at - 8] + struct.pack(">ff", low, high) + body[at:]
    assert judge(matrix_of([wrong]), GRID)[0] == {Drop.BAD_PARAMETERS: 1}


@pytest.mark.leopard
def test_a_code_of_words_of_two_bytes_has_no_symbols_of_odd_length():
    odd, even = (
        [with_header(body, code=LEOPARD.id) for body in bodies_of(plan)]
        for plan in (FEC_50_50, planned("FEC_50_50", code=LEOPARD))
    )
    assert [table_of(bodies[0])[0][1] % 2 for bodies in (odd, even)] == [1, 0]
    assert judge(matrix_of(odd), GRID)[0] == {Drop.BAD_PARAMETERS: 12}
    assert judge(matrix_of(even), GRID)[0] == {}


def test_the_most_that_a_tensor_may_send_is_allowed():
    bodies = [with_header(body, sent=MAX_SENT_PER_PACKET * GRID.count) for body in bodies_of(TWO_GROUPS)]
    assert judge(matrix_of(bodies), GRID)[0] == {}


@pytest.mark.parametrize(("groups", "stripes", "good"), [(42, 6, True), (43, 6, False), (8, 31, True), (8, 32, False)])
def test_a_tensor_has_255_stripes_at_most(groups, stripes, good):
    body = FIXED.pack(1, 0, 0, 48, 48, 12, 0, groups, stripes, QUANTISERS["sqrt4"].id, 4, 0, 1)
    body += TABLE_ENTRY.pack(1, 1, 0) * stripes + struct.pack(">f", 1) + bytes(stripes)
    assert judge(matrix_of([body]), GRID)[0] == ({} if good else {Drop.BAD_PARAMETERS: 1})


# --- a reserve ---


@pytest.mark.parametrize("unasked", [0, 1, 11, 12, 13, 65_535])
def test_of_one_group_any_number_of_datagrams_from_one_to_all_may_be_sent_unasked(unasked):
    bodies = [with_header(body, unasked=unasked) for body in bodies_of(FEC_50_50)]
    assert FEC_50_50.sent == 12
    assert judge(matrix_of(bodies), GRID)[0] == ({} if 1 <= unasked <= 12 else {Drop.BAD_PARAMETERS: 12})


def test_a_tensor_of_several_groups_has_no_reserve():
    bodies = [with_header(body, unasked=15) for body in bodies_of(TWO_GROUPS)]
    assert judge(matrix_of(bodies), GRID)[0] == {Drop.BAD_PARAMETERS: 16}


def test_datagrams_that_disagree_on_what_is_sent_unasked_contradict_each_other():
    bodies = bodies_of(RESERVE)
    arrived = received(bodies[:3])
    before = state(arrived)
    assert feed(arrived, [with_header(body, unasked=9) for body in bodies[3:]]) == {Drop.CONFLICT: 9}
    assert state(arrived) == before


def test_what_is_in_reserve_is_due_once_it_has_been_asked_for_and_counts_only_then():
    bodies = bodies_of(RESERVE)
    assert (RESERVE.sent, RESERVE.unasked, RESERVE.parity) == (12, 8, 3)
    arrived = received([*bodies[:2], *bodies[5:7]])
    assert (arrived.sent, arrived.unasked, arrived.due) == (12, 8, 8)
    assert (arrived.lost_bursts(), arrived.parity, arrived.wanting) == (2, 3, 1)
    assert not arrived.all_arrived and not arrived.complete
    arrived.expect(11)
    assert (arrived.lost_bursts(), arrived.parity, arrived.unasked) == (2, 6, 8)
    assert feed(arrived, [*bodies[2:5], bodies[7]]) == {}
    assert (arrived.lost_bursts(), arrived.wanting, arrived.complete) == (1, 0, True)
    assert not arrived.all_arrived
    assert feed(arrived, bodies[8:11]) == {}
    assert arrived.all_arrived and arrived.lost_bursts() == 0


def test_of_a_tensor_whose_edge_holds_data_back_no_count_is_below_nothing():
    bodies = [with_header(body, unasked=2) for body in bodies_of(RESERVE)]  # k is 5
    arrived = received(bodies[:1])
    assert (arrived.due, arrived.parity, arrived.lost_bursts(), arrived.wanting) == (2, 0, 1, 4)
    arrived.expect(7)
    assert (arrived.parity, arrived.lost_bursts()) == (2, 1)


def test_a_tensor_that_is_sent_unasked_has_all_arrived_without_its_reserve():
    bodies = bodies_of(RESERVE)
    arrived = received(bodies[: RESERVE.unasked])
    assert arrived.all_arrived and arrived.complete
    assert read_map(arrived.map(), RESERVE.sent).tolist() == [True] * 8 + [False] * 4


@settings(max_examples=50)
@given(lossy())
def test_as_many_datagrams_are_wanting_as_the_known_groups_lack(case):
    plan, _, _, alive = case
    groups = headers_of(alive)["group"]
    lacking = [max(plan.groups[g].shape.most_k - int((groups == g).sum()), 0) for g in {*groups.tolist()}]
    assert received(alive).wanting == sum(lacking)


def test_a_tensor_of_another_grid_is_judged_by_that_grid():
    fewer = PacketGrid((14, 4, 1), 7)  # of two packets
    assert judge(matrix_of(bodies_of(FEC_50_50)), fewer)[0] == {Drop.BAD_PARAMETERS: 12}


def test_a_bad_datagram_costs_no_good_one_that_comes_with_it():
    bodies = bodies_of(TWO_GROUPS)
    drops, good = judge(matrix_of([with_header(bodies[0], code=9), *bodies]), GRID)
    assert good.tolist() == [False] + [True] * len(bodies)
    assert drops == {Drop.UNKNOWN_CODE: 1}
