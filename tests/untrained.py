"""Bottlenecks without training, in files: as wide as the real ones, with weights that keep their tensors' size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from gradfec_common.bottlenecks import BOTTLENECKS
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_host.codec_file import CodecFile


def write_codec(path: Path, seed: int = 1) -> str:
    """Write a bottleneck for the default cut, and return its file's name."""
    bottleneck, rng = BOTTLENECKS["compact"](named_cut(DEFAULT_CUT)), np.random.default_rng(seed)
    arrays = {}
    for layer in (*bottleneck.encoder, *bottleneck.decoder):
        for part, shape in layer.arrays.items():
            deviation = math.sqrt(2 / math.prod(shape[:3])) if part == "kernel" else 0.0
            arrays[f"{layer.name}/{part}"] = (deviation * rng.standard_normal(shape)).astype(np.float16)
    CodecFile(str(path), {"bottleneck": "compact", "cut": DEFAULT_CUT, "rows": 7, "fall": 3.0}, arrays).write()
    return str(path)
