"""`gradfec sweep quantise`: does the answer stay the same when features are quantised, without losses?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import numpy as np

from gradfec_common.conceal import make_concealment
from gradfec_common.quantisers import QUANTISERS, Quantiser
from gradfec_host.concealment_file import learned_for
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_lab.sweep.arguments import read_quantisers
from gradfec_lab.sweep.engine import Case, Delivered, Subject
from gradfec_lab.sweep.report import (
    Grid,
    Report,
    Row,
    lossless,
    measure,
    percents,
    shares_and_intervals,
)
from gradfec_lab.sweep.statistics import Bootstrap
from gradfec_lab.sweep.study import Study, back_end_option, study_options


@click.command(context_settings=CONTEXT)
@plain_errors
@study_options
@back_end_option
@click.option("--quantisers", metavar="NAMES", help="uniform8, sqrt4 and so on. [default: all that fit the cut]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def quantise(study: Study, quantisers: str | None, as_json: bool) -> None:
    """Quantise features, without losses, and see whether the answer stays the same.

    The bytes of a tensor are those of its coded packets, without headers and parity.
    """
    fitting = [quantiser for quantiser in QUANTISERS.values() if quantiser.fits(study.cut)]
    report(study, read_quantisers(quantisers, study.cut) if quantisers else fitting).show(as_json)


def report(study: Study, quantisers: list[Quantiser]) -> Report:
    """Compute what is missing, and report everything, also into the study's folder if it has one."""
    conceal = make_concealment("zero", study.cut, learned_for(study.cut))  # there are no gaps to fill
    everything = np.ones(study.grid.count, bool)

    def coded(subject: Subject) -> Iterator[tuple[str, Delivered]]:
        for quantiser in quantisers:
            yield quantiser.name, Delivered(quantiser.encode(subject.chi, study.grid), quantiser, study.grid)

    def cases(subject: Subject) -> Iterator[Case]:
        for name, delivered in coded(subject):
            yield delivered.case(name, 0, everything, "zero", conceal)

    def sizes(subject: Subject) -> dict[str, float]:
        return {f"bytes/{name}": float(delivered.coded.packets.sizes.sum()) for name, delivered in coded(subject)}

    points: dict[str, Row] = {quantiser.name: {"quantiser": quantiser.name} for quantiser in quantisers}
    numbers = [f"bytes/{name}" for name in points]
    with study.store("quantise") as store:
        names = study.run(store, [], dict.fromkeys(points, 1), cases, sizes, numbers)
        rows = measure(store, names, points, 1, study.truth, Bootstrap(len(names))).rows()
        for row, size in zip(rows, store.numbers(names, numbers).mean(axis=0).tolist(), strict=True):
            row["bits"], row["bytes"] = 8 * size / study.cut.elements, size
        members: dict[str, Any] = {
            **study.about(store, names),
            "lossless_top1": lossless(store, names, study.truth),
            "bits_an_element": {row["quantiser"]: row["bits"] for row in rows},
            "bytes_a_tensor": {row["quantiser"]: row["bytes"] for row in rows},
            **shares_and_intervals(rows, ["quantiser"]),
        }
    made = Report(members, [make_table(rows, len(names))])
    if study.out is not None:
        from gradfec_lab.sweep.figures import quantise_figure

        made.write(study.out, "quantise", rows, quantise_figure(rows))
    return made


def make_table(rows: list[Row], images: int) -> Grid:
    """Make the table."""
    measures = [name for name in ("agreement", "top1") if name in rows[0]]
    lines = [
        [row["quantiser"], f"{row['bits']:g}", f"{row['bytes']:,.0f}", *(percents(row, name) for name in measures)]
        for row in rows
    ]
    title = f"Answers by quantiser, nothing lost, %; {images} images"
    return Grid(title, ["quantiser", "bits an element", "bytes a tensor", *measures], lines)
