"""What `gradfec model learn` has learned from photographs about a cut of a model: a file in the model's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import GradfecError
from gradfec_common.networks import Cut
from gradfec_common.protect import Quality, Worth
from gradfec_host.arrays import DAMAGE, read_arrays, write_arrays
from gradfec_host.writing import writing

Floats = npt.NDArray[np.float32]

MEANS, SENSITIVITY, ROWS_WORTH, KEPT, PICTURES = "means", "sensitivity", "rows", "kept", "avif"


class Learned(NamedTuple):
    """`arrays` for concealments, the channels' `means` (C,) among them; how sensitive the answer is to each channel
    (C,); how much each row of it matters on average (H, 1, C); (share, agreement) of frames of which only the most
    important bytes are there; and what AVIF pictures of several qualities are worth, from coarse to fine.
    """

    arrays: Mapping[str, Floats]
    sensitivity: Floats
    rows: Floats
    kept: tuple[tuple[float, float], ...]
    pictures: tuple[Quality, ...] = ()

    @property
    def means(self) -> Floats:
        """The mean of each channel (C,), as the back-end sees it."""
        return self.arrays[MEANS]

    @property
    def worth(self) -> Worth:
        """What parts of a frame are worth, for the policy `auto`."""
        return Worth((), self.kept)


def learned_files(folder: Path) -> list[Path]:
    """Return the files for all cuts of the model in that folder: what was learned, and bottlenecks."""
    return sorted([*folder.glob("learned-*.npz"), *folder.glob("codec-*.npz")])


def codec_path(folder: Path, cut: Cut) -> Path:
    """Return where the bottleneck for a cut of the model in that folder is, if there is one."""
    return folder / f"codec-{cut.id}.npz"


def learned_file(folder: Path, cut: Cut) -> Path:
    """Return the file for a cut of the model in that folder."""
    return folder / f"learned-{cut.id}.npz"


def read_learned(folder: Path, cut: Cut) -> Learned | None:
    """Return what was learned for a cut, or None; GradfecError if the file is damaged."""
    path = learned_file(folder, cut)
    if not path.is_file():
        return None
    try:
        arrays = read_arrays(path)
        sensitivity, rows, kept = (arrays.pop(name) for name in (SENSITIVITY, ROWS_WORTH, KEPT))
        pictures = arrays.pop(PICTURES, np.empty((0, 3), np.float32))
        arrays.pop("pictures", None)  # of WebP, from before 2026-12
        shapes = [arrays[MEANS].shape, sensitivity.shape, rows.shape, kept.shape[1:], pictures.shape[1:]]
    except (OSError, *DAMAGE) as error:
        raise GradfecError(f"cannot read {path}: {error}; learn again with gradfec model learn") from None
    height, _, channels = cut.shape
    fits = shapes == [(channels,), (channels,), (height, 1, channels), (2,), (3,)]
    fits = fits and all(array.shape[-1:] == (channels,) for array in arrays.values())
    every = (*arrays.values(), sensitivity, rows, kept, pictures)
    right = all(array.dtype.kind == "f" and np.isfinite(array).all() for array in every)
    if not (fits and right and _is_curve(kept) and _are_qualities(pictures)):
        raise GradfecError(f"{path} is not for {cut.name}: learn again with gradfec model learn")
    curve = tuple((float(share), float(worth)) for share, worth in kept)
    return Learned(arrays, sensitivity, rows, curve, tuple(Quality(*map(float, one)) for one in pictures))


def _is_curve(kept: Floats) -> bool:
    """Return whether these are shares, rising to the whole frame, with an agreement each."""
    shares, inside = kept[:, 0], (kept >= 0).all() and (kept <= 1).all()
    return bool(inside and len(kept) > 1 and shares[-1] == 1 and (np.diff(shares) > 0).all())


def _are_qualities(pictures: Floats) -> bool:
    """Return whether these are qualities, rising, with rising bytes and an agreement each."""
    quality, size, agreement = pictures.T
    inside = (quality >= 1).all() and (quality <= 100).all() and (agreement >= 0).all() and (agreement <= 1).all()
    return bool(inside and (size > 0).all() and (np.diff(quality) > 0).all() and (np.diff(size) > 0).all())


def write_learned(folder: Path, cut: Cut, learned: Learned) -> Path:
    """Write what was learned for a cut, completely or not at all; GradfecError if that fails."""
    path = learned_file(folder, cut)
    own = {
        SENSITIVITY: learned.sensitivity,
        ROWS_WORTH: learned.rows,
        KEPT: np.array(learned.kept),
        PICTURES: np.array(learned.pictures, np.float64).reshape(-1, 3),
    }
    with writing(path):
        write_arrays(path, {**learned.arrays, **own})
    return path
