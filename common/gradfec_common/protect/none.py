"""`none`: every packet is sent, without parity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import BARE, ErasureCode
from gradfec_common.protect.link import LinkEstimate
from gradfec_common.protect.plan import Group, Plan, Stripe
from gradfec_common.protect.policy import Room


@dataclass(frozen=True)
class NoProtection:
    """Send every packet without parity, in the order of their places."""

    name: str = "none"

    def plan(
        self, importance: npt.NDArray[np.float32], sizes: npt.NDArray[np.intp], link: LinkEstimate, room: Room
    ) -> Plan:
        """Plan one group of one stripe with n = k."""
        stripe = Stripe(np.arange(len(sizes)), room.packing(sizes, BARE), BARE)
        return Plan(len(sizes), np.empty(0, np.intp), (Group(stripe.k, (stripe,)),))


def read_policy(text: str, code: ErasureCode) -> NoProtection | None:
    """Read `none`; None for any other text."""
    return NoProtection() if text.lower() == "none" else None
