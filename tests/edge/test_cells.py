"""What the edge's page shows of each packet, against a second computation packet by packet."""

from __future__ import annotations

import numpy as np
import pytest
from tests.common.small_tensors import FEC_CODES, GRID, encoded, odd_plan, planned

from gradfec_common.cells import Cell
from gradfec_common.codes import BARE, ZFEC, ErasureCode
from gradfec_common.delivery import Mask
from gradfec_common.protect import Group, Plan, Stripe
from gradfec_common.symbols import Packing
from gradfec_common.transmit import EncodedTensor
from gradfec_common.wire.symbol import read_headers
from gradfec_edge.cells import cells_of


def one_by_one(tensor: EncodedTensor, arrived: Mask) -> list[int]:
    """Return the cell of each packet, from the definitions of Cell and the headers of what arrived."""
    plan = tensor.plan
    have: dict[int, set[int]] = {number: set() for number in range(len(plan.groups))}
    for header in read_headers(tensor.unnumbered)[arrived]:
        have[int(header["group"])].add(int(header["index"]))
    cells = {int(packet): Cell.DROPPED for packet in plan.dropped}
    for number, group in enumerate(plan.groups):
        for stripe in group.stripes:
            protected = group.n > stripe.k
            for symbol in range(stripe.k):
                for packet in stripe.packets[stripe.packing.starts[symbol] : stripe.packing.starts[symbol + 1]]:
                    if symbol in have[number]:
                        cell = Cell.PROTECTED if protected else Cell.SENT
                    elif protected:
                        cell = Cell.RECOVERED if len(have[number]) >= stripe.k else Cell.UNRECOVERED
                    else:
                        cell = Cell.LOST
                    cells[int(packet)] = cell
    return [cells[packet] for packet in range(plan.total)]


@pytest.mark.parametrize("seed", range(60))
def test_every_packet_has_the_fate_that_its_stripe_and_the_arrived_datagrams_give_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tensor = encoded(odd_plan(rng), seed)
    for share in (0.0, 0.5, 0.8, 1.0):
        arrived = rng.random(tensor.plan.sent) < share
        cells = cells_of(tensor.plan, arrived, complete=bool(rng.integers(2)))
        assert cells.tolist() == one_by_one(tensor, arrived)


@pytest.mark.parametrize("code", FEC_CODES, ids=lambda code: code.name)
def test_each_class_of_nested_stripes_is_whole_from_its_own_number_of_datagrams_on(code: ErasureCode) -> None:
    plan = planned("nested:2,4,6/8", code=code)  # 2, 4 and 6 packets, the last of which matter most
    backwards = np.arange(plan.sent)[::-1]  # parity arrives before data
    for count in range(plan.sent + 1):
        cells = cells_of(plan, backwards < count, complete=False)
        gone = {stripe.k for _, stripe in plan.stripes if (cells[stripe.packets] == Cell.UNRECOVERED).any()}
        assert gone == {k for k in (2, 4, 6) if count < k}
        if count == 2:
            assert cells.tolist() == 10 * [Cell.UNRECOVERED] + 2 * [Cell.RECOVERED]


def test_a_datagram_of_several_packets_takes_all_of_them_with_it() -> None:
    stripe = Stripe(np.arange(GRID.count), Packing(np.array([0, 5, 12]), 7 * 31), BARE)
    plan = Plan(GRID.count, np.empty(0, np.intp), (Group(2, (stripe,)),))
    tensor = encoded(plan)
    first = read_headers(tensor.unnumbered)["index"] == 0
    assert cells_of(plan, first, complete=False).tolist() == 5 * [Cell.SENT] + 7 * [Cell.LOST]


def alone(packets: list[int], code: ErasureCode) -> Stripe:
    return Stripe(np.array(packets), Packing(np.arange(len(packets) + 1), 40), code)


PLAN = Plan(
    GRID.count,
    np.array([0, 7]),
    (Group(6, (alone([3, 1, 4, 2], ZFEC),)), Group(6, (alone([5, 9, 6, 8, 11, 10], BARE),))),
)


def test_without_a_report_nothing_is_made_up() -> None:
    cells = cells_of(PLAN, None, complete=False)
    assert set(cells[[0, 7]].tolist()) == {Cell.DROPPED}
    assert set(np.delete(cells, [0, 7]).tolist()) == {Cell.ABSENT}


def test_a_complete_answer_says_that_all_packets_that_were_sent_are_there() -> None:
    cells = cells_of(PLAN, None, complete=True)
    assert {int(cell): np.flatnonzero(cells == cell).tolist() for cell in set(cells)} == {
        Cell.DROPPED: [0, 7],
        Cell.PROTECTED: [1, 2, 3, 4],
        Cell.SENT: [5, 6, 8, 9, 10, 11],
    }
