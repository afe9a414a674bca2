"""The report of `gradfec sweep importance`: agreement, rankings, and how the estimators differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradfec_cli.oracle import ORACLE
from gradfec_lab.sweep.engine import nothing_at_hand
from gradfec_lab.sweep.importance_points import ImportanceSweep
from gradfec_lab.sweep.report import (
    DIGITS,
    Grid,
    Measured,
    Report,
    Row,
    lossless,
    measure,
    pivot,
    shares_and_intervals,
    text,
    to_csv,
)
from gradfec_lab.sweep.statistics import Bootstrap, Values, interval
from gradfec_lab.sweep.store import Store, write_file
from gradfec_lab.sweep.study import learned_fingerprints

KEYS = ("estimator", "fill", "drop")
LIKE_CHANCE = 0.05  # a correlation below this says next to nothing of which packets matter
FREE = ("activation", "deviation", "static", "random")  # estimators without a trained network


def report(sweep: ImportanceSweep) -> Report:
    """Compute what is missing, and report everything, also into the study's folder if it has one."""
    study, points = sweep.study, sweep.points()
    with study.store("importance") as store:
        store.vouch(learned_fingerprints(study.cut))
        names = study.run(
            store,
            [*dict.fromkeys([*sweep.estimators, ORACLE])],
            dict.fromkeys(points, 1),
            sweep.cases,
            sweep.quality,
            sweep.numbers(),
            [nothing_at_hand(study.grid, rule) for rule in sweep.fills],
        )
        bootstrap = Bootstrap(len(names))
        measured = measure(store, names, points, 1, study.truth, bootstrap)
        rankings = ranking_rows(store, names, sweep, bootstrap)
        rows = measured.rows()
        compared = differences(measured)
        least, most = ([row for row in rows if row["order"] == order] for order in ("least", "most"))
        members: dict[str, Any] = {
            **study.about(store, names),
            "lossless_top1": lossless(store, names, study.truth),
            **shares_and_intervals(least, KEYS),
            "most_first": shares_and_intervals(most, KEYS) if most else None,
            **quality_members(rankings),
            "differences": compared,
        }
    tables = make_tables(least, most, rankings, compared, len(names))
    made = Report(members, tables)
    if study.out is not None:
        from gradfec_lab.sweep.figures import importance_figure

        made.write(study.out, "importance", rows, importance_figure(rows))
        write_file(study.out / "rankings.csv", to_csv(rankings))
    return made


def ranking_rows(store: Store, names: list[str], sweep: ImportanceSweep, bootstrap: Bootstrap) -> list[Row]:
    """Return a row for each estimator: means of Spearman's correlation and of the kept importance, with intervals."""
    wanted = sweep.numbers()
    values = store.numbers(names, wanted)
    low, high = interval(bootstrap.means(values))
    found = dict(zip(wanted, zip(values.mean(axis=0), low, high, strict=True), strict=True))
    rows = []
    for estimator in sweep.estimators:
        row: Row = {"estimator": estimator}
        for name in ("spearman", "mass_kept"):
            three = [round(float(value), DIGITS) for value in found[f"{name}/{estimator}"]]
            row[name], row[f"{name}_low"], row[f"{name}_high"] = three
        rows.append(row)
    return rows


def quality_members(rankings: list[Row]) -> dict[str, Any]:
    """Return the JSON members about the rankings themselves."""
    members: dict[str, Any] = {}
    for name in ("spearman", "mass_kept"):
        members[name] = {row["estimator"]: row[name] for row in rankings}
        members[f"{name}_ci"] = {row["estimator"]: [row[f"{name}_low"], row[f"{name}_high"]] for row in rankings}
    return members


