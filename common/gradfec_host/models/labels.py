"""The user's list of labels."""

from __future__ import annotations

import json
from pathlib import Path

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.heads.classify import MAX_LABEL_BYTES
from gradfec_host.short_files import read_short


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels, one a line or as a JSON list; GradfecError if they cannot be read, UsageError if they are none."""
    try:
        text = read_short(path).decode()
    except OSError as error:
        raise GradfecError(f"cannot read the labels {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the labels {path} are not UTF-8") from None
    labels = [line.strip() for line in text.splitlines() if line.strip()]
    if text.lstrip().startswith("["):
        try:
            labels = json.loads(text)
        except ValueError as error:
            raise UsageError(f"the labels {path} are not a JSON list: {error}") from None
    for number, label in enumerate(labels, 1):
        if not isinstance(label, str) or not 1 <= len(label.encode()) <= MAX_LABEL_BYTES:
            raise UsageError(f"{path}: label {number} is not a text of at most {MAX_LABEL_BYTES} bytes: {label!r}")
    if not labels:
        raise UsageError(f"{path} has no labels")
    return tuple(labels)
