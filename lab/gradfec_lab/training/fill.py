"""Training the network of --fill learned: as a back-end is tuned, but what learns stands before the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradfec_common.conceal import Learned, learned
from gradfec_common.conceal.moments import AS_IT_IS, COVARIANCE, MEANS
from gradfec_lab.codec.graph import Graph
from gradfec_lab.training.back_end import Floats, Tuning


class FillTraining(Tuning):
    """A run: features are filled by `conceal`, then by the network, and go through the lossless layers."""

    def __init__(self, *arguments: Any, learned: Learned) -> None:
        """Take what Tuning does, and the cut's learned arrays, with statistics of the channels."""
        self._learned = learned
        super().__init__(*arguments)

    def to_tune(self, between: Callable[[], Graph]) -> nn.Module:
        """Return the network."""
        with torch.random.fork_rng():
            torch.manual_seed(self.settings.seed)
            deviations = np.sqrt(np.diagonal(self._learned[COVARIANCE][AS_IT_IS]) + np.float32(1e-6))
            return FillNetwork(self._learned[MEANS][AS_IT_IS], deviations).to(memory_format=torch.channels_last)

    def found(self, features: Tensor, there: Tensor) -> Tensor:
        """Return the features at the joint; see Tuning."""
        return self._lossless({self.cut.name: self.tuned(features, there)})


class FillNetwork(nn.Module):
    """The network that `gradfec_common.conceal.learned` runs. At first, it changes nothing."""

    def __init__(self, means: Floats, deviations: Floats) -> None:
        """See the channels (C,) with mean 0 and deviation 1, so that they learn alike."""
        super().__init__()
        channels, width = len(means), learned.WIDTH
        self.enter = nn.Conv2d(channels, width, 1)
        self.there = nn.Conv2d(channels, width, 1, bias=False)
        self.near = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.leave = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.register_buffer("means", torch.from_numpy(means)[:, None, None])
        self.register_buffer("deviations", torch.from_numpy(deviations)[:, None, None])

    def forward(self, features: Tensor, there: Tensor) -> Tensor:
        """Correct the filled `features` (N, C, H, W) in the rows that are not `there` (N, C, H, 1)."""
        inner = F.relu(self.enter((features - self.means) / self.deviations) + self.there(there))
        first, second = self.near
        inner = F.relu(inner + second(F.relu(first(inner))))
        return features + (1 - there) * self.deviations * self.leave(inner)

    def arrays(self) -> dict[str, Floats]:
        """Return the arrays of `gradfec_common.conceal.learned`, for features as they are."""
        means, deviations = self.means.flatten(), self.deviations.flatten()
        enter = self.enter.weight[:, :, 0, 0] / deviations  # (WIDTH, C)
        found = {
            learned.ENTER: enter.T,
            learned.ENTER_BIAS: self.enter.bias - enter @ means,
            learned.THERE: self.there.weight[:, :, 0, 0].T,
            learned.NEAR: torch.stack([one.weight.permute(2, 3, 1, 0) for one in self.near]),
            learned.NEAR_BIAS: torch.stack([one.bias for one in self.near]),
            learned.LEAVE: self.leave.weight[:, :, 0, 0].T * deviations,
            learned.LEAVE_BIAS: self.leave.bias * deviations,
        }
        return {name: array.detach().contiguous().numpy() for name, array in found.items()}
