"""A job for `gradfec_lab.codec`: a folder with everything that it needs: network, bottleneck, weights and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gradfec_common.bottlenecks import Bottleneck
from gradfec_common.errors import UsageError
from gradfec_host.models import Model
from gradfec_host.weights import Weights
from gradfec_lab.photographs import Photographs
from gradfec_lab.training.job_parts import Parts
from gradfec_lab.training.targets import shuffled

IMAGES, RESULT = "images.npy", "result.npz"
MIN_IMAGES = 400  # one in twenty is held out, and 256 of the others weigh the features
WATCHED = (4, 12)  # cuts after the layer that the decoder stands for: in ResNet-50, two and six blocks


def make_job(
    folder: Path,
    bottleneck: Bottleneck,
    rows: int,
    weights: Weights | Model,
    photographs: Photographs,
    limit: int | None,
    advance: Callable[[int], None],
) -> int:
    """Write what is not there yet, and return the number of images; UsageError if there are too few.

    The order of the images depends only on their names. The first twentieth is held out.
    """
    names = shuffled(photographs.names)[:limit]
    if len(names) < MIN_IMAGES:
        raise UsageError(f"{len(names)} images are too few: give at least {MIN_IMAGES}")
    folder.mkdir(parents=True, exist_ok=True)
    network = bottleneck.cut.network
    from gradfec_lab.training.imported_codec import imported_parts  # needs the package onnx

    parts = imported_parts(bottleneck, weights) if isinstance(weights, Model) else built_in_parts(bottleneck, weights)
    job = {
        **parts.said,
        "encoder": [asdict(layer) for layer in bottleneck.encoder],
        "decoder": [asdict(layer) for layer in bottleneck.decoder],
        "cut": bottleneck.cut.name,
        "joins": bottleneck.joins,
        "rows": rows,
        "preprocess": asdict(network.preprocess),
    }
    words = json.dumps({**job, "photographs": photographs.digest(names)})
    path = folder / "job.json"
    if path.exists() and path.read_text() != words:
        said = json.loads(path.read_text())
        what = "is the job of another training"
        if {name: said.get(name) for name in job} == json.loads(json.dumps(job)):
            what = f"has other photographs than {photographs.folder}, or another --limit"
        raise UsageError(f"{folder} {what}: remove it, or write to another --out")
    if not (folder / IMAGES).exists():
        np.savez(folder / "weights.npz", **parts.arrays())
        _write_images(folder, photographs, names, advance)
    path.write_text(words)
    return len(np.load(folder / IMAGES, mmap_mode="r"))


def _write_images(folder: Path, photographs: Photographs, names: Sequence[str], advance: Callable[[int], None]) -> None:
    """Write those that can be used, in one array, completely or not at all; UsageError if they are too few."""
    pictures = []
    for name in names:
        picture = photographs.read(name)
        if picture is not None:
            pictures.append(picture)
        advance(1)
    if len(pictures) < MIN_IMAGES:
        raise UsageError(f"{photographs.folder} has {len(pictures)} usable images: give at least {MIN_IMAGES}")
    partial = folder / "images.part.npy"
    np.save(partial, np.stack(pictures))
    partial.replace(folder / IMAGES)


def built_in_parts(bottleneck: Bottleneck, weights: Weights) -> Parts:
    """Return what a job has to know of a built-in network: all of it."""
    layers = bottleneck.cut.network.layers

    def arrays() -> dict[str, Any]:
        return {
            f"{layer.name}/{name}": array
            for layer in layers
            if layer.arrays
            for name, array in zip(layer.arrays, weights.arrays(layer.name), strict=True)
        }

    return Parts({"layers": [asdict(layer) for layer in layers], "watched": _watched(bottleneck)}, arrays)


def _watched(bottleneck: Bottleneck) -> list[list[list[str]]]:
    """Return for each stage the one choice of layers, behind the decoder's, at which features are compared, too."""
    behind = [cut.name for cut in bottleneck.cut.network.cuts]
    behind = behind[behind.index(bottleneck.joins) :]
    return [[[behind[min(number, len(behind) - 1)]]] for number in WATCHED]
