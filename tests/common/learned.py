"""What could have been learned of a cut: means, and a covariance of the channels."""

from __future__ import annotations

import numpy as np

from gradfec_common.conceal import Learned
from gradfec_common.conceal.moments import COVARIANCE, MEANS


def learned_of(channels: int, seed: int = 0) -> Learned:
    """Draw arrays for all concealments that need some."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(2, channels, channels // 2 + 1))
    return {
        "means": rng.random(channels).astype(np.float32),
        MEANS: rng.random((2, channels)).astype(np.float32),
        COVARIANCE: (factors @ factors.transpose(0, 2, 1)).astype(np.float32),
    }
