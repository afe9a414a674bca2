"""A sweep's results so far, on disk: an interrupted sweep resumes there, and a later one adds points.

`settings.json` holds the settings of the answers. `answers.jsonl` has a line for each image and run: the back-end's
classes by point, one for each repetition. A later line replaces an earlier one.
"""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.results import ResultsFile

SETTINGS, ANSWERS = "settings.json", "answers.jsonl"
FINGERPRINTS = "fingerprints"


@dataclass
class Record:
    """The results for an image: classes by point, other numbers by name, or why it could not be used."""

    answers: dict[str, list[int]] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    skipped: str | None = None


class Store:
    """The answers of one sweep, in a folder."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Open or create the folder; UsageError if it holds a sweep with other settings."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from None
        self._settings = self._agree({**settings, FINGERPRINTS: {}})
        self.records: dict[str, Record] = {}
        self._read()
        self._file = ResultsFile(folder / ANSWERS, option="--out")

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def vouch(self, fingerprints: Mapping[str, str]) -> None:
        """Record the digests of what the answers depend on, by name; UsageError if one of them has changed."""
        known = self._settings[FINGERPRINTS]
        for name, digest in fingerprints.items():
            if known.get(name, digest) != digest:
                raise UsageError(
                    f"{self.folder} holds answers for {name} with the fingerprint {known[name]}, and now {name} has "
                    f"{digest}: it has changed since; give another --out"
                )
        if fingerprints.items() - known.items():
            known.update(fingerprints)
            write_file(self.folder / SETTINGS, json.dumps(self._settings, indent=1).encode())

    def add(self, name: str, record: Record) -> None:
        """Append an image's answers and numbers, or why it was skipped; GradfecError if they cannot be written."""
        line: dict[str, Any] = {"image": name}
        if record.skipped is not None:
            line["skipped"] = record.skipped
        else:
            line |= {"answers": record.answers, "numbers": record.numbers}
        self._file.write(line)
        self._take(line)

    def repetitions(self, name: str, point: str) -> int:
        """Return how many answers a point has."""
        return len(self.records[name].answers.get(point, ())) if name in self.records else 0

    def knows(self, name: str, points: Mapping[str, int], numbers: Iterable[str] = ()) -> bool:
        """Return whether an image is complete: `points` with their repetitions, and `numbers`."""
        if name not in self.records:
            return False
        record = self.records[name]
        if record.skipped is not None:
            return True
        enough = all(len(record.answers.get(point, ())) >= count for point, count in points.items())
        return enough and all(number in record.numbers for number in numbers)

    def skipped(self, names: Iterable[str]) -> dict[str, str]:
        """Return the images that could not be used, and why."""
        records = {name: self.records[name] for name in names if name in self.records}
        return {name: record.skipped for name, record in records.items() if record.skipped is not None}

    def answers(self, names: list[str], points: Iterable[str], repetitions: int = 1) -> npt.NDArray[np.intp]:
        """Return the answered classes (images, points, repetitions)."""
        points = [*points]
        rows = [[self.records[name].answers[point][:repetitions] for point in points] for name in names]
        return np.array(rows, np.intp).reshape(len(names), len(points), repetitions)

    def numbers(self, names: list[str], wanted: list[str]) -> npt.NDArray[np.float64]:
        """Return the numbers `wanted` (images, wanted)."""
        return np.array([[self.records[name].numbers[number] for number in wanted] for name in names], np.float64)

    def _agree(self, ours: dict[str, Any]) -> dict[str, Any]:
        """Return the folder's settings, which must equal ours; write ours if there are none."""
        path = self.folder / SETTINGS
        try:
            theirs = json.loads(path.read_bytes())
        except FileNotFoundError:
            write_file(path, json.dumps(ours, indent=1).encode())
            return ours
        except OSError as error:
            raise GradfecError(f"cannot read {path}: {error.strerror}; give another --out") from None
        except ValueError:
            theirs = None
        if not isinstance(theirs, dict) or not isinstance(theirs.get(FINGERPRINTS), dict):
            raise UsageError(f"{path} is not the settings of a sweep: give another --out")
        for name, value in ours.items():
            if name != FINGERPRINTS and theirs.get(name) != value:
                raise UsageError(
                    f"{self.folder} holds a sweep with {name} = {theirs.get(name)!r}, not {value!r}: "
                    "give another --out, or the same settings"
                )
        return theirs

    def _read(self) -> None:
        """Read the results of earlier runs; ignore truncated lines."""
        path = self.folder / ANSWERS
        if not path.exists():
            return
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise GradfecError(f"cannot read {path}: {error.strerror}; give another --out") from None
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                self._take(json.loads(line))

    def _take(self, line: Mapping[str, Any]) -> None:
        record = self.records.setdefault(line["image"], Record())
        record.skipped = line.get("skipped")
        record.answers |= line.get("answers", {})
        record.numbers |= line.get("numbers", {})


def write_file(path: Path, content: bytes) -> None:
    """Write a file completely or not at all; GradfecError if that fails."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> GradfecError:
    """Return the error for a file that cannot be written."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    advice = "free space, and run it again to resume" if full else "give another --out"
    return GradfecError(f"cannot write {path}: {error.strerror or error}; {advice}")
