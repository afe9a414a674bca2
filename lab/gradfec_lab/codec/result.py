"""The result of a training: one .npz with the arrays of both halves in float16, and how the step falls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .coder import Codec


def write_result(codec: Codec, settings: Mapping[str, Any], path: Path) -> None:
    """Write the result and the settings that led to it, completely or not at all."""
    arrays = {**codec.encoder.arrays(), **codec.decoder.arrays()}
    partial = path.with_suffix(".part")
    with partial.open("wb") as stream:
        np.savez(
            stream,
            fall=np.float64(codec.fall.item()),
            settings=np.array(json.dumps(dict(settings))),
            **{name: array.astype(np.float16) for name, array in arrays.items()},
        )
    partial.replace(path)
