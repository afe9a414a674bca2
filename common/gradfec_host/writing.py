"""What a file that cannot be written says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gradfec_common.errors import GradfecError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a GradfecError that says which file or folder cannot be written, and why."""
    try:
        yield
    except OSError as error:
        raise GradfecError(f"cannot write {path}: {error.strerror or error}") from None
