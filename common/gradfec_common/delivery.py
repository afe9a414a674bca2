"""What a plan delivers: which packets are at hand once what arrived of a tensor has been erasure-decoded.

This is the outcome of transmit and reassembly without a byte being coded, for those who have many losses to try.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gradfec_common.plan import Block, Plan
from gradfec_common.transmit import send_order

Mask = npt.NDArray[np.bool_]


def packets_at_hand(plan: Plan, arrived: Mask) -> Mask:
    """Tell which packets (..., total) are at hand when the symbols `arrived` (..., sent), by position in send order.

    Of a block of which k symbols arrived every packet is; of another one those whose own symbols arrived.
    """
    at_hand = np.zeros((*arrived.shape[:-1], plan.total), bool)
    for block, own in by_block(plan, arrived):
        decodes = own.sum(axis=-1, keepdims=True) >= block.k
        at_hand[..., block.packets] = own[..., : block.k] | decodes
    return at_hand


def packets_arrived(plan: Plan, arrived: Mask) -> Mask:
    """Tell which packets (..., total) came themselves, in a data symbol, when the symbols `arrived` (..., sent)."""
    came = np.zeros((*arrived.shape[:-1], plan.total), bool)
    for block, own in by_block(plan, arrived):
        came[..., block.packets] = own[..., : block.k]
    return came


def by_block(plan: Plan, arrived: Mask) -> Iterator[tuple[Block, Mask]]:
    """Yield each block with the fates (..., n) of its symbols; `arrived` (..., sent) are in send order."""
    if arrived.shape[-1] != plan.sent:
        raise ValueError(f"{arrived.shape[-1]} fates of symbols for a plan that sends {plan.sent}")
    if not plan.blocks:  # everything is dropped
        return
    by_symbol = np.empty_like(arrived)
    by_symbol[..., send_order(plan.shapes)] = arrived  # block after block
    start = 0
    for block in plan.blocks:
        yield block, by_symbol[..., start : start + block.n]
        start += block.n
