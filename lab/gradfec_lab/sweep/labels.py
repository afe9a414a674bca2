"""The images' labels: a CSV of file name and class index."""

from __future__ import annotations

import csv
from pathlib import Path

from gradfec_common.errors import GradfecError, UsageError

NAMED = 5  # file names to list in an error


def read_labels(path: Path) -> dict[str, int]:
    """Read a CSV of file name and class index; a first line without an index is a header. GradfecError, UsageError."""
    try:
        with path.open(newline="") as file:
            rows = [line for line in csv.reader(file) if line]
    except OSError as error:
        raise GradfecError(f"cannot read labels from {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise UsageError(f"{path} is not a list of labels: it is not text") from None
    if rows and not rows[0][-1].strip().isdigit():
        rows = rows[1:]
    try:
        return {line[0]: int(line[1]) for line in rows}
    except (IndexError, ValueError):
        raise UsageError(f"{path} is not a list of labels: each line must be FILE,CLASS_INDEX") from None


def labels_of(path: Path, names: list[str], classes: int) -> dict[str, int]:
    """Read the images' class indices; UsageError if one is missing or is not in range(classes)."""
    truth = read_labels(path)
    if without := [name for name in names if name not in truth]:
        raise UsageError(
            f"{path} has no label for {len(without)} of the {len(names)} images: {listed(without)}; "
            "add them, or leave out --labels"
        )
    if wrong := [name for name in names if not 0 <= truth[name] < classes]:
        raise UsageError(f"{path} has class indices outside 0 .. {classes - 1}, of {listed(wrong)}: correct them")
    return {name: truth[name] for name in names}


def listed(names: list[str]) -> str:
    """List the first few names."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
