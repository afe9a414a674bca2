"""Fill rules: what the cloud puts where a packet is missing, dropped by the plan or lost for good."""

from __future__ import annotations

import importlib.resources
import zipfile

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import Cut
from gradfec_common.transmit import FILL_MEAN, FILL_ZERO, FILLS

Fill = float | npt.NDArray[np.float32]  # what a missing element becomes: one value, or one for each channel (C,)

MEANS = importlib.resources.files(__package__) / "channel_means"  # SPLIT.npz: `means` (C,) float32, `provenance` text


def fill_values(rule: str, cut: Cut) -> Fill:
    """Return what the rule `zero` or `mean` makes of a missing element; UsageError where the cut has no such rule."""
    if rule == FILLS[FILL_ZERO]:
        return 0.0
    if rule == FILLS[FILL_MEAN]:
        return channel_means(cut)
    raise UsageError(f"no fill rule is called {rule!r}: use one of {', '.join(FILLS.values())}")


def channel_means(cut: Cut) -> npt.NDArray[np.float32]:
    """Return the mean of max(chi, 0) of each channel (C,) over training images, as shipped.

    The consumer of chi is a ReLU there, so this is the mean of what the network sees. UsageError for a cut
    whose means are not shipped, GradfecError where the file is damaged.
    """
    shipped = means_shipped()
    if cut.name not in shipped:
        raise UsageError(
            f"there are no channel means for the split {cut.name!r}, only for {', '.join(shipped) or 'none'}: "
            "use --fill zero"
        )
    file = MEANS / f"{cut.name}.npz"
    try:
        with file.open("rb") as stream, np.load(stream) as archive:
            means: npt.NDArray[np.float32] = archive["means"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise GradfecError(f"cannot read the channel means in {file}: {error}; install gradfec again") from None
    if means.shape != cut.shape[2:] or means.dtype != np.float32 or not np.isfinite(means).all():
        raise GradfecError(
            f"{file} holds {means.dtype} {means.shape}, not finite float32 {cut.shape[2:]}: install gradfec again"
        )
    return means


def means_shipped() -> list[str]:
    """Return the names of the cuts whose channel means are shipped."""
    return sorted(file.name.removesuffix(".npz") for file in MEANS.iterdir()) if MEANS.is_dir() else []
