"""A tensor decodes as often as the binomial distribution says, with either code: lost at random, really decoded."""

from __future__ import annotations

from dataclasses import replace
from math import lgamma

import numpy as np
import pytest

from gradfec_common.codes import LEOPARD, ZFEC
from gradfec_common.decode import decode_tensor
from gradfec_common.packets import PacketGrid
from gradfec_common.quantisers import QUANTISERS, Coded
from gradfec_common.reassembly import Reassembly
from gradfec_common.transmit import encode_tensor

from .small_tensors import ZERO, planned

GRID = PacketGrid((1, 2, 2048), 1)  # 2048 packets, as the default cut has, but of 2 elements
UNIFORM8 = QUANTISERS["uniform8"]
SIZES = UNIFORM8.sizes(GRID)
TENSORS = 100
RARE = 1e-6  # how rarely a code that keeps to the theory leaves the bounds; the seeds are fixed, so never or always


def loss_probabilities(n: int, loss: float) -> np.ndarray:
    """The probability (n + 1,) of losing 0 .. n of n datagrams, each with the probability 0 < loss < 1."""
    choices = [lgamma(n + 1) - lgamma(lost + 1) - lgamma(n - lost + 1) for lost in range(n + 1)]
    return np.exp(choices + np.arange(n + 1) * np.log(loss) + np.arange(n + 1)[::-1] * np.log1p(-loss))


def decode_probability(shapes, loss: float) -> float:
    """The probability that each (n, k) has at least k datagrams."""
    return float(np.prod([loss_probabilities(n, loss)[: n - k + 1].sum() for n, k in shapes]))


def expected_missing(shapes, loss: float) -> float:
    """The expected packets that are lost for good: where l of n are lost, and too many, k x l / n of them are data."""
    return sum(k / n * float(loss_probabilities(n, loss)[n - k + 1 :] @ np.arange(n - k + 1, n + 1)) for n, k in shapes)


def bounds(count: int, probability: float) -> tuple[int, int]:
    """The fewest and the most of `count` events that are not RARE, each event with the probability."""
    cumulated = loss_probabilities(count, probability).cumsum()
    return int((cumulated <= RARE / 2).sum()), int((cumulated < 1 - RARE / 2).sum())


# Losses at which the tensor or the group may go either way, and the probability moves fast.
@pytest.mark.parametrize(
    ("code", "group", "a", "loss"),
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
def test_tensors_and_groups_decode_as_often_as_theory_says(code, group, a, loss):
    rng = np.random.default_rng(2023)
    plan = planned(f"FEC_{a}_{100 - a}", rng.random(GRID.count), sizes=SIZES, code=replace(code, group=group))
    shapes = [(n, stripe.k) for n, stripe in plan.stripes]
    tensor = rng.uniform(1, 9, GRID.shape).astype(np.float32)  # no zero: what is filled shows
    packets, parameters, _ = UNIFORM8.encode(tensor, GRID)
    bodies = encode_tensor(Coded(packets, parameters), UNIFORM8, plan).bodies(1)
    every = GRID.split(UNIFORM8.decode(packets, parameters, GRID).tensor)
    tensors, groups, missing = 0, 0, []
    for _ in range(TENSORS):
        arrived = rng.random(plan.sent) >= loss
        reassembly = Reassembly(bodies[0].tobytes(), GRID)
        assert reassembly.add(bodies[arrived]) == {}
        decoded = decode_tensor(reassembly, ZERO)
        split = GRID.split(decoded.tensor)
        at_hand = split.any(axis=1)
        np.testing.assert_array_equal(split[at_hand], every[at_hand])
        whole = [at_hand[stripe.packets].all() for _, stripe in plan.stripes]
        tensors, groups = tensors + all(whole), groups + sum(whole)
        missing.append(decoded.missing)

    fewest, most = bounds(TENSORS, decode_probability(shapes, loss))
    assert fewest <= tensors <= most
    assert fewest > 0 or most < TENSORS, "bounds that anything would meet"
    alike = decode_probability(shapes[:1], loss)  # the groups are, but for one datagram where A does not divide
    close = max(abs(alike - decode_probability([shape], loss)) for shape in shapes)
    fewest, most = bounds(TENSORS * len(shapes), alike)
    slack = TENSORS * len(shapes) * close
    assert fewest - slack <= groups <= most + slack
    # the mean of the tensors' shares, within six standard errors of what is expected
    error = np.std(missing) / np.sqrt(TENSORS)
    assert abs(np.mean(missing) - expected_missing(shapes, loss)) <= 6 * error


def test_the_bounds_tell_one_code_word_from_eight_groups():
    """What the test above would say of a code that does not keep to its theory."""
    one, eight = (
        [(n, stripe.k) for n, stripe in planned("FEC_20_80", sizes=SIZES, code=code).stripes]
        for code in (LEOPARD, replace(ZFEC, group=256))
    )
    assert (len(one), len(eight)) == (1, 8)
    fewest, _ = bounds(TENSORS, decode_probability(one, 0.17))
    _, most = bounds(TENSORS, decode_probability(eight, 0.17))
    assert most < fewest