def differences(measured: Measured) -> list[Row]:
    """Compare each estimator with the best free one and with the oracle at each fill and drop, image by image.

    `gap_closed` is its place between the two: 0 is the best free estimator, 1 the oracle.
    """
    column = {tuple(fields.values()): i for i, fields in enumerate(measured.fields)}
    mean = measured.agreement.mean(axis=0)
    rows = []
    for (order, estimator, fill, drop), i in column.items():
        if order != "least":
            continue
        free = {name: column[order, name, fill, drop] for name in FREE if (order, name, fill, drop) in column}
        best = max(free, key=lambda name: mean[free[name]], default=None)
        for against in dict.fromkeys(filter(None, (best, ORACLE))):
            j = column.get((order, against, fill, drop))
            if against == estimator or j is None:
                continue
            low, high = interval(measured.resampled[:, i] - measured.resampled[:, j])
            row: Row = {"estimator": estimator, "against": against, "fill": fill, "drop": drop}
            row["difference"] = round(float(mean[i] - mean[j]), DIGITS)
            row["ci"] = [round(float(low), DIGITS), round(float(high), DIGITS)]
            oracle = column.get((order, ORACLE, fill, drop))
            if against == best and oracle is not None and estimator != ORACLE and mean[oracle] > mean[j]:
                row["gap_closed"] = round(float((mean[i] - mean[j]) / (mean[oracle] - mean[j])), DIGITS)
                row["gap_closed_ci"] = gap_interval(*measured.resampled[:, [i, j, oracle]].T)
            rows.append(row)
    return rows


def gap_interval(ours: Values, free: Values, oracle: Values) -> list[float]:
    """Return the interval of the closed share of the gap, from resamples (resamples,) of the three agreements."""
    gap = oracle - free
    closed = np.divide(ours - free, gap, out=np.full(len(gap), np.nan), where=gap > 0)  # some resamples may have no gap
    return [round(float(end), DIGITS) for end in interval(closed)]


def make_tables(least: list[Row], most: list[Row], rankings: list[Row], compared: list[Row], images: int) -> list[Grid]:
    """Make the tables."""
    tables = []
    for rows, order in ((least, "least"), (most, "most")):
        if rows:
            title = f"Agreement with the lossless answer, %, by share dropped, {order} important first; {images} images"
            tables.append(pivot(title, rows, ("estimator", "fill"), "drop"))
            if "top1" in rows[0]:
                title = f"Top-1, %, by share dropped, {order} important first; {images} images"
                tables.append(pivot(title, rows, ("estimator", "fill"), "drop", "top1"))
    lines = [[row["estimator"], correlation(row), with_interval(row, "mass_kept")] for row in rankings]
    header = ["estimator", "Spearman correlation with the oracle", "oracle's importance kept at 50 % dropped"]
    tables.append(Grid(f"Rankings, mean over {images} images", header, lines))
    if compared:
        tables.append(difference_table(compared))
    return tables


def with_interval(row: Row, name: str) -> str:
    """Write a number and its interval."""
    return f"{row[name]:.3f} ({row[name + '_low']:.3f}–{row[name + '_high']:.3f})"


def correlation(row: Row) -> str:
    """Write an estimator's correlation with the oracle, and whether it ranks no better than chance."""
    chance = ": like chance" if row["spearman_high"] < LIKE_CHANCE else ""
    return with_interval(row, "spearman") + chance


def difference_table(compared: list[Row]) -> Grid:
    """Make the table of paired differences."""
    lines = [
        [
            *(text(row[name]) for name in ("estimator", "against", "fill")),
            f"{row['drop']:.0%}",
            f"{100 * row['difference']:+.1f} ({100 * row['ci'][0]:+.1f} … {100 * row['ci'][1]:+.1f})",
            gap_text(row),
        ]
        for row in compared
        if row["estimator"] != "random"
    ]
    header = ["estimator", "against", "fill", "dropped", "difference, points", "gap to the oracle closed"]
    return Grid("Paired differences of agreement, least important first", header, lines, names=3)


def gap_text(row: Row) -> str:
    """Write the closed share of the gap and its interval, if there is a gap."""
    if "gap_closed" not in row:
        return ""
    low, high = row["gap_closed_ci"]
    return f"{row['gap_closed']:.0%} ({low:.0%} … {high:.0%})"
