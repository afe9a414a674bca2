"""A tensor decodes as often as the binomial distribution says, for either code: lost at random, then really decoded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradfec_common.codes import LEOPARD, ZFEC
from gradfec_common.conceal import make_concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.networks import Cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, Plan, UnequalProtection
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.reassembly import Reassembly
from gradfec_common.transmit import budget_for, encode_tensor
from gradfec_lab.theory import decode_probability, expected_missing, loss_probabilities

SPLIT = Cut(RESNET50, 900, "short_symbols", (1, 2, 2048))
GRID = PacketGrid(SPLIT.shape, 1)  # 2048 packets, as the default split has, but of 2 elements
UNIFORM8 = QUANTISERS["uniform8"]
ZERO = make_concealment("zero", SPLIT, {})
TENSORS = 200
RARE = 1e-6  # how rarely a code that keeps to the theory leaves the bounds; the seeds are fixed, so never or always


def bounds(count: int, probability: float) -> tuple[int, int]:
    """The fewest and the most of `count` events that are not RARE, each event with the probability."""
    cumulated = loss_probabilities(count, probability).cumsum()
    return int((cumulated <= RARE / 2).sum()), int((cumulated < 1 - RARE / 2).sum())


def planned(policy: UnequalProtection, importance: np.ndarray) -> Plan:
    sizes = np.full(GRID.count, GRID.size)
    return policy.plan(importance, sizes, UNKNOWN_LINK, budget_for(UNIFORM8, packets_a_symbol=1))


# Losses at which the tensor or the group may go either way, and the probability moves fast.
@pytest.mark.parametrize(
    ("code", "block_n", "a", "loss"),
    [
        (ZFEC, 256, 20, 0.17),
        (ZFEC, 256, 50, 0.45),
        (ZFEC, 64, 20, 0.13),
        (ZFEC, 64, 50, 0.39),
        (LEOPARD, None, 20, 0.2),
        (LEOPARD, None, 50, 0.5),
        (LEOPARD, None, 10, 0.095),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_tensors_and_groups_decode_as_often_as_theory_says(code, block_n, a, loss):
    rng = np.random.default_rng(2023)
    plan = planned(UnequalProtection(a, replace(code, block=block_n)), rng.random(GRID.count).astype(np.float32))
    tensor = 1 + rng.random(SPLIT.shape).astype(np.float32)
    coded = UNIFORM8.encode(tensor, GRID)
    levels = GRID.split(UNIFORM8.decode(coded.packets, coded.parameters, GRID).tensor)
    sent = encode_tensor(coded, UNIFORM8, plan).bodies(0)
    tensors, groups, missing = 0, 0, []
    for _ in range(TENSORS):
        arrived = rng.random(plan.sent) >= loss
        reassembly = Reassembly(sent[arrived][0].tobytes(), GRID)
        assert reassembly.add(sent[arrived]) == {}
        decoded = decode_tensor(reassembly, ZERO)
        packets = GRID.split(decoded.tensor)
        at_hand = packets.any(axis=1)  # no feature is 0: what is filled shows
        np.testing.assert_array_equal(packets[at_hand], levels[at_hand])
        whole = [at_hand[stripe.packets].all() for _, stripe in plan.stripes]
        tensors, groups = tensors + all(whole), groups + sum(whole)
        missing.append(decoded.missing)

    fewest, most = bounds(TENSORS, decode_probability(plan.shapes, loss))
    assert fewest <= tensors <= most
    assert fewest > 0 or most < TENSORS, "bounds that anything would meet"
    alike = decode_probability(plan.shapes[:1], loss)  # the groups are, except for one symbol if A does not divide
    close = max(abs(alike - decode_probability([shape], loss)) for shape in plan.shapes)
    fewest, most = bounds(TENSORS * len(plan.shapes), alike)
    slack = TENSORS * len(plan.shapes) * close
    assert fewest - slack <= groups <= most + slack
    # the mean of the tensors' shares, within six standard errors of what is expected
    error = np.std(missing) / np.sqrt(TENSORS)
    assert abs(np.mean(missing) - plan.kept * expected_missing(plan.shapes, loss)) <= 6 * error


def test_the_bounds_tell_one_code_word_from_eight():
    """What the test above would say of a code that does not keep to its theory."""
    importance = np.zeros(GRID.count, np.float32)
    one, eight = (planned(UnequalProtection(20, code), importance) for code in (LEOPARD, ZFEC))
    fewest, _ = bounds(TENSORS, decode_probability(one.shapes, 0.17))
    _, most = bounds(TENSORS, decode_probability(eight.shapes, 0.17))
    assert most < fewest
