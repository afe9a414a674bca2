"""What a run has come to, on disk: arrays, and what tells the run from others."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError

SAVE_EVERY = 25  # steps: what an interruption costs at most


def restore(path: Path, run: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays saved at `path`, none where there are none; UsageError if damaged, or of another run."""
    if not path.exists():
        return {}
    try:
        with np.load(path) as file:
            saved = {name: file[name] for name in file.files}
        theirs = {name: saved.pop(f"run_{name}") for name in run}
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile):
        raise UsageError(f"the checkpoint {path} is damaged: remove it") from None
    for name, ours in run.items():
        if theirs[name] != ours:
            raise UsageError(
                f"the checkpoint {path} is of a run with {name} = {theirs[name]}, not {ours}: remove it, or write "
                "to another --out"
            )
    return saved


def save(path: Path, run: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write arrays and what the run is, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.part.npz")
    np.savez(partial, **{f"run_{name}": value for name, value in run.items()}, **arrays)
    partial.replace(path)
