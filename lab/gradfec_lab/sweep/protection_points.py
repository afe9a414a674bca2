"""The points of `gradfec sweep protection`: over codings, estimators, concealments and losses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from gradfec_cli.options import packets_text
from gradfec_common.codes import fec_code
from gradfec_common.conceal import make_concealment
from gradfec_common.delivery import packets_at_hand
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.protect import read_policy
from gradfec_common.quantisers import Quantiser
from gradfec_edge.coding import Coding, frame_bytes
from gradfec_host.concealment_file import learned_for
from gradfec_lab.sweep.engine import Case, Deliveries, Subject
from gradfec_lab.sweep.losses import Losses, is_feasible
from gradfec_lab.sweep.report import Row, text
from gradfec_lab.sweep.study import Study

Link = tuple[str, float]  # mean length of a burst, share of the datagrams to lose
CodingKey = tuple[str, str, str]  # quantiser, code, policy


@dataclass(frozen=True)
class Variants:
    """What varies besides the link; `packets_a_datagram` is None for as many as fit."""

    quantisers: list[Quantiser]
    packets_a_datagram: int | None
    codes: list[str]
    policies: list[str]
    estimators: list[str]
    fills: list[str]


class ProtectionSweep:
    """What the edge sends of each image, and which of its datagrams the link loses."""

    def __init__(
        self, study: Study, variants: Variants, links: list[Link], repetitions: int, masks: Path | None = None
    ) -> None:
        """Take the options' values; UsageError if they do not fit together, or do not fit the cut."""
        self.study, self.repetitions, self.masks = study, repetitions, masks
        self.packets = packets_text(variants.packets_a_datagram)
        self.estimators = variants.estimators
        learned = learned_for(study.cut)
        self.fills = {name: make_concealment(name, study.cut, learned) for name in variants.fills}
        self.codings: dict[CodingKey, Coding] = {}
        for quantiser, code, written in product(variants.quantisers, variants.codes, variants.policies):
            policy = read_policy(written, fec_code(code))  # nothing is coded, so the code's library may be missing
            coding = Coding(study.cut, study.grid, quantiser, policy, variants.packets_a_datagram)
            check_datagrams(coding)
            self.codings[quantiser.name, code, policy.name] = coding
        self.links = [link for link in links if is_feasible(*link)]
        self.left_out = [link for link in links if not is_feasible(*link)]
        self.recorded = Losses(len(study.names), repetitions, study.grid.count)
        self._index = {name: i for i, name in enumerate(study.names)}

    def settings(self) -> dict[str, str]:
        """Return the settings that the answers depend on, besides the study's; GradfecError for unreadable --masks."""
        if self.masks is None:
            return {"losses": "drawn from the seed"}
        try:
            return {"losses": "recorded, " + hashlib.sha256(self.masks.read_bytes()).hexdigest()[:16]}
        except OSError as error:
            raise GradfecError(f"cannot read the recorded losses {self.masks}: {error.strerror}") from None

    def record_losses(self, folder: Path) -> None:
        """Replay the losses, or draw them and record them in the folder."""
        if self.masks is not None:
            self.recorded.load(self.masks, self.links)
        else:
            self.recorded.draw(self.links, self.study.seed)
            self.recorded.save(folder / "losses.npz")

    def points(self) -> dict[str, Row]:
        """Return each point's fields, by its name in the store."""
        rows = (self._point(*each) for each in product(self.codings, self.estimators, self.fills, self.links))
        return {point_name(row): row for row in rows}

    def _point(self, coding: CodingKey, estimator: str, fill: str, link: Link) -> Row:
        codec, code, policy = coding
        burst, loss = link
        return {
            "codec": codec, "packets": self.packets, "code": code, "burst": burst, "importance": estimator,
            "policy": policy, "fill": fill, "loss": loss,
        }  # fmt: skip

    def costs(self) -> list[Row]:
        """Return a frame's datagrams and bytes for each way to code it; None if they depend on the image."""
        rows: list[Row] = []
        for (codec, code, policy), coding in self.codings.items():
            plan = coding.trial_plan()
            row: Row = {"codec": codec, "code": code, "policy": policy}
            row |= {"datagrams": plan and plan.sent, "bytes": plan and frame_bytes(plan, coding.quantiser)}
            rows.append(row)
        return rows

    def cases(self, subject: Subject) -> Iterator[Case]:
        """Yield an image's cases."""
        deliveries = Deliveries(subject)
        image = self._index[subject.name]
        lost = np.stack([self.recorded.lost(*link, image) for link in self.links])  # (links, repetitions, datagrams)
        for (key, coding), estimator in product(self.codings.items(), self.estimators):
            plan, delivered = deliveries(coding, estimator)
            at_hand = packets_at_hand(plan, ~lost[..., : plan.sent])  # (links, repetitions, packets)
            for (i, link), (rule, conceal) in product(enumerate(self.links), self.fills.items()):
                point = point_name(self._point(key, estimator, rule, link))
                for repetition in range(self.repetitions):
                    yield delivered.case(point, repetition, at_hand[i, repetition], rule, conceal)


def check_datagrams(coding: Coding) -> None:
    """Raise UsageError if a policy has no plan for the cut's packets, or one with more datagrams than packets."""
    plan = coding.trial_plan()
    if plan is not None and plan.sent > coding.grid.count:
        raise UsageError(
            f"{coding.policy.name} sends {plan.sent} datagrams, but losses are drawn for {coding.grid.count}, one for "
            "each packet: use fewer datagrams"
        )


def point_name(row: Row) -> str:
    """Return a point's name in the store."""
    return "/".join(map(text, row.values()))
