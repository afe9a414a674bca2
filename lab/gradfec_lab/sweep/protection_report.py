"""The report of `gradfec sweep protection`: agreement by policy and loss, and the cost of losses beyond the drop."""

from __future__ import annotations

from typing import Any

from gradfec_lab.sweep.engine import nothing_at_hand
from gradfec_lab.sweep.losses import IID
from gradfec_lab.sweep.protection_points import ProtectionSweep
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
)
from gradfec_lab.sweep.statistics import Bootstrap, interval
from gradfec_lab.sweep.study import learned_fingerprints

KEYS = ("policy", "fill", "loss")
UNPROTECTED = "none"
VARIANT = ("codec", "packets", "code", "burst", "importance")

Variant = tuple[str, ...]  # the values of VARIANT


def report(sweep: ProtectionSweep) -> Report:
    """Compute what is missing, and report everything, also into the study's folder if it has one."""
    study, points = sweep.study, sweep.points()
    with study.store("protection", **sweep.settings()) as store:
        store.vouch(learned_fingerprints(study.cut))
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
        found = variants_of(rows)
        variants = [variant_members(rows, variant) for variant in found]
        members: dict[str, Any] = {
            **study.about(store, names),
            "repetitions": sweep.repetitions,
            "lossless_top1": lossless(store, names, study.truth),
            **variants[0],
            "variants": variants,
            "costs": sweep.costs(),
            "left_out": [{"burst": burst, "loss": loss} for burst, loss in sweep.left_out],
        }
    tables = [*make_tables(rows, len(names), sweep.repetitions), cost_table(sweep)]
    made = Report(members, tables)
    if study.out is not None:
        from gradfec_lab.sweep.figures import protection_figure

        made.write(study.out, "protection", rows, protection_figure(rows))
    return made


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
        bare = column.get(tuple({**measured.fields[i], "policy": UNPROTECTED}.values()))
        if bare is not None and bare != i:
            low, high = interval(measured.resampled[:, i] - measured.resampled[:, bare])
            row["gain"] = round(row["agreement"] - rows[bare]["agreement"], DIGITS)
            row["gain_low"], row["gain_high"] = round(float(low), DIGITS), round(float(high), DIGITS)


def variants_of(rows: list[Row]) -> list[Variant]:
    """Return the existing values of VARIANT, in order."""
    return [*dict.fromkeys(tuple(row[name] for name in VARIANT) for row in rows)]


def rows_of(variant: Variant, rows: list[Row]) -> list[Row]:
    """Return the rows of one variant."""
    return [row for row in rows if tuple(row[name] for name in VARIANT) == variant]


def variant_members(rows: list[Row], variant: Variant) -> dict[str, Any]:
    """Return the JSON members for one variant."""
    own = rows_of(variant, rows)
    members: dict[str, Any] = {**dict(zip(VARIANT, variant, strict=True)), **shares_and_intervals(own, KEYS)}
    priced = [row for row in own if "by_losses" in row]
    members["by_losses"] = nested(priced, KEYS, "by_losses")
    members["by_losses_ci"] = nested(priced, KEYS, ("by_losses_low", "by_losses_high"))
    compared = [row for row in own if "gain" in row]
    members["gain"] = nested(compared, KEYS, "gain")
    members["gain_ci"] = nested(compared, KEYS, ("gain_low", "gain_high"))
    return members


def make_tables(rows: list[Row], images: int, repetitions: int) -> list[Grid]:
    """Make the tables for each variant."""
    tables = []
    for variant in variants_of(rows):
        own = rows_of(variant, rows)
        codec, packets, code, burst, estimator = variant
        losses = "independent losses" if burst == IID else f"losses in bursts of {burst} on average"
        about = f"{losses}, {codec}, packets a datagram: {packets}, code {code}, importance {estimator}"
        about += f"; {images} images x {repetitions}"
        tables.append(
            pivot(f"Agreement with the lossless answer, %, by loss: {about}", own, ("policy", "fill"), "loss")
        )
        if "top1" in own[0]:
            tables.append(pivot(f"Top-1, %, by loss: {about}", own, ("policy", "fill"), "loss", "top1"))
        if compared := [row for row in own if "gain" in row]:
            title = f"Agreement gained over no protection, points, paired, by loss: {about}"
            tables.append(pivot(title, compared, ("policy", "fill"), "loss", "gain"))
    return tables


def cost_table(sweep: ProtectionSweep) -> Grid:
    """Make the table of a frame's datagrams and bytes."""
    lines = [
        [
            row["codec"],
            row["code"],
            row["policy"],
            *(f"{row[name]:,}" if row[name] else "" for name in ("datagrams", "bytes")),
        ]
        for row in sweep.costs()
    ]
    title = f"A frame on the link, packets a datagram: {sweep.packets}"
    return Grid(title, ["codec", "code", "policy", "datagrams", "bytes of UDP payload"], lines, names=3)
