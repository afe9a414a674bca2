"""Intervals by bootstrap over images; rank correlation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVELS = (2.5, 97.5)  # percentiles: the ends of a 95 % interval
SEED = 2023

Values = npt.NDArray[np.float64]


class Bootstrap:
    """The percentile bootstrap over images (Efron, 1979), with the same resamples for all measurements.

    An image is drawn together with all its measurements. So its repetitions stay together, and the interval of a
    difference between two columns is that of a paired comparison.
    """

    def __init__(self, images: int) -> None:
        """Draw RESAMPLES resamples of `images` images, always with the same seed."""
        drawn = np.random.default_rng(SEED).integers(images, size=(RESAMPLES, images))
        flat = drawn + images * np.arange(RESAMPLES)[:, None]
        # (2000 resamples, images) draws -> how often each resample has each image, as shares
        counts = np.bincount(flat.ravel(), minlength=RESAMPLES * images).reshape(RESAMPLES, images)
        self._shares: Values = counts / images

    def means(self, values: Values) -> Values:
        """Return the mean over images in each resample of `values` (images, columns): (resamples, columns)."""
        resampled: Values = self._shares @ values
        return resampled


def interval(resampled: Values) -> Values:
    """Return the 95 % interval (2, ...), low and high, of `resampled` (resamples, ...)."""
    low_high: Values = np.nanpercentile(resampled, LEVELS, axis=0)
    return low_high


def ranks(values: npt.NDArray[np.floating]) -> Values:
    """Return the ranks (count,) of `values`, from 0; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean: Values = np.cumsum(counts) - (counts + 1) / 2
    return mean[place]


def spearman(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Return Spearman's rank correlation of two (count,) arrays; 0 if one of them is constant."""
    x, y = (r - r.mean() for r in (ranks(a), ranks(b)))
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm else 0.0
