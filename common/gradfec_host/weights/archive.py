"""gradfec's own weights file: an uncompressed .npz, `conv1_conv/kernel.npy` and so on, written whole or not at all.

Besides the arrays, it holds `gradfec.json`: where they came from, how they were verified, and the SHA-256 of each one.
numpy.load opens the file too. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gradfec_common.errors import GradfecError
from gradfec_common.networks import Network
from gradfec_host.weights.hashes import Verification, pinned, sha256

ABOUT = "gradfec.json"
VERSION = 1
NPY_VERSION = (1, 0)


@dataclass
class Archive:
    """An archive's description and its arrays: `read[name]()` returns one, not verified yet."""

    route: str
    verification: Verification
    digests: dict[str, str]
    read: dict[str, Callable[[], NDArray[Any]]] = field(default_factory=dict)


def open_archive(path: Path, network: Network) -> Archive | None:
    """Open the archive of a network's weights at `path`, or return None for another kind of file.

    ValueError if it contradicts itself, or holds arrays of another network.
    """
    if not (path.is_file() and zipfile.is_zipfile(path)):
        return None
    file = zipfile.ZipFile(path)
    if ABOUT not in file.namelist():
        return None
    if any(member.compress_type != zipfile.ZIP_STORED for member in file.infolist()):
        raise ValueError("it is compressed")  # and may expand to anything
    about = json.loads(file.read(ABOUT))
    if about["version"] != VERSION:
        raise ValueError(f"its version is {about['version']}, this gradfec reads {VERSION}")
    archive = Archive(str(about["route"]), Verification[about["verification"]], dict(about["sha256"]))
    for name, digest in archive.digests.items():
        wanted = pinned(network)[name]
        if archive.verification is Verification.ARRAYS and digest != wanted.sha256:
            raise ValueError(f"array {name} does not have its pinned SHA-256")
        archive.read[name] = functools.partial(_read_npy, file, name, wanted.shape)
    return archive


def _read_npy(file: zipfile.ZipFile, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read one .npy member; check that its header says `shape` before anything is sized from it."""
    with file.open(f"{name}.npy") as member:
        if np.lib.format.read_magic(member) != NPY_VERSION:  # type: ignore[no-untyped-call]
            raise ValueError("not a .npy array of version 1.0")
        header = np.lib.format.read_array_header_1_0(member)  # type: ignore[no-untyped-call]
        if header != (shape, False, np.dtype("<f4")):
            raise ValueError(f"its header says {header}")
        return np.frombuffer(member.read(), "<f4").reshape(shape)  # (bytes,) -> shape


class ArchiveWriter:
    """Adds arrays, and `gradfec.json` last, so an archive that has this file is complete."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self.digests: dict[str, str] = {}

    def add(self, name: str, array: NDArray[np.float32]) -> None:
        """Add one array under `name`."""
        with self._file.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
            contiguous = np.ascontiguousarray(array, "<f4")
            np.lib.format.write_array(cast(Any, member), contiguous, NPY_VERSION, allow_pickle=False)  # type: ignore[no-untyped-call]
        self.digests[name] = sha256(array)

    def finish(self, route: str, verification: Verification) -> None:
        """Add where the arrays came from, and how they were verified."""
        about = {"version": VERSION, "route": route, "verification": verification.name, "sha256": self.digests}
        self._file.writestr(zipfile.ZipInfo(ABOUT), json.dumps(about, indent=1))


@contextlib.contextmanager
def replace_archive(target: Path) -> Iterator[ArchiveWriter]:
    """Write an archive next to `target`, and replace `target` once the archive is complete and on disk."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                yield ArchiveWriter(archive)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise GradfecError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
