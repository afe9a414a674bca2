"""Files of arrays, by name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_BYTES = 256 << 20  # of all arrays of a file; zeros take a thousandth of that while they are compressed
DAMAGE = (  # the exceptions, besides OSError, for a file that is damaged or is not an archive
    KeyError, ValueError, TypeError, AttributeError, EOFError, RuntimeError, OverflowError,
    MemoryError,  # an array says that it has a million million elements
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error,
)  # fmt: skip
COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # the others may ask for memory that no member's size says

Arrays = dict[str, npt.NDArray[Any]]


def read_arrays(path: str | Path) -> Arrays:
    """Read an .npz file whose arrays have at most MAX_BYTES; OSError, or one of DAMAGE."""
    with open(path, "rb", opener=_open_regular) as stream:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
        size = sum(member.file_size for member in members)  # zipfile reads no more of a member than that
        if size > MAX_BYTES or not COMPRESSIONS.issuperset(member.compress_type for member in members):
            raise ValueError(f"its arrays have {size} bytes, more than {MAX_BYTES}, or it is compressed in another way")
        stream.seek(0)
        with np.load(stream) as arrays:
            found = dict(arrays)
    if not all(isinstance(array, np.ndarray) for array in found.values()):  # the others are bytes
        raise ValueError("it holds something that is not an array")
    return found


def _open_regular(path: str, flags: int) -> int:
    """Open a file, without waiting for the writer of a pipe; OSError for what is no file."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # open() itself refuses a folder
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def digest_of(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return a short digest of arrays, whatever their order."""
    parts = [name.encode() + arrays[name].tobytes() for name in sorted(arrays)]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an .npz file, completely or not at all; OSError."""
    partial = path.with_name(f"{path.name}.part")
    try:
        with partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
