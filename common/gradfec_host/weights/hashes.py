"""A network's known weights: every array's name, shape and SHA-256, shipped as NETWORK.tsv."""

from __future__ import annotations

import enum
import functools
import hashlib
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradfec_common.errors import GradfecError
from gradfec_common.networks import Network

# MD5 of ResNet-50's weights as Keras publishes them; Keras itself checks it (keras/src/applications/resnet.py).
# resnet50.tsv was made from an older publication, whose arrays may differ in single bits. Both are Keras's own.
PUBLISHED_MD5 = "2cb95161c43110f7111970584f804107"


class Verification(enum.Enum):
    """How we know that weights are Keras's ImageNet weights."""

    ARRAYS = "every array has its pinned SHA-256"
    FILE = "the file has the hash that Keras publishes"
    NONE = "not Keras's values, accepted with --unverified"


@dataclass(frozen=True)
class Pinned:
    """The expected shape and SHA-256 of one array."""

    shape: tuple[int, ...]
    sha256: str


@functools.cache
def pinned(network: Network) -> Mapping[str, Pinned]:
    """Return the expected arrays by name, in the layers' order; GradfecError for a network that has none."""
    file = importlib.resources.files(__package__).joinpath(f"{network.name}.tsv")
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise GradfecError(f"no weights of {network.title} are known here: there is no {file}") from None
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {name: Pinned(tuple(map(int, shape.split("x"))), digest) for name, shape, digest in rows}


def sha256(array: NDArray[np.float32]) -> str:
    """Return the SHA-256 of an array's little-endian float32 bytes in C order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array, "<f4").data).hexdigest()


def is_published(path: Path) -> bool:
    """Return whether the file at `path` is the one that Keras publishes."""
    if not path.is_file():
        return False
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == PUBLISHED_MD5
