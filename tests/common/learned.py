"""What could have been learned of a cut: means, and a covariance of the channels."""

from __future__ import annotations

import numpy as np

from gradfec_common.conceal import Learned
from gradfec_common.conceal.learned import network_shapes
from gradfec_common.conceal.moments import COVARIANCE, MEANS


def learned_of(channels: int, seed: int = 0) -> Learned:
    """Draw arrays for all concealments that need some."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(2, channels, channels // 2 + 1))
    return {
        "means": rng.random(channels).astype(np.float32),
        MEANS: rng.random((2, channels)).astype(np.float32),
        COVARIANCE: (factors @ factors.transpose(0, 2, 1)).astype(np.float32),
        **network_of(channels, seed),
    }


def network_of(channels: int, seed: int = 0) -> Learned:
    """Draw a network for `learned`."""
    rng = np.random.default_rng([seed, 1])
    shapes = network_shapes(channels)
    return {name: (0.1 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
