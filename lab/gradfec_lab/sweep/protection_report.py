"""The report of `gradfec sweep protection`: agreement by scheme and loss, and the cost of losses beyond the drop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradfec_lab.sweep.engine import nothing_at_hand
from gradfec_lab.sweep.protection import ProtectionSweep
from gradfec_lab.sweep.report import (
    DIGITS,
    Grid,
    Measured,
    Report,
    Row,
    lossless,
    measure,
    nested,
    pivot,
    shares_and_intervals,
    to_csv,
)
from gradfec_lab.sweep.statistics import Bootstrap, interval
from gradfec_lab.sweep.store import write_file
from gradfec_lab.sweep.study import command_line, fill_fingerprints

KEYS = ("scheme", "fill", "loss")
UNPROTECTED = "none"
VARIANT = ("code", "burst", "importance")


def report(sweep: ProtectionSweep) -> Report:
    """Compute what is missing, and report everything, also into the study's folder if it has one."""
    study, points = sweep.study, sweep.points()
    with study.store("protection", **sweep.settings()) as store:
        store.vouch(fill_fingerprints(sweep.fills))
        sweep.record_losses(store.folder)
        names = study.run(
            store,
            sweep.estimators,
            dict.fromkeys(points, sweep.repetitions),
            sweep.cases,
            constant=[nothing_at_hand(study.grid, rule) for rule in sweep.fills],
        )
        measured = measure(store, names, points, sweep.repetitions, study.truth, Bootstrap(len(names)))
        rows = measured.rows()
        add_cost_of_losses(measured, rows)
        add_gain(measured, rows)
        variants = [variant_members(rows, variant) for variant in sweep.variants]
        members: dict[str, Any] = {
            "images": len(names),
            "skipped": store.skipped(study.names),
            "seed": study.seed,
            "repetitions": sweep.repetitions,
            "command": command_line(),
            "lossless_top1": lossless(store, names, study.truth),
            **variants[0],
            "variants": variants,
            "left_out": [{"burst": burst, "loss": loss} for burst, loss in sweep.left_out],
        }
    tables = make_tables(sweep, rows, len(names))
    if study.out is not None:
        write(study.out, members, rows, tables)
    return Report(members, tables)


def add_cost_of_losses(measured: Measured, rows: list[Row]) -> None:
    """Add to each row how far its agreement is below that of the same plan without losses, if that is known.

    The difference is paired, for the same images.
    """
    column = {tuple(fields.values()): i for i, fields in enumerate(measured.fields)}
    for i, row in enumerate(rows):
        *point, _ = measured.fields[i].values()
        free = column.get((*point, 0.0))
        if free is not None:
            low, high = interval(measured.resampled[:, i] - measured.resampled[:, free])
            row["by_losses"] = round(row["agreement"] - rows[free]["agreement"], DIGITS)
            row["by_losses_low"], row["by_losses_high"] = round(float(low), DIGITS), round(float(high), DIGITS)


def add_gain(measured: Measured, rows: list[Row]) -> None:
    """Add to each row how far its agreement is above that of no protection under the same losses, if known.

    The difference is paired, for the same images and the same draws of the losses.
    """
    column = {tuple(fields.values()): i for i, fields in enumerate(measured.fields)}
    for i, row in enumerate(rows):
        bare = column.get(tuple({**measured.fields[i], "scheme": UNPROTECTED}.values()))
        if bare is not None and bare != i:
            low, high = interval(measured.resampled[:, i] - measured.resampled[:, bare])
            row["gain"] = round(row["agreement"] - rows[bare]["agreement"], DIGITS)
            row["gain_low"], row["gain_high"] = round(float(low), DIGITS), round(float(high), DIGITS)


def of_variant(variant: tuple[str, str, str]) -> Callable[[Row], bool]:
    """Return a filter for the rows of a variant: code, burst, importance."""
    return lambda row: tuple(row[name] for name in VARIANT) == variant


def variant_members(rows: list[Row], variant: tuple[str, str, str]) -> dict[str, Any]:
    """Return the JSON members for one code, burst length and estimator."""
    own = [*filter(of_variant(variant), rows)]
    members: dict[str, Any] = {**dict(zip(VARIANT, variant, strict=True)), **shares_and_intervals(own, KEYS)}
    priced = [row for row in own if "by_losses" in row]
    members["by_losses"] = nested(priced, KEYS, "by_losses")
    members["by_losses_ci"] = nested(priced, KEYS, ("by_losses_low", "by_losses_high"))
    compared = [row for row in own if "gain" in row]
    members["gain"] = nested(compared, KEYS, "gain")
    members["gain_ci"] = nested(compared, KEYS, ("gain_low", "gain_high"))
    return members


def make_tables(sweep: ProtectionSweep, rows: list[Row], images: int) -> list[Grid]:
    """Make the tables, one for each variant."""
    tables = []
    for variant in sweep.variants:
        own = [*filter(of_variant(variant), rows)]
        if not own:
            continue
        code, burst, estimator = variant
        losses = "independent losses" if burst == "iid" else f"losses in bursts of {burst} on average"
        about = f"{losses}, code {code}, importance {estimator}; {images} images x {sweep.repetitions}"
        tables.append(
            pivot(f"Agreement with the lossless answer, %, by loss: {about}", own, ("scheme", "fill"), "loss")
        )
        if "top1" in own[0]:
            tables.append(pivot(f"Top-1, %, by loss: {about}", own, ("scheme", "fill"), "loss", "top1"))
        if compared := [row for row in own if "gain" in row]:
            title = f"Agreement gained over no protection, points, paired, by loss: {about}"
            tables.append(pivot(title, compared, ("scheme", "fill"), "loss", "gain"))
    return tables


def write(folder: Path, members: dict[str, Any], rows: list[Row], tables: list[Grid]) -> None:
    """Write all results into the sweep's folder."""
    from gradfec_lab.sweep.figures import protection_figure

    write_file(folder / "protection.json", json.dumps(members, indent=1).encode())
    write_file(folder / "protection.csv", to_csv(rows))
    write_file(folder / "protection.png", protection_figure(rows))
    write_file(folder / "protection.md", "\n".join(table.markdown() for table in tables).encode())
