"""Mean and covariance of a tensor's channels, over all places of many tensors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.conceal.moments import COVARIANCE, MEANS, RECTIFIED

Floats = npt.NDArray[np.float32]


class Moments:
    """Sums over tensors, as they are and rectified."""

    def __init__(self, channels: int) -> None:
        self.tensors = 0
        self._places = 0
        self._sums = np.zeros((2, channels))
        self._products = np.zeros((2, channels, channels))

    def add(self, chi: Floats) -> None:
        """Take a tensor (H, W, C). Products are summed in float32 within a tensor, in float64 over tensors."""
        places = chi.reshape(-1, chi.shape[2])  # (H, W, C) -> (H * W, C)
        for kind, values in enumerate((places, np.maximum(places, 0))):
            self._sums[kind] += values.sum(axis=0, dtype=np.float64)
            self._products[kind] += values.T @ values
        self.tensors += 1
        self._places += len(places)

    def learned(self) -> dict[str, Floats]:
        """Return the arrays of `gradfec_common.conceal.moments`, and `means` (C,), those of rectified tensors."""
        means = self._sums / self._places
        covariance = self._products / self._places - means[:, :, None] * means[:, None, :]
        return {
            "means": means[RECTIFIED].astype(np.float32),
            MEANS: means.astype(np.float32),
            COVARIANCE: covariance.astype(np.float32),
        }
