"""What `gradfec model learn` has learned from photographs about a cut of a model: a file in the model's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import GradfecError
from gradfec_common.networks import Cut
from gradfec_common.protect import Worth

Floats = npt.NDArray[np.float32]

MEANS, SENSITIVITY, ROWS_WORTH, KEPT = "means", "sensitivity", "rows", "kept"
NOT_AN_ARCHIVE = (KeyError, ValueError, TypeError, EOFError, OSError)


class Learned(NamedTuple):
    """`arrays` for concealments, the channels' `means` (C,) among them; how sensitive the answer is to each channel
    (C,); how much each row of it matters on average (H, 1, C); and (share, agreement) of frames of which only the most
    important bytes are there.
    """

    arrays: Mapping[str, Floats]
    sensitivity: Floats
    rows: Floats
    kept: tuple[tuple[float, float], ...]

    @property
    def means(self) -> Floats:
        """The mean of each channel (C,), as the back-end sees it."""
        return self.arrays[MEANS]

    @property
    def worth(self) -> Worth:
        """What parts of a frame are worth, for the policy `auto`."""
        return Worth((), self.kept)


def learned_file(folder: Path, cut: Cut) -> Path:
    """Return the file for a cut of the model in that folder."""
    return folder / f"learned-{cut.id}.npz"


def read_learned(folder: Path, cut: Cut) -> Learned | None:
    """Return what was learned for a cut, or None; GradfecError if the file is damaged."""
    path = learned_file(folder, cut)
    if not path.is_file():
        return None
    try:
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
            sensitivity, rows, kept, _ = (
                arrays.pop(SENSITIVITY),
                arrays.pop(ROWS_WORTH),
                arrays.pop(KEPT),
                arrays[MEANS],
            )
    except NOT_AN_ARCHIVE as error:
        raise GradfecError(f"cannot read {path}: {error}; learn again with gradfec model learn") from None
    height, _, channels = cut.shape
    fits = sensitivity.shape == (channels,) and rows.shape == (height, 1, channels) and kept.shape[1:] == (2,)
    fits = fits and MEANS in arrays
    every = (*arrays.values(), sensitivity, rows, kept)
    right = all(array.dtype.kind == "f" and np.isfinite(array).all() for array in every)
    if not (fits and right and all(array.shape[-1:] == (channels,) for array in arrays.values())):
        raise GradfecError(f"{path} is not for {cut.name}: learn again with gradfec model learn")
    return Learned(arrays, sensitivity, rows, tuple((float(share), float(worth)) for share, worth in kept))


def write_learned(folder: Path, cut: Cut, learned: Learned) -> Path:
    """Write what was learned for a cut, completely or not at all; GradfecError if that fails."""
    path = learned_file(folder, cut)
    partial = path.with_suffix(".part.npz")
    try:
        arrays: dict[str, Any] = {
            **learned.arrays,
            SENSITIVITY: learned.sensitivity,
            ROWS_WORTH: learned.rows,
            KEPT: np.array(learned.kept),
        }
        np.savez_compressed(partial, **arrays)
        partial.replace(path)
    except OSError as error:
        raise GradfecError(f"cannot write {path}: {error.strerror or error}") from None
    return path
