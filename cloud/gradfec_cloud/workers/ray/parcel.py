"""What a worker needs before it can work: the loaders of its back-ends.

They are pickled. Their large arrays are apart, each named by its SHA-256, so that a machine gets each of them once,
however many workers it has, however often they start, and in however many models an array is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradfec_cloud.workers.pool import Loaders
from gradfec_common.errors import GradfecError
from gradfec_host.weights import gradfec_home

Bytes = NDArray[np.uint8]
LARGE_BYTES = 65_536  # an array from this size on is apart
MOST_BYTES = 8 * 2**30  # that a machine keeps
DIGEST_LETTERS = 64


@dataclass(frozen=True)
class Parcel:
    """Pickled loaders, the digests of the large arrays in their order, and those arrays by digest."""

    loaders: bytes
    digests: tuple[str, ...]
    arrays: Mapping[str, Bytes]


def pack(loaders: Loaders) -> Parcel:
    """Return what a worker needs; GradfecError if something of it cannot be read."""
    digests: list[str] = []
    arrays: dict[str, Bytes] = {}

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        array: Bytes = np.frombuffer(buffer.raw(), np.uint8)
        if array.nbytes < LARGE_BYTES:
            return True
        digest = _digest(array)
        digests.append(digest)
        arrays[digest] = array
        return False

    pickled = pickle.dumps(dict(loaders), 5, buffer_callback=is_small)
    return Parcel(pickled, tuple(digests), arrays)


def unpack(loaders: bytes, digests: tuple[str, ...], fetch: Callable[[str], Bytes], shelf: Shelf) -> Loaders:
    """Return the loaders. Arrays that are not on the shelf are fetched, and put there."""
    arrays = {digest: shelf.find(digest) for digest in set(digests)}
    for digest, there in arrays.items():
        if there is None:
            arrays[digest] = shelf.keep(digest, fetch(digest))
    shelf.tidy(set(digests))
    found: Loaders = pickle.loads(loaders, buffers=[arrays[digest] for digest in digests])
    return found


def _digest(array: Bytes) -> str:
    return hashlib.sha256(array.data).hexdigest()


class Shelf:
    """A folder of arrays by digest. Several processes may use it at once; they share the memory, too."""

    def __init__(self, folder: Path | None = None) -> None:
        """Use a folder, by default one where the downloads are."""
        self._folder = folder or gradfec_home() / "workers"

    def find(self, digest: str) -> Bytes | None:
        """Return an array, or None if it is not here, or is damaged."""
        path = self._folder / digest
        try:
            array: Bytes = np.memmap(path, np.uint8, "r")
            os.utime(path)
        except (OSError, ValueError):
            return None
        return array if _digest(array) == digest else None

    def keep(self, digest: str, array: Bytes) -> Bytes:
        """Put an array on the shelf and return it; GradfecError if it has another digest.

        If nothing can be written here, it is only in memory.
        """
        if _digest(array) != digest:
            raise GradfecError(f"an array of the model was damaged on its way: it is not {digest[:12]}...")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as file:
                file.write(array.data)
            Path(file.name).replace(self._folder / digest)
        except OSError:
            return array
        kept = self.find(digest)
        return array if kept is None else kept

    def tidy(self, needed: set[str], most_bytes: int = MOST_BYTES) -> None:
        """Remove what was used least recently until few enough bytes are left, but nothing that is needed."""
        with contextlib.suppress(OSError):
            files = [(path, path.stat()) for path in self._folder.iterdir() if len(path.name) == DIGEST_LETTERS]
            left = sum(about.st_size for _, about in files)
            for path, about in sorted(files, key=lambda one: one[1].st_mtime):
                if left > most_bytes and path.name not in needed:
                    path.unlink(missing_ok=True)
                    left -= about.st_size
