"""`gradfec sweep protection`: how losses change the answers with each protection. The paper's Figure 6."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from gradfec_common.codes import fec_code
from gradfec_common.delivery import packets_at_hand
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.fill import Fill, fill_values
from gradfec_common.plan import Plan, Scheme, UnequalProtection, parse_scheme
from gradfec_common.transmit import FILLS, check_code
from gradfec_host.console import plain_errors
from gradfec_lab.sweep.engine import Case, Subject, delivered
from gradfec_lab.sweep.importance import parse_estimators, share_of
from gradfec_lab.sweep.losses import IID, Losses, is_feasible
from gradfec_lab.sweep.report import Row
from gradfec_lab.sweep.study import CONTEXT, Study, chosen_from, names_list, study_options

SCHEMES = "none,FEC_10_90,FEC_20_80,FEC_30_70,FEC_40_60,FEC_50_50"
LOSSES = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"


@click.command(context_settings=CONTEXT)
@plain_errors
@study_options
@click.option("--protect", default=SCHEMES, metavar="SCHEMES", help="Protections to compare: none, FEC_A_B.")
@click.option("--loss", default=LOSSES, metavar="SHARES", help="Shares of the symbols to lose.")
@click.option("--burst", default=IID, metavar="LENGTHS", help="Mean lengths of a burst; iid or 1: independent losses.")
@click.option(
    "--fec",
    default="zfec",
    metavar="CODES",
    help="zfec, with default blocks; zfec:256, with blocks of that size; leopard, with one code word over the tensor.",
)
@click.option(
    "--importance",
    "estimators",
    metavar="NAMES",
    help="Estimators that rank the packets. [default: the edge's default]",
)
@click.option("--fill", default="zero", metavar="RULES", help="How to fill gaps: zero, mean.")
@click.option("--repetitions", default=10, type=click.IntRange(1), help="Draws of the losses for each image.")
@click.option("--masks", type=click.Path(path_type=Path), help="Replay the losses of another sweep's losses.npz.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def protection(
    study: Study,
    protect: str,
    loss: str,
    burst: str,
    fec: str,
    estimators: str | None,
    fill: str,
    repetitions: int,
    masks: Path | None,
    as_json: bool,
) -> None:
    """Lose symbols, with and without protection, and see whether the answer stays the same (the paper's Figure 6).

    Each protection gets the same losses. A loss that is impossible with bursts of some length is left out, and listed.
    """
    from gradfec_edge.importance import DEFAULT_ESTIMATOR
    from gradfec_lab.sweep.protection_report import report

    sweep = ProtectionSweep(
        study,
        schemes=[parse_scheme(name) for name in names_list(protect)],
        losses=sorted({share_of("--loss", part) for part in names_list(loss)}),
        bursts=parse_bursts(burst),
        codes=names_list(fec),
        estimators=parse_estimators(estimators or DEFAULT_ESTIMATOR, study, "--importance"),
        fills=chosen_from("--fill", FILLS.values())(fill),
        repetitions=repetitions,
        masks=masks,
    )
    result = report(sweep)
    result.show(as_json)


def parse_bursts(text: str) -> list[str]:
    """Read mean burst lengths, `iid,8,20`; UsageError for one below 1."""
    bursts = []
    for part in names_list(text):
        try:
            length = 1.0 if part.lower() == IID else float(part)
        except ValueError:
            length = 0.0
        if not 1 <= length < 1e6:
            raise UsageError(f"--burst: {part!r} is not a mean length of a burst: use iid, or a number of at least 1")
        bursts.append(IID if length == 1 else f"{length:g}")
    return [*dict.fromkeys(bursts)]


class ProtectionSweep:
    """The points of a sweep over codes, bursts, estimators, schemes, fill rules and losses."""

    def __init__(
        self,
        study: Study,
        schemes: list[Scheme],
        losses: list[float],
        bursts: list[str],
        codes: list[str],
        estimators: list[str],
        fills: list[str],
        repetitions: int,
        masks: Path | None = None,
    ) -> None:
        """Take the options' values; UsageError if the split has no such fill, or a scheme has no plan."""
        self.study, self.estimators, self.repetitions, self.masks = study, estimators, repetitions, masks
        self.schemes = {scheme.name: scheme for scheme in schemes}
        self.fills: dict[str, Fill] = {rule: fill_values(rule, study.split) for rule in fills}
        self.codes = codes
        self.links = [(burst, loss) for burst in bursts for loss in losses if is_feasible(burst, loss)]
        self.left_out = [(burst, loss) for burst in bursts for loss in losses if not is_feasible(burst, loss)]
        self.variants = [*product(codes, bursts, estimators)]
        self.recorded = Losses(len(study.names), repetitions, study.grid.count)
        self._index = {name: i for i, name in enumerate(study.names)}
        for name in self.schemes:
            self.plan(name, codes[0], np.zeros(study.grid.count, np.float32))  # fail early
        for code in codes:
            check_code(fec_code(code), study.grid, study.split)

    def settings(self) -> dict[str, str]:
        """Return the settings that the answers depend on, besides the study's."""
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
        found: dict[str, Row] = {}
        for code, estimator, scheme, rule, (burst, loss) in product(
            self.codes, self.estimators, self.schemes, self.fills, self.links
        ):
            found[point_name(code, burst, estimator, scheme, rule, loss)] = {
                "code": code, "burst": burst, "importance": estimator, "scheme": scheme, "fill": rule, "loss": loss,
            }  # fmt: skip
        return found

    def plan(self, scheme: str, code: str, scores: npt.NDArray[np.float32]) -> Plan:
        """Plan as the product would, with a code's blocks; nothing is coded, so the code's library may be missing."""
        made = self.schemes[scheme]
        if isinstance(made, UnequalProtection):
            made = replace(made, code=fec_code(code))
        return made.plan(scores)

    def cases(self, subject: Subject) -> Iterator[Case]:
        """Yield an image's cases."""
        sent = delivered(subject, self.study.grid)
        image = self._index[subject.name]
        lost = np.stack(
            [self.recorded.lost(burst, loss, image) for burst, loss in self.links]
        )  # (links, reps, symbols)
        for code, estimator, scheme in product(self.codes, self.estimators, self.schemes):
            plan = self.plan(scheme, code, subject.scores[estimator])
            deliver = sent(estimator, plan)
            at_hand = packets_at_hand(plan, ~lost[..., : plan.sent])  # (links, repetitions, packets)
            for (i, (burst, loss)), (rule, fill) in product(enumerate(self.links), self.fills.items()):
                point = point_name(code, burst, estimator, scheme, rule, loss)
                for repetition in range(self.repetitions):
                    yield deliver.case(point, repetition, at_hand[i, repetition], rule, fill)


def point_name(code: str, burst: str, estimator: str, scheme: str, fill: str, loss: float) -> str:
    """Return a point's name in the store."""
    return f"{code}/{burst}/{estimator}/{scheme}/{fill}/{loss:g}"
