"""A policy only for sweeps: drop some packets, and send the others without parity.

It shows what the drop alone costs. FEC_A_B drops the same packets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import BARE
from gradfec_common.protect import Group, LinkEstimate, Plan, Room, Stripe
from gradfec_common.protect.plan import keep_most_important, ranking

LEAST, MOST = "least", "most"


@dataclass(frozen=True)
class BareDrop:
    """Drop a share of the packets, the least or the most important ones."""

    share: float
    first: str = LEAST

    @property
    def name(self) -> str:
        """The policy's name, which says what it drops."""
        return f"drop {self.share:.0%}, {self.first} important first"

    def plan(
        self, importance: npt.NDArray[np.float32], sizes: npt.NDArray[np.intp], link: LinkEstimate, room: Room
    ) -> Plan:
        """Plan one group without parity, or no group if everything is dropped."""
        if self.first == MOST:
            importance = reversed_importance(importance)
        kept, dropped = keep_most_important(importance, round(100 * self.share, 9))
        if not len(kept):
            return Plan(len(sizes), dropped, ())
        stripe = Stripe(kept, room.packing(sizes[kept], BARE), BARE)
        return Plan(len(sizes), dropped, (Group(stripe.k, (stripe,)),))


def reversed_importance(importance: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return an importance (packets,) with the reversed ranking, including ties."""
    reverse = np.empty(len(importance), np.float32)
    reverse[ranking(importance)] = np.arange(len(importance))
    return reverse
