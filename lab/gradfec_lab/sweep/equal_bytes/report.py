"""The report of `gradfec sweep protection --bytes`: answers and chosen plans, by codec, bytes and link."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradfec_lab.sweep.equal_bytes.choice import candidates, choose, refitted
from gradfec_lab.sweep.equal_bytes.comparison import Comparison, Slot
from gradfec_lab.sweep.equal_bytes.sender import Scheme
from gradfec_lab.sweep.equal_bytes.trial import Networks, Trial, point_name, wanted_of
from gradfec_lab.sweep.losses import IID, is_feasible
from gradfec_lab.sweep.report import Grid, Report, Row, lossless, measure, measures, pivot, text
from gradfec_lab.sweep.statistics import Bootstrap
from gradfec_lab.sweep.store import Store


def compared(comparison: Comparison) -> Report:
    """Choose the plans, measure them, and report everything, also into the study's folder if it has one."""
    study, tuning = comparison.study, comparison.tuning
    networks = Networks(study, comparison.codecs)
    with tuning.store("protection --bytes, tuning") as store:
        tuned = choose(Trial(comparison, tuning, store, networks), candidates(comparison, networks))
    chosen = refitted(comparison, networks, tuned)
    with study.store("protection --bytes") as store:
        trial = Trial(comparison, study, store, networks)
        names = trial.run(study.names, wanted_of({slot: [scheme] for slot, scheme in chosen.items()}), "measuring")
        rows = rows_of(comparison, store, names, chosen)
        members: dict[str, Any] = {
            **study.about(store, names),
            "tuning_images": len(tuning.names),
            "repetitions": comparison.repetitions,
            "lossless_top1": lossless(store, names, study.truth),
            "equal_bytes": nested_by_link(rows),
            "left_out": [{"burst": link[0], "loss": link[1]} for link in comparison.links if not is_feasible(*link)],
            "no_plan": [slot._asdict() for slot in comparison.slots if slot not in chosen],
        }
    tables = make_tables(rows, len(names), comparison.repetitions)
    made = Report(members, tables)
    if study.out is not None:
        from gradfec_lab.sweep.figures import equal_bytes_figure

        made.write(study.out, "equal_bytes", rows, equal_bytes_figure(rows, comparison.sizes))
    return made


def rows_of(comparison: Comparison, store: Store, names: list[str], chosen: Mapping[Slot, Scheme]) -> list[Row]:
    """Return a row for each slot: its plan, the frames' mean bytes and datagrams, the answers and their intervals."""
    points = {slot: point_name(scheme, slot.link) for slot, scheme in chosen.items()}
    fields: dict[str, Row] = {point: {"point": point} for point in points.values()}
    measured = measure(
        store, names, fields, comparison.repetitions, comparison.study.truth, Bootstrap(len(names))
    ).rows()
    answers = {row.pop("point"): row for row in measured}
    rows = []
    for slot, scheme in chosen.items():
        size, datagrams = store.numbers(names, [scheme.bytes_name, scheme.datagrams_name]).mean(axis=0).tolist()
        row: Row = {**slot._asdict(), "setting": scheme.setting, "plan": scheme.policy}
        row |= {"mean_bytes": round(size, 1), "datagrams": round(datagrams, 2)}
        rows.append(row | answers[points[slot]])
    return rows


def nested_by_link(rows: list[Row]) -> dict[str, Any]:
    """Return the rows as nested[codec][bytes][loss][link]."""
    tree: dict[str, Any] = {}
    for row in rows:
        at_loss = tree.setdefault(row["codec"], {}).setdefault(str(row["bytes"]), {}).setdefault(text(row["loss"]), {})
        said = {name: row[name] for name in ("setting", "plan", "mean_bytes", "datagrams")}
        at_loss[link_name(row["burst"])] = measures(row) | said
    return tree


def link_name(burst: str) -> str:
    """Return the name of a kind of losses: iid, or burst8."""
    return burst if burst == IID else f"burst{burst}"


def make_tables(rows: list[Row], images: int, repetitions: int) -> list[Grid]:
    """Make a table of the answers for each measure, and one of the plans."""
    named = ("codec", "bytes", "burst")
    about = f"each with its best plan at equal bytes; {images} images x {repetitions}"
    tables = [pivot(f"Agreement with the uncut network, %, by loss, {about}", rows, named, "loss")]
    if "top1" in rows[0]:
        tables.append(pivot(f"Top-1, %, by loss, {about}", rows, named, "loss", "top1"))
    lines = [
        [
            row["codec"],
            str(row["bytes"]),
            row["burst"],
            f"{row['loss']:.0%}",
            row["setting"],
            row["plan"],
            f"{row['mean_bytes']:,.0f}",
            f"{row['datagrams']:.1f}",
        ]
        for row in rows
    ]
    header = [*named, "loss", "setting", "plan", "bytes a frame", "datagrams"]
    return [*tables, Grid("The chosen plans", header, lines, names=6)]
