"""A tensor decodes as often as the binomial distribution says, for either code: lost at random, then really decoded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradfec_common.codes import LEOPARD, ZFEC
from gradfec_common.networks import Cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.plan import UnequalProtection
from gradfec_common.quantise import Quantised
from gradfec_common.reassembly import Reassembly, decode_tensor
from gradfec_common.transmit import encode_packets
from gradfec_lab.theory import decode_probability, expected_missing, loss_probabilities

SPLIT = Cut(RESNET50, 900, "short_symbols", (1, 2, 2048))
GRID = PacketGrid(SPLIT.shape, 1)  # 2048 packets, as the default split has, but of 2 elements
TENSORS = 200
RARE = 1e-6  # how rarely a code that keeps to the theory leaves the bounds; the seeds are fixed, so never or always


def bounds(count: int, probability: float) -> tuple[int, int]:
    """The fewest and the most of `count` events that are not RARE, each event with the probability."""
    cumulated = loss_probabilities(count, probability).cumsum()
    return int((cumulated <= RARE / 2).sum()), int((cumulated < 1 - RARE / 2).sum())


# Losses at which the tensor or the block may go either way, and the probability moves fast.
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
def test_tensors_and_blocks_decode_as_often_as_theory_says(code, block_n, a, loss):
    rng = np.random.default_rng(2023)
    plan = UnequalProtection(a, replace(code, block=block_n)).plan(rng.random(GRID.count).astype(np.float32))
    levels = rng.integers(1, 256, (GRID.count, GRID.size), np.uint8)
    sent = encode_packets(Quantised(levels, 0.0, 255.0), plan, GRID, SPLIT)
    tensors, blocks, missing = 0, 0, []
    for _ in range(TENSORS):
        arrived = rng.random(plan.sent) >= loss
        reassembly = Reassembly(sent.headers[0], GRID)
        assert reassembly.add(sent.headers[arrived], sent.symbols[arrived]) == {}
        decoded = decode_tensor(reassembly)
        at_hand = GRID.split(decoded.chi).any(axis=1)  # no level is 0: what is filled shows
        np.testing.assert_array_equal(GRID.split(decoded.chi)[at_hand], levels[at_hand])
        whole = [at_hand[block.packets].all() for block in plan.blocks]
        tensors, blocks = tensors + all(whole), blocks + sum(whole)
        missing.append(decoded.missing)

    fewest, most = bounds(TENSORS, decode_probability(plan.blocks, loss))
    assert fewest <= tensors <= most
    assert fewest > 0 or most < TENSORS, "bounds that anything would meet"
    alike = decode_probability(plan.blocks[:1], loss)  # the blocks are, but for one symbol where A does not divide
    close = max(abs(alike - decode_probability([block], loss)) for block in plan.blocks)
    fewest, most = bounds(TENSORS * len(plan.blocks), alike)
    slack = TENSORS * len(plan.blocks) * close
    assert fewest - slack <= blocks <= most + slack
    # the mean of the tensors' shares, within six standard errors of what is expected
    error = np.std(missing) / np.sqrt(TENSORS)
    assert abs(np.mean(missing) - plan.kept * expected_missing(plan.blocks, loss)) <= 6 * error


def test_the_bounds_tell_one_code_word_from_eight_blocks():
    """What the test above would say of a code that does not keep to its theory."""
    importance = np.zeros(GRID.count, np.float32)
    one, eight = UnequalProtection(20, LEOPARD).plan(importance), UnequalProtection(20, ZFEC).plan(importance)
    fewest, _ = bounds(TENSORS, decode_probability(one.blocks, 0.17))
    _, most = bounds(TENSORS, decode_probability(eight.blocks, 0.17))
    assert most < fewest
