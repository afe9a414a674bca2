"""Concealment files: what was learned of a cut for --fill; shipped as concealments/NETWORK/CUT.npz, or the user's."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradfec_common.conceal.learned import network_shapes
from gradfec_common.errors import GradfecError
from gradfec_common.networks import Cut, full_name
from gradfec_common.networks.imported import Imported
from gradfec_host.arrays import DAMAGE, read_arrays, write_arrays
from gradfec_host.models.find import learned_at

FOLDER = importlib.resources.files(__package__) / "concealments"  # the shipped ones, NETWORK/CUT.npz
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
    if not file.is_file():
        return {}
    with importlib.resources.as_file(file) as path:
        return _read(path, cut, INSTALL)


def cut_of(path: Path) -> str:
    """Return the full name of the cut that a file of the user is for; GradfecError."""
    try:
        return str(read_arrays(path)[CUT])
    except (OSError, *DAMAGE) as error:
        raise GradfecError(f"cannot read the learned arrays in {path}: {error}; {TRAIN}") from None


def write_concealment_file(path: Path, cut: Cut, arrays: Learned, provenance: str) -> None:
    """Write the arrays of a cut, those of a network as float16; completely or not at all; OSError."""
    network = network_shapes(cut.shape[2])
    stored = {name: array.astype(np.float16) if name in network else array for name, array in arrays.items()}
    write_arrays(path, {**stored, CUT: np.array(full_name(cut)), PROVENANCE: np.array(provenance)})


def _read(file: Path, cut: Cut, cure: str) -> Learned:
    try:
        arrays = read_arrays(file)
    except (OSError, *DAMAGE) as error:
        raise GradfecError(f"cannot read the learned arrays in {file}: {error}; {cure}") from None
    for said in (PROVENANCE, CUT):
        arrays.pop(said, None)
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
