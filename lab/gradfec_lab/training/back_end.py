"""Tuning the first layers after a cut to tensors with gaps, with PyTorch, against the lossless network's own answers.

The layers up to a later cut, the joint, are tuned; those after it stay as they are. At first, only the features at the
joint are compared, in a quarter of each tensor, which takes a fifth of the time; then the answers too.

An interrupted run resumes at its last checkpoint, and goes on as if it had not stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradfec_common.conceal import Concealment
from gradfec_common.conceal.gaps import rows_there
from gradfec_common.delivery import tensor_at_hand
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut, Layer
from gradfec_common.networks.pixels import normalise
from gradfec_common.packets import PacketGrid
from gradfec_common.quantisers import Quantiser
from gradfec_host.weights import Weights
from gradfec_lab.codec.graph import Graph
from gradfec_lab.training.gaps import draw_there

CHECKPOINT_S = 60.0
REPORT_STEPS = 25
WHOLE = 0.1  # the share of tensors without gaps
LOSSES = (0.0, 0.3, 0.5)  # at which the result is measured, on held-out images
FLOOR = 1e-2  # of a channel's variance, as a share of all channels'

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Settings:
    """How to tune; checkpoints of other settings are refused."""

    images: str  # a digest of the photographs
    cut: str
    joint: str
    rows: int
    codec: str
    fill: str
    losses: Sequence[str]
    most: float  # the largest share that is lost
    steps: int
    feature_steps: int  # the first steps, which compare features alone
    batch: int
    rate: float  # Adam's, at first; it falls to 0 along a cosine
    seed: int


def joint_of(cut: Cut, most_parameters: int) -> Cut:
    """Return the last cut with at most `most_parameters` between `cut` and it; UsageError if there is none."""
    cuts = cut.network.cuts
    after = [one for one in cuts[cuts.index(cut) + 1 :] if 0 < tuned_parameters(cut, one) <= most_parameters]
    if not after:
        raise UsageError(f"no few layers after {cut.name} can be tuned: name the last one with --until")
    return after[-1]


def tuned_parameters(cut: Cut, joint: Cut) -> int:
    """Count the parameters of the convolutions between two cuts."""
    return sum(
        math.prod(shape) for layer in _between(cut, joint) if layer.kind == "Conv2D" for shape in layer.arrays.values()
    )


def _between(cut: Cut, joint: Cut) -> list[Layer]:
    behind = set(cut.back_layers)
    return [layer for layer in joint.front_layers if layer in behind]


class Tuning:
    """A run: the network in parts, and the images, by their numbers."""

    def __init__(
        self,
        settings: Settings,
        cut: Cut,
        weights: Weights,
        read: Callable[[Sequence[int]], Images],
        quantiser: Quantiser,
        conceal: Concealment,
        checkpoint: Path,
    ) -> None:
        """Read images (n, side, side, 3) by `read`; gaps become what `conceal` makes of them."""
        self.settings, self.cut, self.joint = settings, cut, cut.network.cut(settings.joint)
        self.grid = PacketGrid(cut.shape, settings.rows)
        self._read, self._quantiser, self._conceal, self._checkpoint = read, quantiser, conceal, checkpoint
        network = cut.network
        arrays = {
            f"{layer.name}/{name}": array
            for layer in network.layers
            if layer.arrays
            for name, array in zip(layer.arrays, weights.arrays(layer.name), strict=True)
        }

        def part(layers: Sequence[Layer], dtype: torch.dtype = torch.bfloat16) -> Graph:
            graph: Graph = Graph([asdict(layer) for layer in layers], arrays)
            graph.to(dtype, memory_format=torch.channels_last)
            return graph

        between = _between(cut, self.joint)
        self._front, self._lossless, self._rest = map(part, (cut.front_layers, between, self.joint.back_layers))
        self.tuned = self.to_tune(partial(part, between, torch.float32))
        self.tuned.requires_grad_(True)

    def to_tune(self, between: Callable[[], Graph]) -> nn.Module:
        """Return what is tuned: here, the layers `between` the cut and the joint."""
        return between()

    def found(self, features: Tensor, there: Tensor) -> Tensor:
        """Return the features at the joint for what arrived (N, C, H, W), given which rows are there (N, C, H, 1)."""
        return self.tuned({self.cut.name: features})

    def run(self, fit: Sequence[int], report: Callable[[str], None], advance: Callable[[int], None]) -> None:
        """Tune on the images `fit`, or go on; UsageError if the checkpoint is of another training."""
        own = self.settings
        optimiser = torch.optim.Adam(self.tuned.parameters(), lr=own.rate)
        first = self._resume(optimiser)
        advance(first * own.batch)
        saved, recent = time.monotonic(), list[tuple[float, float]]()
        for step in range(first, own.steps):
            rng = np.random.default_rng([own.seed, step])
            rows = [fit[n] for n in rng.choice(len(fit), own.batch, replace=False)]
            for group in optimiser.param_groups:
                group["lr"] = own.rate * (1 + math.cos(math.pi * step / own.steps)) / 2
            recent.append(self._step(rows, rng, optimiser, answers=step >= own.feature_steps))
            advance(own.batch)
            if (step + 1) % REPORT_STEPS == 0:
                error, divergence = np.mean(recent, axis=0)
                report(f"step {step + 1}/{own.steps}: features {error:.4f}, answers {divergence:.4f} nats")
                recent = []
            if time.monotonic() - saved > CHECKPOINT_S or step + 1 == own.steps:
                self._save(step + 1, optimiser)
                saved = time.monotonic()

    def _step(
        self, rows: Sequence[int], rng: np.random.Generator, optimiser: torch.optim.Optimizer, answers: bool
    ) -> tuple[float, float]:
        chi, grid = self._features(rows), self.grid
        if not answers:
            chi = chi[quarter(self.grid, rng)]
            grid = PacketGrid((*chi.shape[2:], chi.shape[1]), grid.rows)
        features, there = self._delivered(grid, ((one, self._gaps(grid, one, rng)) for one in _numpy(chi)))
        with torch.no_grad():
            wanted = self._lossless({self.cut.name: chi})
        with torch.autocast("cpu", torch.bfloat16):
            found = self.found(features, there)
        variance = wanted.float().var((0, 2, 3))
        squares = (found.float() - wanted.float()).square().mean((0, 2, 3))
        error = (squares / (variance + FLOOR * variance.mean())).mean()
        divergence = torch.zeros(())
        if answers:
            logits = self._rest({self.joint.name: found.to(torch.bfloat16)}, logits=True).float()
            with torch.no_grad():
                own = self._rest({self.joint.name: wanted}, logits=True).float()
            divergence = F.kl_div(logits.log_softmax(1), own.log_softmax(1), reduction="batchmean", log_target=True)
        optimiser.zero_grad(set_to_none=True)
        (error + divergence).backward()
        nn.utils.clip_grad_norm_(self.tuned.parameters(), 1.0)
        optimiser.step()
        return float(error.detach()), float(divergence.detach())

    def _gaps(self, grid: PacketGrid, chi: Floats, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        return draw_there(rng, chi, grid, self.settings.losses, self.settings.most, WHOLE)

    def _delivered(
        self, grid: PacketGrid, cases: Iterable[tuple[Floats, npt.NDArray[np.bool_]]]
    ) -> tuple[Tensor, Tensor]:
        """Return what arrives of each chi (H, W, C) of which the packets (count,) do, and which rows are there.

        They are (N, C, H, W) and (N, C, H, 1).
        """
        features, rows = [], []
        for chi, there in cases:
            coded = self._quantiser.encode(chi, grid)
            features.append(tensor_at_hand(coded, there, self._quantiser, self._conceal, grid))
            rows.append(rows_there(there, grid).astype(np.float32)[:, None])
        return _torch(features), _torch(rows)

    @torch.no_grad()
    def _features(self, rows: Sequence[int]) -> Tensor:
        pictures = normalise(self._read(rows), self.cut.network.preprocess)
        return self._front({self.cut.network.input.name: _torch(pictures).to(torch.bfloat16)})

    @torch.no_grad()
    def agreement(self, held_out: Sequence[int], advance: Callable[[int], None]) -> list[tuple[float, float]]:
        """Return [loss, agreement] with the lossless network's answers, when packets are lost independently."""
        same = np.zeros(len(LOSSES))
        for row in held_out:
            chi = self._features([row])
            own = self._rest({self.joint.name: self._lossless({self.cut.name: chi})}, logits=True).argmax()
            rng = np.random.default_rng([self.settings.seed, self.settings.steps, row])
            draws = rng.random(self.grid.count)
            features, there = self._delivered(self.grid, ((_numpy(chi)[0], draws >= loss) for loss in LOSSES))
            with torch.autocast("cpu", torch.bfloat16):
                found = self.found(features, there)
            same += (self._rest({self.joint.name: found.to(torch.bfloat16)}, logits=True).argmax(1) == own).numpy()
            advance(1)
        return [*zip(LOSSES, (same / len(held_out)).round(4).tolist(), strict=True)]

    # --- checkpoints ---

    @property
    def _told(self) -> Mapping[str, Any]:
        told: Mapping[str, Any] = json.loads(json.dumps(asdict(self.settings)))
        return told

    def _resume(self, optimiser: torch.optim.Optimizer) -> int:
        """Return the steps that are done already."""
        if not self._checkpoint.exists():
            return 0
        state = torch.load(self._checkpoint, weights_only=True)
        for name, ours in self._told.items():
            theirs = state["settings"].get(name)
            if theirs != ours:
                raise UsageError(
                    f"{self._checkpoint} is of a training with {name} = {theirs!r}, not {ours!r}: remove it, or write "
                    "to another --out"
                )
        self.tuned.load_state_dict(state["tuned"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])

    def _save(self, step: int, optimiser: torch.optim.Optimizer) -> None:
        state = {
            "step": step,
            "tuned": self.tuned.state_dict(),
            "optimiser": optimiser.state_dict(),
            "settings": dict(self._told),
        }
        partial = self._checkpoint.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self._checkpoint)


def quarter(grid: PacketGrid, rng: np.random.Generator) -> tuple[slice, ...]:
    """Return a window of half the height and width of tensors (N, C, H, W), at a random place, of whole packets' rows.

    It is the whole of a side that is too small, or whose quarters have no whole number of packets.
    """
    window = [slice(None), slice(None)]
    for side, unit in zip(grid.shape[:2], (4 * grid.rows, 4), strict=True):
        first = side // 4 * int(rng.integers(3))
        window.append(slice(first, first + side // 2) if side % unit == 0 and side >= 16 else slice(None))
    return (*window,)


def _numpy(x: Tensor) -> Floats:
    """(N, C, H, W) -> (N, H, W, C), float32."""
    made: Floats = np.ascontiguousarray(x.float().permute(0, 2, 3, 1).numpy())
    return made


def _torch(x: Sequence[Floats] | Floats) -> Tensor:
    """(N, H, W, C) -> (N, C, H, W), channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(np.stack([*x]))).permute(0, 3, 1, 2)
