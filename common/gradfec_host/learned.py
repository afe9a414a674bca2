"""Learned arrays of cuts, shipped in learned/NETWORK/CUT.npz, by name, with their provenance."""

from __future__ import annotations

import importlib.resources
import zipfile
import zlib

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import GradfecError
from gradfec_common.networks import Cut
from gradfec_common.networks.imported import Imported
from gradfec_host.models.find import learned_at

FOLDER = importlib.resources.files(__package__) / "learned"
PROVENANCE = "provenance"  # text, for people
DAMAGE = (  # the exceptions, besides OSError, for a file that is damaged or is not an archive
    KeyError, ValueError, TypeError, AttributeError, EOFError, RuntimeError,
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error,
)  # fmt: skip


def learned_for(cut: Cut) -> dict[str, npt.NDArray[np.float32]]:
    """Return the arrays shipped for a cut, if any: `means` (C,) of max(tensor, 0) over training images.

    GradfecError if the file is damaged.
    """
    if isinstance(cut.network, Imported):
        learned = learned_at(cut)
        return {"means": learned.means} if learned else {}
    file = FOLDER / cut.network.name / f"{cut.name}.npz"
    if not file.is_file():
        return {}
    try:
        with file.open("rb") as stream, np.load(stream) as archive:
            arrays = {name: archive[name] for name in archive.files if name != PROVENANCE}
    except (OSError, *DAMAGE) as error:
        raise GradfecError(f"cannot read the learned arrays in {file}: {error}; install gradfec again") from None
    for name, array in arrays.items():
        if array.shape[-1:] != cut.shape[2:] or array.dtype != np.float32 or not np.isfinite(array).all():
            raise GradfecError(
                f"{file} holds {name} {array.dtype} {array.shape}, not finite float32 of {cut.shape[2]} channels: "
                "install gradfec again"
            )
    return arrays
