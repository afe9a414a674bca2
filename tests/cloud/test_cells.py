"""What the cloud's page shows of each packet, against a second computation packet by packet."""

from __future__ import annotations

import numpy as np
import pytest
from tests.common.small_tensors import GRID, ZERO, encoded, odd_plan

from gradfec_cloud.cells import cells_of
from gradfec_common.cells import Cell
from gradfec_common.decode import Found, decode_tensor
from gradfec_common.protect import Plan
from gradfec_common.reassembly import Reassembly
from gradfec_common.sketch import Fate, plan_fates
from gradfec_common.wire import Bytes
from gradfec_common.wire.symbol import read_headers


def one_by_one(plan: Plan, arrived: list[tuple[int, int]], *, sketched: bool) -> list[int]:
    """Return the cell of each packet, where these datagrams (group, index) have arrived."""
    cells = dict.fromkeys(range(plan.total), Cell.DROPPED if sketched else Cell.ABSENT)
    for number, group in enumerate(plan.groups):
        indices = [index for of, index in arrived if of == number]
        for stripe in group.stripes:
            protected = group.n > stripe.k
            for packet, symbol in zip(stripe.packets.tolist(), stripe.symbol_of_packet.tolist(), strict=True):
                if symbol in indices:
                    cells[packet] = Cell.PROTECTED if protected else Cell.SENT
                elif len(indices) >= stripe.k:
                    cells[packet] = Cell.RECOVERED
                elif sketched:
                    cells[packet] = Cell.UNRECOVERED if protected else Cell.LOST
    return [cells[packet] for packet in range(plan.total)]


def found_in(bodies: Bytes) -> Found:
    arrived = Reassembly(bodies[0].tobytes(), GRID)
    assert not arrived.add(bodies)
    return decode_tensor(arrived, ZERO).found


@pytest.mark.parametrize("seed", range(60))
def test_every_packet_has_the_fate_that_decoding_and_the_sketch_give_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan = odd_plan(rng)
    bodies = encoded(plan, seed).bodies(0)
    for share in (0.1, 0.5, 0.8, 1.0):
        here = bodies[rng.random(plan.sent) < share]
        if not len(here):
            continue
        found, headers = found_in(here), read_headers(here)
        arrived = [*zip(headers["group"].tolist(), headers["index"].tolist(), strict=True)]
        for fates in (plan_fates(plan), None):
            expected = one_by_one(plan, arrived, sketched=fates is not None)
            assert cells_of(found, plan.total, fates).tolist() == expected


def test_a_sketch_that_lies_does_not_hide_packets_that_are_there() -> None:
    plan = odd_plan(np.random.default_rng(3))
    found = found_in(encoded(plan, 3).bodies(0))
    cells = cells_of(found, plan.total, np.full(plan.total, Fate.DROPPED, np.uint8))
    kept = np.setdiff1d(np.arange(plan.total), plan.dropped)
    assert set(cells[kept].tolist()) <= {Cell.SENT, Cell.PROTECTED}
    assert set(cells[plan.dropped].tolist()) <= {Cell.DROPPED}
