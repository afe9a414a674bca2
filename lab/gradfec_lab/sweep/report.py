"""From answers to reports: shares with intervals, as JSON, CSV and tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gradfec_lab.sweep.engine import REFERENCE
from gradfec_lab.sweep.statistics import Bootstrap, Values, interval
from gradfec_lab.sweep.store import Store, write_file

WIDTH_OF_FILES = 140  # if a table does not go to a terminal, which would wrap it
DIGITS = 6

Row = dict[str, Any]
Nested = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """The answers at a sweep's points; `fields` describe each point.

    `agreement` and `top1` are (images, points) shares of the repetitions; `resampled` (resamples, points) is the
    agreement in each resample of the images.
    """

    fields: list[Row]
    agreement: Values
    resampled: Values
    top1: Values | None
    top1_resampled: Values | None

    def rows(self) -> list[Row]:
        """Return a row for each point: its fields, agreement, top-1 if there are labels, and their 95 % intervals."""
        columns = {"agreement": self.agreement.mean(axis=0)}
        columns["agreement_low"], columns["agreement_high"] = interval(self.resampled)
        if self.top1 is not None and self.top1_resampled is not None:
            columns["top1"] = self.top1.mean(axis=0)
            columns["top1_low"], columns["top1_high"] = interval(self.top1_resampled)
        values = {name: column.round(DIGITS).tolist() for name, column in columns.items()}
        return [{**fields, **{name: values[name][i] for name in values}} for i, fields in enumerate(self.fields)]


def measure(
    store: Store,
    names: list[str],
    points: Mapping[str, Row],
    repetitions: int,
    truth: Mapping[str, int] | None,
    bootstrap: Bootstrap,
) -> Measured:
    """Read the answers at `points`, and compare them with the lossless ones and with the labels."""
    classes = store.answers(names, points, repetitions)
    reference = store.answers(names, [REFERENCE])[:, 0, 0]
    agreement = shares(classes, reference)
    top1 = None if truth is None else shares(classes, np.array([truth[name] for name in names]))
    resampled = None if top1 is None else bootstrap.means(top1)
    return Measured([*points.values()], agreement, bootstrap.means(agreement), top1, resampled)


def shares(classes: npt.NDArray[np.intp], right: npt.NDArray[np.intp]) -> Values:
    """Return the share (images, points) of classes (images, points, repetitions) that are `right` (images,)."""
    share: Values = (classes == right[:, None, None]).mean(axis=2)
    return share


def lossless(store: Store, names: list[str], truth: Mapping[str, int] | None) -> float | None:
    """Return the top-1 of the lossless features, if there are labels."""
    if truth is None:
        return None
    reference = store.answers(names, [REFERENCE])[:, 0, 0]
    return round(float((reference == np.array([truth[name] for name in names])).mean()), DIGITS)


def nested(rows: Iterable[Row], keys: Sequence[str], values: str | Sequence[str]) -> Nested:
    """Return the rows' value, or list of values, nested by the keys: nested[estimator][fill][drop]."""
    tree: Nested = {}
    for row in rows:
        branch = tree
        for key in keys[:-1]:
            branch = branch.setdefault(text(row[key]), {})
        branch[text(row[keys[-1]])] = row[values] if isinstance(values, str) else [row[name] for name in values]
    return tree


def shares_and_intervals(rows: list[Row], keys: Sequence[str]) -> dict[str, Nested]:
    """Return the members `agreement` and `ci`, and `top1` and `top1_ci` if there are labels, in the same shape."""
    members = {
        "agreement": nested(rows, keys, "agreement"),
        "ci": nested(rows, keys, ("agreement_low", "agreement_high")),
    }
    if rows and "top1" in rows[0]:
        members["top1"] = nested(rows, keys, "top1")
        members["top1_ci"] = nested(rows, keys, ("top1_low", "top1_high"))
    return members


def measures(row: Row) -> Row:
    """Return a row's agreement, and top-1 if there are labels, each with its interval."""
    found: Row = {}
    for name in ("agreement", "top1"):
        if name in row:
            found |= {name: row[name], f"{name}_ci": [row[f"{name}_low"], row[f"{name}_high"]]}
    return found


def text(value: object) -> str:
    """Write a key, 0.5 and not 0.50."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def to_csv(rows: list[Row]) -> bytes:
    """Write rows as CSV."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*dict.fromkeys(key for row in rows for key in row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


@dataclass(frozen=True)
class Grid:
    """A table: a title, a header, and lines of cells; the first `names` columns are text."""

    title: str
    header: list[str]
    lines: list[list[str]]
    names: int = 1

    def show(self) -> None:
        """Print the table to a terminal or a file."""
        table = Table(title=self.title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
        for i, column in enumerate(self.header):
            table.add_column(column, justify="left" if i < self.names else "right", overflow="fold")
        for line in self.lines:
            table.add_row(*line)
        console = Console()
        if not console.is_terminal:
            console.width = max(console.width, WIDTH_OF_FILES)
        console.print(table)

    def markdown(self) -> str:
        """Write the table as Markdown."""
        rule = ["---" if i < self.names else "---:" for i in range(len(self.header))]
        lines = [self.header, rule, *self.lines]
        return f"**{self.title}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


@dataclass(frozen=True)
class Report:
    """A sweep's result: the members of its JSON object and its tables."""

    members: dict[str, Any]
    tables: list[Grid]

    def show(self, as_json: bool) -> None:
        """Print the JSON object, or the tables."""
        if as_json:
            click.echo(json.dumps(self.members))
            return
        for table in self.tables:
            table.show()

    def write(self, folder: Path, name: str, rows: list[Row], figure: bytes) -> None:
        """Write it into the sweep's folder, with its rows as CSV and its figure (PNG); GradfecError if that fails."""
        write_file(folder / f"{name}.json", json.dumps(self.members, indent=1).encode())
        write_file(folder / f"{name}.csv", to_csv(rows))
        write_file(folder / f"{name}.png", figure)
        write_file(folder / f"{name}.md", "\n".join(table.markdown() for table in self.tables).encode())


def pivot(title: str, rows: list[Row], names: Sequence[str], across: str, measure: str = "agreement") -> Grid:
    """Make a table with a line for each combination of `names` and a column for each value of `across`."""
    columns = [*dict.fromkeys(row[across] for row in rows)]
    cells: dict[tuple[str, ...], dict[object, str]] = {}
    for row in rows:
        cells.setdefault(tuple(text(row[name]) for name in names), {})[row[across]] = percents(row, measure)
    header = [*names, *(f"{column:.0%}" if isinstance(column, float) else str(column) for column in columns)]
    return Grid(title, header, [[*key, *(line.get(c, "") for c in columns)] for key, line in cells.items()], len(names))


def percents(row: Row, measure: str) -> str:
    """Write a share, or a difference of two, with its interval: 95.4 (94.2-96.5)."""
    value, low, high = (100 * row[measure + end] for end in ("", "_low", "_high"))
    return f"{value:.1f} ({low:.1f}{' … ' if low < 0 else '–'}{high:.1f})"
