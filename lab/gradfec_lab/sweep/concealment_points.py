"""The points of `gradfec sweep concealment`: over ways to send, concealments and losses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from gradfec_common.conceal import make_concealment
from gradfec_common.delivery import packets_at_hand
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid, select_packets
from gradfec_common.protect import UNKNOWN_LINK, AutoProtection, LinkEstimate, Policy, read_policy
from gradfec_common.protect.link import Losses as GilbertLosses
from gradfec_common.quantisers import Quantiser
from gradfec_edge.coding import Coding, frame_bytes
from gradfec_host.concealment_file import learned_for
from gradfec_lab.sweep.engine import Case, Delivered, Subject
from gradfec_lab.sweep.losses import IID, Losses, is_feasible
from gradfec_lab.sweep.protection_points import Link, check_datagrams, point_name
from gradfec_lab.sweep.raster import DFTS, RasterOrder
from gradfec_lab.sweep.report import Row
from gradfec_lab.sweep.study import Study

TIMED = 0.3  # share of the packets that are missing when a concealment is timed


class ConcealmentSweep:
    """What the cloud makes of each image under each loss, by how it was sent and how gaps are filled."""

    def __init__(
        self,
        study: Study,
        quantiser: Quantiser,
        policies: list[str],
        estimator: str,
        fills: list[str],
        links: list[Link],
    ) -> None:
        """Take the options' values; UsageError if they do not fit together, or do not fit the cut."""
        self.study, self.quantiser, self.estimator = study, quantiser, estimator
        learned = learned_for(study.cut)
        self.fills = {name: make_concealment(name, study.cut, learned) for name in fills}
        self.codings = {name: coding_for(study.cut, study.grid, quantiser, name) for name in policies}
        for coding in self.codings.values():
            check_datagrams(coding)
        self.links = [link for link in links if is_feasible(*link)]
        self.recorded = Losses(len(study.names), 1, study.grid.count)
        self._index = {name: i for i, name in enumerate(study.names)}

    def points(self) -> dict[str, Row]:
        """Return each point's fields, by its name in the store."""
        every = product(self.codings, self.fills, self.links)
        rows = [{"policy": policy, "fill": fill, "burst": link[0], "loss": link[1]} for policy, fill, link in every]
        return {point_name(row): row for row in rows}

    def costs(self) -> dict[str, int | None]:
        """Return the bytes of a frame for each way to send it; None if they depend on the image."""
        plans = {name: coding.trial_plan() for name, coding in self.codings.items()}
        return {name: None if plan is None else frame_bytes(plan, self.quantiser) for name, plan in plans.items()}

    def cases(self, subject: Subject) -> Iterator[Case]:
        """Yield an image's cases. `auto` knows the link; the other policies do not ask."""
        scores, damage = subject.scores[self.estimator], subject.damages.get(self.estimator)
        for (policy, coding), link in product(self.codings.items(), self.links):
            plan, coded = coding.packets(subject.chi, scores, damage, estimate_of(link))
            delivered = Delivered(coded, self.quantiser, coding.grid)
            lost = self.recorded.lost(*link, self._index[subject.name])[0]  # (datagrams,)
            at_hand = packets_at_hand(plan, ~lost[: plan.sent])
            for fill, conceal in self.fills.items():
                row = {"policy": policy, "fill": fill, "burst": link[0], "loss": link[1]}
                yield delivered.case(point_name(row), 0, at_hand, fill, conceal)

    def milliseconds(self, subject: Subject) -> dict[str, float]:
        """Return what each concealment takes for the image, with TIMED of the packets missing at random."""
        grid, coded = self.study.grid, self.quantiser.encode(subject.chi, self.study.grid)
        at_hand = np.random.default_rng(self._index[subject.name]).random(grid.count) >= TIMED
        decoded = self.quantiser.decode(select_packets(coded.packets, np.flatnonzero(at_hand)), coded.parameters, grid)
        taken = {}
        for name, conceal in self.fills.items():
            tensor = decoded.tensor.copy()
            start = time.perf_counter()
            conceal(tensor, decoded.there, grid, decoded.step)
            taken[number(name)] = 1000 * (time.perf_counter() - start)
        return taken


def number(fill: str) -> str:
    """Return the name of a concealment's milliseconds in the store."""
    return f"ms/{fill}"


def coding_for(cut: Cut, grid: PacketGrid, quantiser: Quantiser, name: str) -> Coding:
    """Return how to send tensors; kept packets are not scaled, which would hide from the others what was dropped.

    No policy sends more datagrams than there are packets.
    """
    policy: Policy = RasterOrder(grid) if name == DFTS else read_policy(name)
    if isinstance(policy, AutoProtection):
        policy = replace(policy, most_sent=1)
    return Coding(cut, grid, quantiser, policy, packets_a_datagram=1, compensate=False)


def estimate_of(link: Link) -> LinkEstimate:
    """Return what an edge knows that has watched the link for long."""
    burst, loss = link
    if not 0 < loss < 1:
        return UNKNOWN_LINK
    return LinkEstimate(((1.0, GilbertLosses(loss, 1 / (1 - loss) if burst == IID else float(burst))),))
