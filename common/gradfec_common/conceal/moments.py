"""The learned mean and covariance of a cut's channels, over all places of training images.

Both are there twice, AS_IT_IS and RECTIFIED: of the tensor, and of what a ReLU leaves of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.conceal.concealment import Floats, Learned
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut

AS_IT_IS, RECTIFIED = 0, 1
MEANS, COVARIANCE = "channel_means", "channel_covariance"  # (2, C), (2, C, C)


def has_moments(learned: Learned) -> bool:
    """Return whether they were learned."""
    return MEANS in learned and COVARIANCE in learned


def moments_of(cut: Cut, learned: Learned) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Return means (2, C) and covariance (2, C, C); UsageError if nothing was learned for the cut."""
    if not has_moments(learned):
        raise UsageError(
            f"there are no statistics of the channels of {cut.name!r}: use --fill zero, or make them with "
            "gradfec train-concealment"
        )
    return learned[MEANS], learned[COVARIANCE].astype(np.float64)
