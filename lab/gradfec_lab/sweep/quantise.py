"""`gradfec sweep quantise`: does the answer stay the same if chi is quantised to a few bits, without losses?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_common.quantise import TINY_SPAN
from gradfec_host.console import plain_errors
from gradfec_lab.sweep.engine import Case, Subject
from gradfec_lab.sweep.report import (
    Grid,
    Report,
    Row,
    lossless,
    measure,
    percents,
    shares_and_intervals,
    to_csv,
)
from gradfec_lab.sweep.statistics import Bootstrap
from gradfec_lab.sweep.store import write_file
from gradfec_lab.sweep.study import CONTEXT, Study, command_line, names_list, study_options

PRODUCT_BITS = 8


@click.command(context_settings=CONTEXT)
@plain_errors
@study_options
@click.option("--bits", default="1,2,3,4,5,6,7,8", metavar="BITS", help="Bits an element.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def quantise(study: Study, bits: str, as_json: bool) -> None:
    """Quantise features to a few bits, without losses, and see whether the answer stays the same.

    There are 2^bits even levels between the tensor's minimum and maximum. The product's quantiser has 8 bits.
    """
    result = report(study, parse_bits(bits))
    result.show(as_json)


def parse_bits(text: str) -> list[int]:
    """Read numbers of bits, 1 to 8; UsageError for anything else."""
    parts = names_list(text)
    for part in parts:
        if part not in {str(bits) for bits in range(1, PRODUCT_BITS + 1)}:
            raise UsageError(f"--bits: {part!r} is not a number of bits from 1 to {PRODUCT_BITS}")
    return sorted({int(part) for part in parts})


def coarse(chi: npt.NDArray[np.float32], bits: int) -> npt.NDArray[np.float32]:
    """Return chi, quantised to 2^bits even levels between its minimum and maximum and dequantised.

    This is the product's quantiser with another number of levels; with 8 bits the two are equal.
    """
    low, high = float(chi.min()), float(chi.max())
    last = 2**bits - 1
    span = np.float32(high) - np.float32(low)
    scale = np.float32(last) / span if span > TINY_SPAN else np.float32(0)
    levels = np.minimum((chi - np.float32(low)) * scale + np.float32(0.5), last).astype(np.uint8)
    table: npt.NDArray[np.float32] = np.linspace(low, high, last + 1, dtype=np.float32)
    values: npt.NDArray[np.float32] = table[levels]
    return values


def report(study: Study, bits: list[int]) -> Report:
    """Compute what is missing, and report everything, also into the study's folder if it has one."""

    def cases(subject: Subject) -> Iterator[Case]:
        for count in bits:
            yield Case(str(count), 0, b"%d" % count, partial(coarse, subject.chi, count))

    points: dict[str, Row] = {str(count): {"bits": count} for count in bits}
    with study.store("quantise") as store:
        names = study.run(store, [], dict.fromkeys(points, 1), cases)
        rows = measure(store, names, points, 1, study.truth, Bootstrap(len(names))).rows()
        members: dict[str, Any] = {
            "images": len(names),
            "skipped": store.skipped(study.names),
            "seed": study.seed,
            "command": command_line(),
            "lossless_top1": lossless(store, names, study.truth),
            **shares_and_intervals(rows, ["bits"]),
        }
    measures = [name for name in ("agreement", "top1") if name in rows[0]]
    lines = [[str(row["bits"]), *(percents(row, name) for name in measures)] for row in rows]
    title = f"Answers by bits an element, without losses, %; {len(names)} images"
    table = Grid(title, ["bits", *measures], lines)
    if study.out is not None:
        from gradfec_lab.sweep.figures import quantise_figure

        write_file(study.out / "quantise.json", json.dumps(members, indent=1).encode())
        write_file(study.out / "quantise.csv", to_csv(rows))
        write_file(study.out / "quantise.png", quantise_figure(rows))
        write_file(study.out / "quantise.md", table.markdown().encode())
    return Report(members, [table])
