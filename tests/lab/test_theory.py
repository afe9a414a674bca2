"""The theory of an ideal code against cases that can be counted by hand."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from gradfec_common.protect.plan import GroupShape, StripeShape
from gradfec_lab.theory import decode_probability, expected_missing, loss_probabilities


def of_one_stripe(n: int, k: int) -> GroupShape:
    return GroupShape(n, (StripeShape(k, 8, 1),))


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.5, 0.999, 1.0])
def test_the_probabilities_of_losses_are_the_binomial_ones(loss: float) -> None:
    expected = [comb(12, lost) * loss**lost * (1 - loss) ** (12 - lost) for lost in range(13)]
    np.testing.assert_allclose(loss_probabilities(12, loss), expected, rtol=1e-9)


def test_they_sum_to_one_for_the_largest_group_too() -> None:
    assert loss_probabilities(32_768, 0.3).sum() == pytest.approx(1, abs=1e-6)


def test_a_tensor_decodes_when_every_group_does() -> None:
    two_of_three, bare = of_one_stripe(3, 2), of_one_stripe(2, 2)
    assert decode_probability([two_of_three], 0.5) == pytest.approx(4 / 8)
    assert decode_probability([bare], 0.5) == pytest.approx(1 / 4)
    assert decode_probability([two_of_three, bare], 0.5) == pytest.approx(1 / 8)
    assert decode_probability([two_of_three], 0.0) == 1
    assert decode_probability([two_of_three], 1.0) == 0


def test_a_group_decodes_when_its_weakest_stripe_does() -> None:
    nested = GroupShape(3, (StripeShape(1, 8, 1), StripeShape(2, 8, 1)))
    assert decode_probability([nested], 0.5) == pytest.approx(4 / 8)
    # of three datagrams: with probability 1/8 none comes, and 3 data symbols are missing; with 3/8 one comes, which has
    # a data symbol of the second stripe in two cases of three
    assert expected_missing([nested], 0.5) == pytest.approx((3 / 8 + 3 / 8 * (2 - 2 / 3)) / 3)


def test_what_is_missing_is_counted_over_every_loss_of_a_small_stripe() -> None:
    """Two data symbols and one parity: every one of the eight outcomes by hand."""
    loss, missing = 0.3, 0.0
    for outcome in range(8):
        lost = [bool(outcome >> i & 1) for i in range(3)]
        probability = np.prod([loss if gone else 1 - loss for gone in lost])
        missing += probability * (sum(lost[:2]) if sum(lost) > 1 else 0)
    assert expected_missing([of_one_stripe(3, 2)], loss) == pytest.approx(missing / 2)


def test_of_bare_packets_as_many_are_missing_as_are_lost() -> None:
    assert expected_missing([of_one_stripe(50, 50)], 0.37) == pytest.approx(0.37)


def test_the_eight_groups_of_the_default_tensor_lose_part_of_the_cliff() -> None:
    assert decode_probability([of_one_stripe(256, 205)] * 8, 0.17) == pytest.approx(0.45, abs=0.01)
