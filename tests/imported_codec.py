"""Bottlenecks of imported networks, without training: drawn weights that keep their tensors' size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tests.common.bottlenecks import toy

from gradfec_common.bottlenecks import Bottleneck
from gradfec_common.bottlenecks.narrow import narrow
from gradfec_host.codec_file import CodecFile
from gradfec_host.models.find import model_of
from gradfec_host.models.learned import codec_path
from gradfec_lab.training.codec_command import named
from gradfec_lab.training.imported_codec import onnx_halves

WORTH = {"quality": [[3, 700, 0.9], [9, 1500, 0.95]], "utility": [[0.5, 0.6]]}


def drawn_arrays(bottleneck: Bottleneck, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays as a training's result has them."""
    arrays = toy.trained(bottleneck, seed)
    layers = (*bottleneck.encoder, *bottleneck.decoder)
    return {
        f"{layer.name}/{part}": array.astype(np.float16)
        for layer in layers
        for part, array in zip(layer.arrays, arrays[layer.name], strict=True)
    }


def write_codec(bottleneck: Bottleneck, path: Path | None = None, seed: int = 0, worth: Any = WORTH) -> CodecFile:
    """Write one, by default into the model's folder, and return it."""
    path = path or codec_path(model_of(bottleneck.cut.network).folder, bottleneck.cut)
    about = {"bottleneck": "narrow", "rows": bottleneck.shape[0], "fall": 3.0, "worth": worth, **named(bottleneck)}
    CodecFile(str(path), about, onnx_halves(bottleneck, drawn_arrays(bottleneck, seed))).write()
    return CodecFile.read(path)


def small(model: Any, split: str = "stem", joins: str = "block") -> Bottleneck:
    """A bottleneck for a model that was added."""
    return narrow(model.network.cut(split), joins)
