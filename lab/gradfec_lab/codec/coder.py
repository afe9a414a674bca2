"""What is learned, and how to train it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .graph import Graph
from .job import Job
from .latents import as_seen, bits, rounded

STEER = 0.01  # how fast the weight of the rate follows the bytes
AREA = 14 * 14
DEEP_RATES, IMPORTED_DEEP_RATES = (1e-4, 1e-6), (2e-5, 1e-6)


@dataclass(frozen=True)
class Settings:
    """How to train. A frame has `least_bytes` at quality 0, `most_bytes` at quality 1, and the rest between.

    That is for latents of 14 x 14; others have more or fewer in proportion. `deep_rates` are by default those of the
    network: of an imported one, the second stage began to unlearn at 1e-4.
    """

    seed: int = 0
    images: int = 0  # 0: all
    warm_steps: int = 1_500  # of the feature steps, the first: nothing is missing, and the rate is free
    features_steps: int = 8_200
    features_rates: tuple[float, float] = (2e-3, 1e-4)
    deep_steps: int = 3_600
    deep_rates: tuple[float, ...] = ()
    batch: int = 32
    least_bytes: float = 2_300.0
    most_bytes: float = 14_000.0
    losses: bool = True  # learn with packets missing


class Codec(nn.Module):
    """What is learned: encoder and decoder; beside them, how the step falls, and what the rate weighs."""

    def __init__(self, job: Job, settings: Settings) -> None:
        super().__init__()
        self.job, self.settings = job, settings
        self.encoder, self.decoder = Graph(job.encoder), Graph(job.decoder)
        self.encoder.normalise()
        self.decoder.normalise()
        self.register_buffer("log_weight", torch.tensor(-6.0))  # of the rate, at quality 0
        self.register_buffer("fall", torch.tensor(math.log(15.0)))  # of the step's logarithm, from quality 0 to 1

    def forward(
        self, chi: Tensor, quality: Tensor, there: Tensor, noise: Tensor, *, rounds: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return what the decoder makes of features (N, C, H, W), and the bits of each packet (N, C, strips).

        It is the decoder's output before its last ReLU, if it has one. Unless it `rounds`, there is noise instead.
        """
        latents = self.encoder({self.job.cut: chi}).float()
        steps = self.step(quality)
        levels = latents / steps[:, None, None, None]
        seen = as_seen(rounded(levels) if rounds else levels + noise, steps, there)
        last = self.job.decoder[-1]
        before = last["inbound"][0] if self.rectifies else last["name"]
        return self.decoder({"latents": seen}, before), bits(levels, noise, there.shape[2])

    @property
    def rectifies(self) -> bool:
        """Whether the decoder ends in a ReLU."""
        return bool(self.job.decoder[-1]["kind"] == "Activation")

    def aim(self, quality: Tensor) -> Tensor:
        """Return the bytes that frames of a quality should have."""
        low, high = math.log(self.settings.least_bytes), math.log(self.settings.most_bytes)
        height, width, _ = self.job.encoder[-1]["shape"]
        return torch.exp(low + (high - low) * quality) * (height * width / AREA)

    def step(self, quality: Tensor) -> Tensor:
        """Return the step to whose multiples the latents of a quality are rounded: 1 at quality 0."""
        return torch.exp(-self.fall * quality)

    def rate_weight(self, quality: Tensor) -> Tensor:
        """Return the weight of a frame's bits per latent: with fine steps, it falls as their squared errors do."""
        return torch.exp(self.log_weight - 2 * self.fall * quality)

    @torch.no_grad()
    def steer(self, quality: Tensor, frame_bytes: Tensor) -> None:
        """Give the rate more weight if frames have too many bytes, and let the step fall less if the finest ones do."""
        error = (frame_bytes / self.aim(quality)).log().clamp(-1, 1)
        self.log_weight += STEER * error.mean()
        self.fall -= STEER * (error * (quality - 0.5)).mean()
