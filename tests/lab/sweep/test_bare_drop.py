"""The sweeps' own policy drops what FEC_A_B drops, from either end of the ranking."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gradfec_common.codes import LEOPARD
from gradfec_common.protect import UNKNOWN_LINK, Plan, Policy, Room, UnequalProtection
from gradfec_lab.sweep.bare_drop import LEAST, MOST, BareDrop

SHARES = st.integers(0, 99).map(lambda percent: percent / 100)


def planned(policy: Policy, scores: np.ndarray) -> Plan:
    return policy.plan(scores, np.full(len(scores), 4), UNKNOWN_LINK, Room(100, 1))


@given(SHARES, st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_what_is_dropped_is_what_unequal_protection_drops(drop: float, total: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, max(total // 3, 1), total).astype(np.float32)  # with ties
    dropped = planned(BareDrop(drop), scores).dropped
    assert len(dropped) == round(total * round(100 * drop) / 100)
    if len(dropped) < total:
        unequal = planned(UnequalProtection(round(100 * drop), LEOPARD), scores)
        np.testing.assert_array_equal(dropped, unequal.dropped)


@given(st.integers(1, 300), st.integers(0, 2**32 - 1), st.data())
def test_most_important_first_is_the_ranking_from_its_other_end(total: int, seed: int, data: st.DataObject) -> None:
    scores = np.random.default_rng(seed).integers(0, 9, total).astype(np.float32)
    dropped = data.draw(st.integers(0, total - 1))
    least = planned(BareDrop((total - dropped) / total, LEAST), scores)
    most = planned(BareDrop(dropped / total, MOST), scores)
    np.testing.assert_array_equal(np.sort(np.concatenate([least.dropped, most.dropped])), np.arange(total))


def test_the_others_are_sent_without_parity() -> None:
    plan = planned(BareDrop(0.5), np.arange(8, dtype=np.float32))
    assert plan.dropped.tolist() == [0, 1, 2, 3]
    assert (plan.sent, plan.parity) == (4, 0)
    assert not planned(BareDrop(1), np.arange(8, dtype=np.float32)).groups
