"""What the edge's page shows of each packet, against a second computation packet by packet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from tests.common.small_tensors import GRID, encoded, odd_plan

from gradfec_common.codes import BARE, ZFEC
from gradfec_common.plan import Block, Plan
from gradfec_common.transmit import EncodedTensor
from gradfec_edge.cells import cells_of
from gradfec_common.cells import Cell


def one_by_one(tensor: EncodedTensor, arrived: set[int]) -> list[int]:
    """The cell of each packet, from the definitions of Cell."""
    have: dict[int, set[int]] = {number: set() for number in range(len(tensor.plan.blocks))}
    for position in arrived:
        have[int(tensor.headers["block"][position])].add(int(tensor.headers["index"][position]))
    cells = {int(packet): Cell.DROPPED for packet in tensor.plan.dropped}
    for number, block in enumerate(tensor.plan.blocks):
        for index, packet in enumerate(block.packets.tolist()):
            if index in have[number]:
                cells[packet] = Cell.PROTECTED if block.n > block.k else Cell.SENT
            elif block.n == block.k:
                cells[packet] = Cell.LOST
            else:
                cells[packet] = Cell.RECOVERED if len(have[number]) >= block.k else Cell.UNRECOVERED
    return [cells[packet] for packet in range(tensor.plan.total)]


def mask(tensor: EncodedTensor, arrived: set[int]) -> npt.NDArray[np.bool_]:
    return np.array([position in arrived for position in range(tensor.plan.sent)])


@pytest.mark.parametrize("seed", range(60))
def test_every_packet_has_the_fate_that_its_block_and_the_arrived_datagrams_give_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tensor = encoded(odd_plan(rng), seed)
    sent = tensor.plan.sent
    for share in (0.0, 0.5, 0.8, 1.0):
        arrived = {position for position in range(sent) if rng.random() < share}
        cells = cells_of(tensor.plan, tensor.headers, mask(tensor, arrived), complete=bool(rng.integers(2)))
        assert cells.tolist() == one_by_one(tensor, arrived)


PLAN = Plan(
    GRID.count,
    np.array([0, 7]),
    (Block(np.array([3, 1, 4, 2]), 6, ZFEC), Block(np.array([5, 9, 6, 8, 11, 10]), 6, BARE)),
)


def test_where_nobody_has_said_what_arrived_it_is_not_made_up() -> None:
    tensor = encoded(PLAN)
    unknown = cells_of(PLAN, tensor.headers, None, complete=False)
    assert set(unknown[[0, 7]].tolist()) == {Cell.DROPPED}
    assert set(np.delete(unknown, [0, 7]).tolist()) == {Cell.ABSENT}


def test_a_complete_answer_says_that_all_that_was_sent_is_there() -> None:
    cells = cells_of(PLAN, encoded(PLAN).headers, None, complete=True)
    assert {int(cell): np.flatnonzero(cells == cell).tolist() for cell in set(cells)} == {
        Cell.DROPPED: [0, 7],
        Cell.PROTECTED: [1, 2, 3, 4],
        Cell.SENT: [5, 6, 8, 9, 10, 11],
    }
