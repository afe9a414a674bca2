"""`gradfec sweep kept`: answers against the share of a bottleneck's bytes that is kept, for each estimator's ranking.

The paper's Figure 5, over bytes instead of packets: those of latents differ in size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from gradfec_cli.oracle import ORACLE
from gradfec_common.delivery import tensor_at_hand
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid
from gradfec_common.protect.plan import ranking
from gradfec_edge.coding import BOTTLENECK
from gradfec_edge.importance.free import draws_for
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_host.quality import DEFAULT_QUALITY, QUALITIES
from gradfec_lab.sweep.arguments import chosen_from, names_list, read_share
from gradfec_lab.sweep.codecs import Codec, make_codec
from gradfec_lab.sweep.ends import Floats, Image, ends_of
from gradfec_lab.sweep.engine import REFERENCE
from gradfec_lab.sweep.report import Report, Row, lossless, measure, pivot, shares_and_intervals, text
from gradfec_lab.sweep.statistics import Bootstrap
from gradfec_lab.sweep.store import Record, Store
from gradfec_lab.sweep.study import Study, study_options

RANDOM = "random"
ESTIMATORS = (ORACLE, "proxy", "energy", "order", RANDOM)
KEYS = ("estimator", "kept")
Scores = Callable[[Image, Floats], Floats]  # RGB (side, side, 3), latents (H, W, C) -> (packets,)


@click.command(context_settings=CONTEXT)
@plain_errors
@study_options
@click.option("--codec", default=BOTTLENECK, metavar="NAME", help="bottleneck, the shipped one, or FILE.npz.")
@click.option(
    "--quality", default=DEFAULT_QUALITY, type=click.IntRange(QUALITIES[0], QUALITIES[-1]), help="The codec's quality."
)
@click.option(
    "--estimators",
    default=",".join(ESTIMATORS),
    metavar="NAMES",
    help=f"Estimators that rank the packets: {ORACLE} is the oracle, order their place alone.",
)
@click.option("--kept", default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9", metavar="SHARES", help="Shares of the bytes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def kept(study: Study, codec: str, quality: int, estimators: str, kept: str, as_json: bool) -> None:
    """Keep a share of a bottleneck's bytes, the most important packets first, and see whether the answer stays.

    Agreement is with the uncut network's answer to the same picture. Intervals are 95 %, by bootstrap over the images.
    With --out, an interrupted run resumes.
    """
    shares = sorted({read_share("--kept", part) for part in names_list(kept)})
    chosen = chosen_from("--estimators", ESTIMATORS)(estimators)
    report(study, make_codec(codec, study.cut, study.grid.rows, [quality]), chosen, shares).show(as_json)


def point_name(estimator: str, share: float) -> str:
    """Return a point's name in the store."""
    return f"{estimator}/{text(share)}"


class Rankings:
    """Asks the networks for what the store lacks."""

    def __init__(self, study: Study, codec: Codec, estimators: list[str], shares: list[float], store: Store) -> None:
        """Load the networks."""
        (setting,) = codec.quantisers
        self._coding, self._shares, self._seed = codec.at(setting), shares, study.seed
        uncut = make_codec("webp", study.cut, study.grid.rows)
        ends = ends_of([uncut, codec])
        self._uncut, self._ends = ends[uncut.place], ends[codec.place]
        self._scores = {name: load_scores(name, self._coding.cut, self._coding.grid) for name in estimators}
        store.vouch({"the codec": f"{codec.place}, {setting}"} | self._ends.fingerprints)

    def examine(self, name: str, image: Image) -> Record:
        """Return the classes for an RGB image: the uncut network's, and one for each point."""
        (reference,) = self._uncut.classes([self._uncut.features(image).chi])
        points, tensors = zip(*self._cases(name, image), strict=True)
        classes = self._ends.classes(tensors)
        return Record(answers={REFERENCE: [reference]} | {p: [c] for p, c in zip(points, classes, strict=True)})

    def _cases(self, name: str, image: Image) -> Iterator[tuple[str, Floats]]:
        coding, chi = self._coding, self._ends.features(image).chi
        coded = coding.quantiser.encode(chi, coding.grid)
        for estimator, scores in self._scores.items():
            ranks = draws_for(self._seed, name, coding.grid) if estimator == RANDOM else scores(image, chi)
            for share in self._shares:
                at_hand = first_bytes(ranks, coded.packets.sizes, share)
                tensor = tensor_at_hand(coded, at_hand, coding.quantiser, self._ends.conceal, coding.grid)
                yield point_name(estimator, share), tensor


def first_bytes(scores: Floats, sizes: npt.NDArray[np.intp], share: float) -> npt.NDArray[np.bool_]:
    """Return which packets (count,) are the most important ones that have at most a `share` of the bytes."""
    order = ranking(scores)
    within = np.cumsum(sizes[order]) <= share * sizes.sum()
    chosen = np.zeros(len(sizes), bool)
    chosen[order[within]] = True
    return chosen & (sizes > 0)


def load_scores(name: str, cut: Cut, grid: PacketGrid) -> Scores:
    """Load an estimator for latents."""
    if name == ORACLE:
        return load_oracle(cut, grid)
    from gradfec_edge.importance import Estimator, EstimatorFile, make_estimator

    made: Estimator | EstimatorFile = make_estimator(name, cut, grid, np.random.default_rng(0))
    assert not isinstance(made, EstimatorFile), "latents are ranked by what is free, or in their codec"  # noqa: S101
    return made


def load_oracle(cut: Cut, grid: PacketGrid) -> Scores:
    """Load Grad-CAM at the latents. Takes seconds."""
    from gradfec_cli.gradcam import GradCam
    from gradfec_edge.importance.free import packet_sums
    from gradfec_host.codec_file import weights_of

    gradcam = GradCam(cut, weights_of(cut.network), batch=1)

    def scores(image: Image, chi: Floats) -> Floats:
        return packet_sums(gradcam(with_mask(chi)[np.newaxis]).elements[0, ..., : chi.shape[2]], grid)

    return scores


def with_mask(chi: Floats) -> Floats:
    """Return latents (..., C) as the decoder gets them if nothing is rounded and nothing is missing: (..., 2C)."""
    return np.concatenate([chi, np.ones_like(chi)], axis=-1)


def report(study: Study, codec: Codec, estimators: list[str], shares: list[float]) -> Report:
    """Compute what is missing, and report everything, also into the study's folder if it has one."""
    points: dict[str, Row] = {
        point_name(name, share): {"estimator": name, "kept": share} for name in estimators for share in shares
    }
    with study.store("kept") as store:
        todo = [name for name in study.names if not store.knows(name, {REFERENCE: 1} | dict.fromkeys(points, 1), [])]
        if todo:
            study.each(store, todo, Rankings(study, codec, estimators, shares, store).examine, "ranking packets")
        names = study.usable(store)
        rows = measure(store, names, points, 1, study.truth, Bootstrap(len(names))).rows()
        members: dict[str, Any] = {
            **study.about(store, names),
            "lossless_top1": lossless(store, names, study.truth),
            **shares_and_intervals(rows, KEYS),
        }
    title = f"by share of the bytes that is kept; {len(names)} images"
    tables = [pivot(f"Agreement with the uncut network, %, {title}", rows, KEYS[:1], KEYS[1])]
    if "top1" in rows[0]:
        tables.append(pivot(f"Top-1, %, {title}", rows, KEYS[:1], KEYS[1], "top1"))
    made = Report(members, tables)
    if study.out is not None:
        from gradfec_lab.sweep.figures import kept_figure

        made.write(study.out, "kept", rows, kept_figure(rows))
    return made
