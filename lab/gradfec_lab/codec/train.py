"""The two stages of training, with checkpoints from which an interrupted run continues as if it had never stopped.

The first learns the features where the decoder ends, the second those that decide the answer, deep in the network.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .coder import DEEP_RATES, IMPORTED_DEEP_RATES, Codec, Settings
from .features import Features
from .graph import Graph
from .job import Job
from .missing import draw_there
from .nodes import Nodes
from .result import write_result

CHECKPOINT_S = 120.0
REPORT_STEPS = 100
STAGES = ("features", "deep")
CALIBRATION_STEPS = 60
SCALE_IMAGES, SCALE_BATCH = 256, 8
HELD_OUT_IMAGES, HELD_OUT_BATCH, HELD_OUT_STEPS, HELD_OUT_QUALITY = 400, 16, 1000, 0.4


@dataclass(frozen=True)
class Point:
    """One line of the learning curves."""

    stage: str
    step: int
    seconds: float
    error: float  # of the features where the decoder ends, relative to their variance
    later_error: float  # of the features at the watched layers, too
    frame_bytes: float  # the mean, over all qualities


class Training:
    """A training run in a folder."""

    def __init__(self, job: Job, folder: Path, settings: Settings, report: Callable[[str], None]) -> None:
        rates = settings.deep_rates or (DEEP_RATES if job.nodes is None else IMPORTED_DEEP_RATES)
        self.job, self.folder, self.settings, self.report = job, folder, replace(settings, deep_rates=rates), report
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folder.mkdir(parents=True, exist_ok=True)
        self.features = Features(folder / "features", job, settings.images or len(job.images))
        torch.manual_seed(settings.seed)
        self.codec = Codec(job, settings).to(self.device, memory_format=torch.channels_last)
        # Imported networks are often made of depthwise convolutions, which PyTorch runs faster in float32 on CPUs.
        self.kind = torch.bfloat16 if job.nodes is None else torch.float32
        self.rest = job.rest().to(self.device, self.kind, memory_format=torch.channels_last)
        self.watched: list[list[str]] = [next(filter(self._may_watch, choices), []) for choices in job.watched]
        self.curves: list[Point] = []
        self.weights: dict[str, Tensor] = {}

    def run(self) -> None:
        """Train, or go on; compute the features first, unless they are there."""
        self.compute(lambda images: None)
        self.weights = self._weights()
        state = self._checkpoint()
        if state is not None and state["settings"] != self._told:
            raise ValueError(f"the checkpoints in {self.folder} are of {state['settings']}, not of {self._told}")
        if state is None or state["stage"] == "features":
            self._stage("features", state)
            self._calibrate()
            state = None
        self.codec.encoder.fold()
        self.codec.decoder.fold()
        self._stage("deep", state)
        write_result(self.codec, self._told, self.folder / "result.npz")

    def compute(self, advance: Callable[[int], None]) -> None:
        """Compute the features that are not there yet; `advance` is told of how many images they are there."""
        self.features.compute(self._compute, advance)

    @cached_property
    def _network(self) -> Graph:
        """The whole network."""
        return Graph(self.job.layers, self.job.weights).to(self.device, memory_format=torch.channels_last)

    def _compute(self, rows: slice) -> list[Tensor]:
        """Return the features and logits of images."""
        job, network = self.job, self._network
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            x = job.pictures(rows).to(self.device, memory_format=torch.channels_last)
            chi = network({job.input: x}, job.cut)
            joined = network({job.cut: chi}, job.joins)
            return [chi, joined, network({job.joins: joined}, logits=True)]

    @property
    def _told(self) -> dict[str, Any]:
        """The settings as a checkpoint holds them."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self.settings)))
        return found

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Let the normalisations' averages be those of whole images."""
        for step in range(CALIBRATION_STEPS):
            rng = np.random.default_rng([self.settings.seed, len(STAGES), step])
            rows = self.job.held_out + rng.choice(self.features.count - self.job.held_out, HELD_OUT_BATCH)
            chi = self._images([self.features.at_cut(row) for row in rows.tolist()])
            quality = torch.from_numpy(rng.random(len(chi), np.float32)).to(self.device)
            there, noise = self._undisturbed(len(chi))
            with torch.autocast(self.device.type, torch.bfloat16):
                self.codec(chi, quality, there, noise)

    def _undisturbed(self, images: int) -> tuple[Tensor, Tensor]:
        """Return packets that are all there, and no noise, for whole images."""
        height, width, channels = self.job.encoder[-1]["shape"]
        there = torch.ones(images, channels, height // self.job.rows, device=self.device)
        return there, torch.zeros(images, channels, height, width, device=self.device)

    def _stage(self, stage: str, state: dict[str, Any] | None) -> None:
        steps, rates = getattr(self.settings, f"{stage}_steps"), getattr(self.settings, f"{stage}_rates")
        optimiser = torch.optim.Adam(self.codec.parameters(), lr=rates[0])
        first = 0
        if state is not None:
            self.codec.load_state_dict(state["codec"])
            optimiser.load_state_dict(state["optimiser"])
            self.curves, first = [Point(**point) for point in state["curves"]], int(state["step"])
        saved = began = time.monotonic()
        sums = np.zeros(3)
        for step in range(first, steps):
            rate = rates[1] + (rates[0] - rates[1]) * (1 + math.cos(math.pi * step / steps)) / 2
            rate *= min(1.0, (step + 1) / 200)
            for group in optimiser.param_groups:
                group["lr"] = rate
            sums += self._step(stage, step, optimiser)
            if (step + 1) % REPORT_STEPS == 0:
                means = (sums / REPORT_STEPS).tolist()
                sums = np.zeros(3)
                each = (time.monotonic() - began) / (step + 1 - first)
                self.curves.append(Point(stage, step + 1, each, *means))
                self.report(
                    f"{stage} {step + 1}/{steps}: error {means[0]:.4f} and {means[1]:.4f}, "
                    f"{means[2]:,.0f} bytes, {each:.3f} s a step, "
                    f"weight {float(self.codec.log_weight):.2f}, fall {float(self.codec.fall):.2f}"
                )
            if (step + 1) % HELD_OUT_STEPS == 0 or step + 1 == steps:
                what = "error" if self.features.logits is None else "agreement"
                self.report("held out: {} {:.3f} at {:,.0f} bytes".format(what, *self._held_out()))
            if time.monotonic() - saved > CHECKPOINT_S or step + 1 == steps:
                self._save(stage, step + 1, optimiser)
                saved = time.monotonic()

    def _step(self, stage: str, step: int, optimiser: torch.optim.Optimizer) -> list[float]:
        rng = np.random.default_rng([self.settings.seed, STAGES.index(stage), step])
        rows = self.job.held_out + rng.choice(
            self.features.count - self.job.held_out, self.settings.batch, replace=False
        )
        chi, target = self._quarters(rows.tolist(), rng)
        quality = torch.from_numpy(rng.random(len(rows), np.float32)).to(self.device)
        channels = self.job.encoder[-1]["shape"][2]
        height, width = (side // self._shrink for side in chi.shape[2:])
        strips = max(1, height // self.job.rows)
        there = np.ones((len(rows), channels, strips), np.float32)
        warm = stage == STAGES[0] and step < self.settings.warm_steps
        if self.settings.losses and not warm:
            there = draw_there(rng, len(rows), channels, strips)
        noise = torch.from_numpy(rng.random((len(rows), channels, height, width), np.float32) - 0.5)
        with torch.autocast(self.device.type, torch.bfloat16):
            made, packet_bits = self.codec(
                chi, quality, torch.from_numpy(there).to(self.device), noise.to(self.device), rounds=False
            )
        seen = F.relu(made) if self.codec.rectifies else made
        later_error = self._later_error(seen, target, stage)
        error = self._error(made, target)
        elements = channels * height * width
        share = elements / math.prod(self.job.encoder[-1]["shape"])
        per_latent = packet_bits.sum((1, 2)) / elements
        loss = ((error + later_error) / 2 + self.codec.rate_weight(quality) * per_latent).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.codec.parameters(), 1.0)
        optimiser.step()
        frame_bytes = packet_bits.detach().sum((1, 2)) / share / 8
        if not warm:
            self.codec.steer(quality, frame_bytes)
        return [float(one.detach().mean()) for one in (error, later_error, frame_bytes)]

    def _error(self, made: Tensor, target: Tensor) -> Tensor:
        """Return the relative error (N,) of features (N, C, H, W).

        Where the target is above zero, that of the decoder's output before its ReLU: behind it, an output that is
        wrongly zero would have no gradient, and stay so.
        """
        wrong = made - target
        if self.codec.rectifies:
            wrong = wrong * ((target > 0) | (made > 0))
        return wrong.square().mean((2, 3)).float() @ self.weights[self.job.joins]

    def _later_error(self, made: Tensor, target: Tensor, stage: str) -> Tensor:
        """Return the relative error (N,) that features (N, C, H, W) lead to at the layers that a stage watches.

        Squared errors alone make features small where they are uncertain, which changes answers more than noise does.
        Without such layers, return their own error.
        """
        watched = self.watched[STAGES.index(stage)]
        if not watched:
            return (made - target).square().mean((2, 3)).float() @ self.weights[self.job.joins]
        with torch.no_grad():
            wanted = self._after(target, watched)
        errors = [
            (one - other).square().mean((2, 3)).float() @ self.weights[name]
            for name, one, other in zip(watched, self._after(made, watched), wanted, strict=True)
        ]
        return torch.stack(errors).mean(0)

    @torch.no_grad()
    def _may_watch(self, names: list[str]) -> bool:
        """Return whether the network can be run up to some layers on a quarter of an image, which training sees."""
        height, width, channels = self.job.shape(self.job.joins)
        latents = self.job.encoder[-1]["shape"]
        sides = (side // whole * max(whole // 2, 1) for side, whole in zip((height, width), latents[:2], strict=True))
        try:
            self._after(torch.zeros(1, channels, *sides, device=self.device), names)
        except RuntimeError:  # two branches of it do not have the same sides there
            return False
        return True

    def _after(self, joined: Tensor, wanted: Sequence[str]) -> list[Tensor]:
        """Return the outputs of later layers, from the features (N, C, H, W) that the decoder stands for."""
        joined, rest = joined.to(self.kind), self.rest
        if isinstance(rest, Nodes):
            return rest.after(joined, wanted)
        return [rest({self.job.joins: joined}, name) for name in wanted]

    @property
    def _shrink(self) -> int:
        return self.job.shape(self.job.cut)[0] // int(self.job.encoder[-1]["shape"][0])

    def _quarters(self, rows: list[int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return a quarter of the features of each image, at both ends."""
        sides = np.array(self.job.encoder[-1]["shape"][:2])
        grown, half = self.job.shape(self.job.joins)[0] // int(sides[0]), np.maximum(sides // 2, 1)
        inputs, targets = [], []
        for row in rows:
            at = rng.integers(0, sides - half + 1)
            inputs.append(self.features.at_cut(row, _window(at, half, self._shrink)))
            targets.append(self.features.at_join(row, _window(at, half, grown)))
        return self._images(inputs), self._images(targets)

    def _images(self, parts: list[Tensor]) -> Tensor:
        return torch.stack(parts).to(self.device).permute(0, 3, 1, 2)

    def _logits(self, made: Tensor) -> Tensor:
        assert isinstance(self.rest, Graph), "only a built-in network's"  # noqa: S101
        return self.rest({self.job.joins: made.to(self.kind)}, logits=True).float()

    @torch.no_grad()
    def _held_out(self) -> tuple[float, float]:
        """Return how many of some held-out images are answered as by the uncut network, and the bytes of a frame.

        Of an imported network, return the error instead: what its outputs mean is not known here.
        """
        count, size = min(HELD_OUT_IMAGES, self.job.held_out), HELD_OUT_BATCH
        found, total = 0.0, 0.0
        for first in range(0, count, size):
            rows = list(range(first, min(first + size, count)))
            chi = self._images([self.features.at_cut(row) for row in rows])
            there, noise = self._undisturbed(len(rows))
            with torch.autocast(self.device.type, torch.bfloat16):
                quality = torch.full((len(rows),), HELD_OUT_QUALITY, device=self.device)
                made, packet_bits = self.codec(chi, quality, there, noise)
                if self.features.logits is None:
                    target = self._images([self.features.at_join(row) for row in rows])
                    found += float(self._error(made, target).sum())
                else:
                    logits = self._logits(F.relu(made) if self.codec.rectifies else made)
                    same = logits.argmax(1).cpu().numpy() == self.features.logits[rows].argmax(1)
                    found += float(same.sum())
            total += float(packet_bits.sum()) / 8
        return found / count, total / count

    @torch.no_grad()
    def _weights(self) -> dict[str, Tensor]:
        """Return the weights (C,) of the features' errors: features that are their means have an error of 1."""
        first, later = self.job.held_out, [*dict.fromkeys(name for names in self.watched for name in names)]
        means: dict[str, list[Tensor]] = {name: [] for name in (self.job.joins, *later)}  # and those of the squares
        for start in range(first, first + SCALE_IMAGES, SCALE_BATCH):
            x = self._images([self.features.at_join(row) for row in range(start, start + SCALE_BATCH)])
            for of, one in zip(means.values(), (x, *self._after(x, later)), strict=True):
                of.append(torch.stack([one.float().mean((0, 2, 3)), one.float().square().mean((0, 2, 3))]))
        found = {}
        for name, of in means.items():
            mean, square = torch.stack(of).double().mean(0)
            variance = (square - mean**2).clamp(min=0)
            found[name] = (1 / (variance + 1e-2 * variance.mean()) / len(variance)).float()
        return found

    # --- checkpoints ---

    def _save(self, stage: str, step: int, optimiser: torch.optim.Optimizer) -> None:
        state = {
            "stage": stage,
            "step": step,
            "codec": self.codec.state_dict(),
            "optimiser": optimiser.state_dict(),
            "curves": [asdict(point) for point in self.curves],
            "settings": self._told,
        }
        partial = self.folder / "checkpoint.part"
        torch.save(state, partial)
        partial.replace(self.folder / f"{stage}.pt")
        (self.folder / "curves.json").write_text(json.dumps(state["curves"]))

    def _checkpoint(self) -> dict[str, Any] | None:
        """Return the newest checkpoint: that of the second stage, if it has begun."""
        for stage in reversed(STAGES):
            path = self.folder / f"{stage}.pt"
            if path.exists():
                found: dict[str, Any] = torch.load(path, weights_only=True, map_location=self.device)
                return found
        return None


def _window(at: Any, size: Any, scale: int) -> tuple[slice, slice]:
    """Return the window of `size` latents from (row, column) `at` in features of `scale` elements a latent."""
    (row, column), (height, width) = (at * scale).tolist(), (size * scale).tolist()
    return slice(row, row + height), slice(column, column + width)
