"""What a plan delivers: which packets are at hand after erasure decoding, and the tensor that they make.

It gives the outcome of transmission and decoding without running an erasure code, so it is fast enough to try many
losses.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gradfec_common.conceal import Concealment
from gradfec_common.packets import PacketGrid, select_packets
from gradfec_common.protect.plan import Plan, Stripe
from gradfec_common.quantisers import Coded, Needs, Quantiser
from gradfec_common.transmit import send_order

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


def packets_at_hand(plan: Plan, arrived: Mask) -> Mask:
    """Return which packets (..., total) are at hand when datagrams `arrived` (..., sent), by position in send order.

    If k symbols of a stripe arrived, all its packets are at hand; otherwise those whose own symbol arrived.
    """
    at_hand = np.zeros((*arrived.shape[:-1], plan.total), bool)
    for stripe, own in by_stripe(plan, arrived):
        decodes = own.sum(axis=-1, keepdims=True) >= stripe.k
        at_hand[..., stripe.packets] = own[..., stripe.symbol_of_packet] | decodes
    return at_hand


def packets_arrived(plan: Plan, arrived: Mask) -> Mask:
    """Return which packets (..., total) are in a data symbol that arrived; `arrived` (..., sent) as above."""
    came = np.zeros((*arrived.shape[:-1], plan.total), bool)
    for stripe, own in by_stripe(plan, arrived):
        came[..., stripe.packets] = own[..., stripe.symbol_of_packet]
    return came


def by_stripe(plan: Plan, arrived: Mask) -> Iterator[tuple[Stripe, Mask]]:
    """Yield each stripe with the fates (..., n) of its group's datagrams; `arrived` (..., sent) are in send order.

    ValueError if these are not the plan's datagrams.
    """
    if arrived.shape[-1] != plan.sent:
        raise ValueError(f"{arrived.shape[-1]} fates of datagrams, but the plan sends {plan.sent}")
    if not plan.groups:  # everything is dropped
        return
    by_group = np.empty_like(arrived)
    by_group[..., send_order(plan.shapes)] = arrived  # group after group
    start = 0
    for group in plan.groups:
        for stripe in group.stripes:
            yield stripe, by_group[..., start : start + group.n]
        start += group.n


def tensor_at_hand(coded: Coded, at_hand: Mask, quantiser: Quantiser, conceal: Concealment, grid: PacketGrid) -> Floats:
    """Return the tensor (H, W, C) that the cloud makes of the packets `at_hand` (total,) of a coded one."""
    packets = select_packets(coded.packets, np.flatnonzero(at_hand))
    decoded = quantiser.decode(packets, coded.parameters, grid)
    if quantiser.needs is not Needs.NOTHING:
        return decoded.tensor
    return conceal(decoded.tensor, decoded.there, grid, decoded.step)
