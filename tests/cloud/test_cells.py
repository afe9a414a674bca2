"""What the cloud's page shows of each packet, against a second computation packet by packet."""

from __future__ import annotations

import numpy as np
import pytest
from tests.common.small_tensors import GRID, encoded, odd_plan

from gradfec_cloud.cells import cells_of
from gradfec_common.plan import Plan
from gradfec_common.reassembly import Reassembly, decode_tensor
from gradfec_common.sketch import Fate, plan_fates
from gradfec_common.wire import read_symbols
from gradfec_common.cells import Cell


def one_by_one(plan: Plan, symbols: list[tuple[int, int]], *, sketched: bool) -> list[int]:
    """The cell of each packet, where the cloud has these (block, index)."""
    cells = dict.fromkeys(range(plan.total), Cell.DROPPED if sketched else Cell.ABSENT)
    for number, block in enumerate(plan.blocks):
        indices = [index for of, index in symbols if of == number]
        protected = block.n > block.k
        for index, packet in enumerate(block.packets.tolist()):
            if index in indices:
                cells[packet] = Cell.PROTECTED if protected else Cell.SENT
            elif len(indices) >= block.k:
                cells[packet] = Cell.RECOVERED
            elif sketched:
                cells[packet] = Cell.UNRECOVERED if protected else Cell.LOST
    return [cells[packet] for packet in range(plan.total)]


@pytest.mark.parametrize("seed", range(60))
def test_every_packet_has_the_fate_that_decoding_and_the_sketch_give_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan = odd_plan(rng)
    headers, symbols = read_symbols(encoded(plan, seed).bodies(0))
    for share in (0.1, 0.5, 0.8, 1.0):
        here = np.flatnonzero(rng.random(plan.sent) < share)
        if not len(here):
            continue
        arrived = Reassembly(headers[here][0], GRID)
        assert not arrived.add(headers[here], symbols[here])
        found = decode_tensor(arrived).found
        pairs = [*zip(headers["block"][here].tolist(), headers["index"][here].tolist(), strict=True)]
        for fates in (plan_fates(plan), None):
            expected = one_by_one(plan, pairs, sketched=fates is not None)
            assert cells_of(found, plan.total, fates).tolist() == expected


def test_a_sketch_that_lies_does_not_hide_what_is_there() -> None:
    plan = odd_plan(np.random.default_rng(3))
    headers, symbols = read_symbols(encoded(plan, 3).bodies(0))
    arrived = Reassembly(headers[0], GRID)
    arrived.add(headers, symbols)
    cells = cells_of(decode_tensor(arrived).found, plan.total, np.full(plan.total, Fate.DROPPED, np.uint8))
    kept = np.concatenate([block.packets for block in plan.blocks])
    assert set(cells[kept].tolist()) <= {Cell.SENT, Cell.PROTECTED}
    assert set(cells[plan.dropped].tolist()) <= {Cell.DROPPED}
