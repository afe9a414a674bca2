"""`gradfec sweep adapt`: how the policy `auto` copes with links that it knows nothing about, in virtual time.

The real protocol cores drive along each link, and the answers are those of the real network. `auto` is compared with
the best fixed plan: the quality and the (n, k) that one would choose afterwards, knowing all losses, with at most as
many bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from gradfec_cli.channel import loss_model
from gradfec_cli.loss_models import LossModel
from gradfec_common.codes import ZFEC
from gradfec_common.decode import decode_tensor
from gradfec_common.delivery import packets_at_hand, tensor_at_hand
from gradfec_common.errors import UsageError
from gradfec_common.protect import UNKNOWN_LINK, NestedProtection, Policy
from gradfec_common.protect.auto import NAME as AUTO_PROTECT
from gradfec_common.quantisers.laplace import Laplace
from gradfec_edge.adaptation import PASS_S
from gradfec_edge.coding import BOTTLENECK, Coding, codec_file, coding_of, frame_bytes
from gradfec_edge.frontend import Features
from gradfec_host.codec_file import CodecFile
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_lab.drive.drive import Shot, Trip, drive
from gradfec_lab.drive.road import Stretch
from gradfec_lab.drive.scenes import LOSSES, losing, road
from gradfec_lab.sweep.adapt_tables import regret_table, request_table, step_table
from gradfec_lab.sweep.codecs import make_codec
from gradfec_lab.sweep.ends import Ends, ends_of, load_ends
from gradfec_lab.sweep.report import Report
from gradfec_lab.sweep.store import write_file
from gradfec_lab.sweep.study import Study, study_options

FIXED_QUALITIES = (1, 2, 3, 5)
FIXED_N = (4, 6, 8, 12, 16, 24)
FIXED_SHARES = (1.0, 0.85, 0.7, 0.55, 0.4, 0.3, 0.2)  # k / n
BEST = 3  # fixed plans that look best by the codec's worth are asked for their real answers
STEP_ROAD = road((0, losing(0.02)), (20, losing(0.25)), (40, losing(0.02)))
STEP_DRIVES, STEP_FRAMES, STEP_SMOOTH = 10, 350, 25  # frames, and how many are averaged
ASKED_LOSSES = [(loss, burst) for burst in (None, 8.0) for loss in (0.2, 0.5, 0.7)]


@click.command(context_settings=CONTEXT)
@plain_errors
@study_options
@click.option("--codec", default=BOTTLENECK, metavar="NAME", help="bottleneck, the shipped one, or FILE.npz.")
@click.option("--frames", default=300, type=click.IntRange(25), help="Frames on each link, 5 a second.")
@click.option("--bytes", "most_bytes", default=12_000, type=click.IntRange(1_000), help="Bytes a frame, at most.")
@click.option("--drives", default=1, type=click.IntRange(1), help="Drives along each link, with other losses.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def adapt(study: Study, codec: str, frames: int, most_bytes: int, drives: int, as_json: bool) -> None:
    """Drive along links whose losses change, with the policy `auto`, and compare it with the best fixed plan.

    The second table has the same with and without requests for more, at a round trip of 80 ms.
    """
    file = codec_file(codec, study.cut)
    if file is None or file.worth is None:
        raise UsageError(f"--codec {codec} is not a bottleneck whose worth was measured: train one, or leave it out")
    Adapting(study, file, codec, frames, most_bytes, drives).report().show(as_json)


@dataclass(frozen=True)
class Run:
    """Frames over one link: who was right, frame after frame, and the mean bytes."""

    right: npt.NDArray[np.bool_]
    bytes: float
    late_s: float | None = None  # the 95th percentile of the latency

    @property
    def agreement(self) -> float:
        """The share of all frames, those without an answer included."""
        return float(self.right.mean())


class Adapting:
    """Drives, and asks the network for each answer once."""

    def __init__(self, study: Study, file: CodecFile, codec: str, frames: int, most_bytes: int, drives: int) -> None:
        """Load the networks, and run the edge's half on all images."""
        self._study, self._file, self._frames, self._drives = study, file, frames, drives
        self._most_bytes = most_bytes
        self._coding = coding_of(study.cut, None, codec, AUTO_PROTECT, ZFEC.name)
        self._ends: Ends = load_ends(self._coding)
        uncut = make_codec("webp", study.cut, study.grid.rows)
        whole = ends_of([uncut])[uncut.place]
        self._features: list[Features] = []
        self._reference: list[int] = []
        for name in study.names:
            image = study.photographs.read(name)
            if image is not None:
                self._features.append(self._ends.features(image))
                self._reference += whole.classes([whole.features(image).chi])
        self._known: dict[tuple[int, bytes, bytes], int] = {}  # answers, by image, parameters, packets

    def report(self) -> Report:
        """Drive along all links; write the results into the study's folder, if it has one."""
        regrets, requests, step = [*self._regrets()], [*self._requests()], self._step()
        members: dict[str, Any] = {
            "images": len(self._features),
            "regret": regrets,
            "requests": requests,
            "step": step,
        }
        tables = [
            regret_table(regrets, self._most_bytes),
            request_table(requests, self._most_bytes),
            step_table(step, STEP_SMOOTH),
        ]
        if self._study.out is not None:
            self._study.out.mkdir(parents=True, exist_ok=True)
            write_file(self._study.out / "adapt.json", json.dumps(members, indent=1).encode())
            write_file(self._study.out / "adapt.md", "\n".join(table.markdown() for table in tables).encode())
        return Report(members, tables)

    def _regrets(self) -> Iterator[dict[str, Any]]:
        for name, stretches in LOSSES.items():
            auto = self.auto(stretches)
            fixed = self.best_fixed(stretches, auto.bytes)
            yield {
                "link": name,
                "agreement": auto.agreement,
                "bytes": auto.bytes,
                **({} if fixed is None else {"fixed": fixed[0], "fixed_agreement": fixed[1].agreement,
                                             "fixed_bytes": fixed[1].bytes}),
            }  # fmt: skip

    def _requests(self) -> Iterator[dict[str, Any]]:
        for loss, burst in ASKED_LOSSES:
            stretches = road((0, losing(loss, burst)))
            with_requests, without = self.auto(stretches), self.auto(stretches, most_rounds=0)
            yield {
                "loss": loss,
                "burst": burst,
                **{
                    name: {"agreement": run.agreement, "bytes": run.bytes, "late_ms": 1000 * (run.late_s or 0.0)}
                    for name, run in (("with", with_requests), ("without", without))
                },
            }

    def _step(self) -> dict[str, Any]:
        """Drive many times over a link that loses 2 %, then 25 %, then 2 %, with new losses each time."""
        (steady, few), (agreement, size) = (self._means(stretches) for stretches in (STEP_ROAD[:1], STEP_ROAD))
        up, down = (round(stretch.since * 5) for stretch in STEP_ROAD[1:])
        lost = steady - agreement  # of the same images, which differ in how hard they are
        return {
            "drives": STEP_DRIVES,
            "agreement": {"without": float(steady[up:down].mean()), "during": float(agreement[up:down].mean())},
            "bytes": {"without": float(few[up:down].mean()), "during": float(size[up:down].mean())},
            "frames_until_right": first(lost[up:] <= 0.02),
            "frames_until_cheap": first(size[down:] <= 1.1 * few[down:]),
        }

    def _means(self, stretches: Sequence[Stretch]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the agreement and the bytes of each frame over many drives, smoothed."""
        right, sizes = [], []
        for seed in range(STEP_DRIVES):
            trip = Trip(self._coding, self._features_of, frames=STEP_FRAMES, most_bytes_per_s=self._rate)
            shots = drive(stretches, trip, self._study.seed + seed).shots
            right.append([self._is_right(shot) for shot in shots])
            sizes.append([shot.bytes for shot in shots])
        return smooth(np.mean(right, axis=0)), smooth(np.mean(sizes, axis=0))

    def auto(self, stretches: Sequence[Stretch], **limits: Any) -> Run:
        """Drive with `auto`, each time with other losses; `limits` are those of `Trip`."""
        shots: list[Shot] = []
        for seed in range(self._drives):
            trip = Trip(self._coding, self._features_of, frames=self._frames, most_bytes_per_s=self._rate, **limits)
            shots += connected(drive(stretches, trip, self._study.seed + seed).shots)
        right = np.array([self._is_right(shot) for shot in shots])
        latencies = [shot.latency_s for shot in shots if shot.latency_s is not None]
        late_s = float(np.percentile(latencies, 95)) if latencies else None
        return Run(right, float(np.mean([shot.bytes for shot in shots])), late_s)

    @property
    def _rate(self) -> float:
        """The bytes a second at which `auto` plans for frames of `most_bytes`."""
        return self._most_bytes / PASS_S

    def _features_of(self, number: int) -> Features:
        return self._features[number % len(self._features)]

    def _is_right(self, shot: Shot) -> bool:
        if shot.arrived is None or shot.latency_s is None:
            return False
        image = shot.number % len(self._features)
        decoded = decode_tensor(shot.arrived, self._ends.conceal)
        there = np.sort(decoded.found.places).tobytes()
        key = (image, shot.arrived.parameters, there)
        if key not in self._known:
            (self._known[key],) = self._ends.classes([decoded.tensor])
        return self._known[key] == self._reference[image]

    # --- fixed plans ---

    def best_fixed(self, stretches: Sequence[Stretch], most_bytes: float) -> tuple[str, Run] | None:
        """Return the fixed plan of at most `most_bytes` a frame with the most right answers, and its run."""
        plans = [(plan, self._sent(plan)) for plan in _plans()]
        affordable = [plan for plan, size in plans if size is not None and size <= 1.005 * most_bytes]
        by_worth = sorted(affordable, key=lambda plan: -self._worth(plan, stretches))[:BEST]
        runs = [(plan.name, self._fixed(plan, stretches)) for plan in by_worth]
        return max(runs, key=lambda run: run[1].agreement, default=None)

    def _coding_for(self, plan: Fixed) -> Coding:
        quantiser = Laplace(self._file.step(plan.quality))
        return replace(self._coding, quantiser=quantiser, policy=plan.policy, target=None)

    def _sent(self, plan: Fixed) -> float | None:
        """Return the mean bytes of a frame; None if it has no room for all packets of some frame."""
        coding, sizes = self._coding_for(plan), []
        for features in self._features[:SIZED]:
            assert features.scores is not None, "the edge ranks packets"  # noqa: S101
            made, coded = coding.packets(features.chi, features.scores, features.damage, UNKNOWN_LINK)
            if coded.packets.sizes[made.dropped].any():
                return None
            sizes.append(frame_bytes(made, coding.quantiser))
        return float(np.mean(sizes))

    def _worth(self, plan: Fixed, stretches: Sequence[Stretch]) -> float:
        """Return the mean agreement that the codec's own curves give."""
        worth = self._file.worth
        assert worth is not None, "checked before"  # noqa: S101
        arrived = [int((~lost).sum()) for lost in self._losses(stretches, plan.n)]
        share = np.array(arrived) / plan.n
        kept = np.where(np.array(arrived) >= plan.k, 1.0, worth.by_chance(share))
        agreement = {one.quality: one.agreement for one in worth.qualities}[plan.quality]
        return agreement * float(kept.mean())

    def _fixed(self, plan: Fixed, stretches: Sequence[Stretch]) -> Run:
        coding = self._coding_for(plan)
        right, sizes = [], []
        for number, lost in enumerate(self._losses(stretches, plan.n)):
            image = number % len(self._features)
            features = self._features[image]
            assert features.scores is not None, "the edge ranks packets"  # noqa: S101
            made, coded = coding.packets(features.chi, features.scores, features.damage, UNKNOWN_LINK)
            sizes.append(frame_bytes(made, coding.quantiser))
            arrived = ~lost[: made.sent]
            if not arrived.any():
                right.append(False)
                continue
            at_hand = packets_at_hand(made, arrived)
            key = (image, coded.parameters, np.flatnonzero(at_hand).tobytes())
            if key not in self._known:
                tensor = tensor_at_hand(coded, at_hand, coding.quantiser, self._ends.conceal, coding.grid)
                (self._known[key],) = self._ends.classes([tensor])
            right.append(self._known[key] == self._reference[image])
        return Run(np.array(right), float(np.mean(sizes)))

    def _losses(self, stretches: Sequence[Stretch], n: int) -> Iterator[npt.NDArray[np.bool_]]:
        """Yield which of its n datagrams each frame loses."""
        for drive_seed in range(self._drives):
            rng = np.random.default_rng([self._study.seed, drive_seed, n])
            models: list[LossModel] = [loss_model(one.there, rng) for one in stretches]
            for number in range(self._frames):
                at = number / 5
                current = sum(one.since <= at for one in stretches) - 1
                yield models[current].draw(n)


def connected(shots: list[Shot]) -> list[Shot]:
    """Return the frames since the edge has found its cloud: fixed plans are compared without a handshake."""
    first = next((number for number, shot in enumerate(shots) if shot.plan is not None), len(shots))
    return shots[first:]


@dataclass(frozen=True)
class Fixed:
    """A fixed plan: a quality, and n datagrams of which any k are enough."""

    quality: int
    n: int
    k: int

    @property
    def name(self) -> str:
        """As the user writes it."""
        return f"--quality {self.quality} --protect {self.policy.name}"

    @property
    def policy(self) -> Policy:
        """The policy."""
        return NestedProtection((self.k,), self.n, ZFEC)


SIZED = 40  # images by which a fixed plan's bytes are estimated


def _plans() -> Iterator[Fixed]:
    for quality in FIXED_QUALITIES:
        for n in FIXED_N:
            for k in sorted({max(round(n * share), 1) for share in FIXED_SHARES}):
                yield Fixed(quality, n, k)


def smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the means of each value and those that follow, STEP_SMOOTH in all."""
    return np.convolve(values, np.full(STEP_SMOOTH, 1 / STEP_SMOOTH), "valid")


def first(holds: npt.NDArray[np.bool_]) -> int | None:
    """Return the number of the first that holds; None if none does."""
    return int(holds.argmax()) if holds.any() else None
