"""A policy only for sweeps: the packets in DFTS2's order, one a datagram, without parity.

A. Dhondea, R. A. Cohen, I. V. Bajic, "DFTS2: Simulating Deep Feature Transmission Over Packet Loss Channels", 2021:
the losses of a tensor are drawn row group after row group, and within one channel after channel. So a burst takes the
same rows of neighbouring channels, where the product's order takes the rows of one channel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import BARE
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import Group, LinkEstimate, Plan, Room, Stripe
from gradfec_common.transmit import send_order

DFTS = "dfts"


@dataclass(frozen=True)
class RasterOrder:
    """Send every packet, row group after row group."""

    grid: PacketGrid
    name: str = DFTS

    def plan(
        self, importance: npt.NDArray[np.float32], sizes: npt.NDArray[np.intp], link: LinkEstimate, room: Room
    ) -> Plan:
        """Plan one group of one stripe with n = k, so that the product's send order has them in this order."""
        # places channel * groups + group -> (256, 8) -> (8, 256) -> (2048,)
        raster = np.arange(self.grid.count).reshape(-1, self.grid.groups).T.ravel()
        packing = room.packing(sizes, BARE)
        plan = Plan(len(raster), np.empty(0, np.intp), (Group(len(raster), (Stripe(raster, packing, BARE),)),))
        places = np.empty_like(raster)
        places[send_order(plan.shapes)] = raster
        return replace(plan, groups=(Group(len(raster), (Stripe(places, packing, BARE),)),))
