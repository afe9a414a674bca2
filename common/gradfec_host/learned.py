"""Learned arrays of cuts, by name: shipped in learned/NETWORK/CUT.npz, or from files of the user."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gradfec_common.conceal.learned import network_shapes
from gradfec_common.errors import GradfecError
from gradfec_common.networks import Cut, full_name
from gradfec_common.networks.imported import Imported
from gradfec_host.arrays import write_arrays
from gradfec_host.models.find import learned_at
from gradfec_host.models.learned import DAMAGE

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable  # from Python 3.11 on

FOLDER = importlib.resources.files(__package__) / "learned"
PROVENANCE = "provenance"  # text, for people
CUT = "cut"  # text: the full name of the cut that a file is for
INSTALL, TRAIN = "install gradfec again", "make it with gradfec train-concealment"

Learned = dict[str, npt.NDArray[np.float32]]


def learned_for(cut: Cut, files: Sequence[Path] = ()) -> Learned:
    """Return the arrays of a cut: those of a file that is for it, otherwise the shipped ones, if any.

    `means` (C,) are of max(tensor, 0) over training images; `gradfec_common.conceal.moments` and `learned` say what
    the others are. GradfecError if a file is damaged.
    """
    if isinstance(cut.network, Imported):
        learned = learned_at(cut)
        return dict(learned.arrays) if learned else {}
    for path in files:
        if cut_of(path) == full_name(cut):
            return _read(path, cut, TRAIN)
    file = FOLDER / cut.network.name / f"{cut.name}.npz"
    return _read(file, cut, INSTALL) if file.is_file() else {}


def cut_of(path: Path) -> str:
    """Return the full name of the cut that a file of the user is for; GradfecError."""
    try:
        with np.load(path) as archive:
            return str(archive[CUT])
    except (OSError, *DAMAGE) as error:
        raise GradfecError(f"cannot read the learned arrays in {path}: {error}; {TRAIN}") from None


def write_learned(path: Path, cut: Cut, arrays: Learned, provenance: str) -> None:
    """Write the arrays of a cut, those of a network as float16; completely or not at all; OSError."""
    network = network_shapes(cut.shape[2])
    stored = {name: array.astype(np.float16) if name in network else array for name, array in arrays.items()}
    write_arrays(path, {**stored, CUT: np.array(full_name(cut)), PROVENANCE: np.array(provenance)})


def _read(file: Path | Traversable, cut: Cut, cure: str) -> Learned:
    try:
        with file.open("rb") as stream, np.load(stream) as archive:
            arrays = {name: archive[name] for name in archive.files if name not in (PROVENANCE, CUT)}
    except (OSError, *DAMAGE) as error:
        raise GradfecError(f"cannot read the learned arrays in {file}: {error}; {cure}") from None
    network = network_shapes(cut.shape[2])
    for name, array in arrays.items():
        if name in network:
            fits, wanted = array.dtype == np.float16 and array.shape == network[name], f"float16 {network[name]}"
        else:
            fits = array.dtype == np.float32 and array.shape[-1:] == cut.shape[2:]
            wanted = f"float32 of {cut.shape[2]} channels"
        if not fits or not np.isfinite(array).all():
            raise GradfecError(f"{file} holds {name} {array.dtype} {array.shape}, not finite {wanted}: {cure}")
    return {name: array.astype(np.float32, copy=False) for name, array in arrays.items()}
