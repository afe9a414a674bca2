"""`gradfec sweep rate`: how many bytes a frame takes, and whether the answer stays the same, for each codec.

Nothing is lost, and there is no parity. Each tensor goes through packing, datagrams, reassembly and decoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from gradfec_host.console import CONTEXT, plain_errors
from gradfec_lab.sweep.arguments import names_list
from gradfec_lab.sweep.codecs import Codec, make_codec
from gradfec_lab.sweep.ends import Ends, Floats, Image, ends_of, sent_whole
from gradfec_lab.sweep.engine import REFERENCE
from gradfec_lab.sweep.report import Grid, Report, Row, lossless, measure, measures, percents
from gradfec_lab.sweep.second_looks import NAME as SECOND_LOOKS
from gradfec_lab.sweep.second_looks import SecondLooks, second_looks
from gradfec_lab.sweep.statistics import Bootstrap
from gradfec_lab.sweep.store import Record, Store
from gradfec_lab.sweep.study import Study, study_options

CODECS = "bottleneck,second-look,sqrt,uniform8,jpeg,webp,avif"


@click.command(context_settings=CONTEXT)
@plain_errors
@study_options
@click.option(
    "--codecs",
    default=CODECS,
    metavar="NAMES",
    help="bottleneck, the shipped one, or FILE.npz from gradfec train-codec, with qualities of 1 to 9; second-look, as "
    "gradfec-edge --second-look, with scores of 0.3 to 0.95; sqrt and uniform, with 2 to 8 bits; jpeg, webp and "
    "progressive, with qualities of 2 to 90, avif, of 20 to 90; or a single one: webp:20.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def rate(study: Study, codecs: str, as_json: bool) -> None:
    """Measure the bytes of a frame of ResNet-50 against its answers, for each codec, without losses or protection.

    For another network, gradfec plan --goal bytes compares codecs. Bytes are all bytes of UDP payload: headers, seals,
    packets. Agreement is with the answer of the uncut network to the same picture. Intervals are 95 %, by bootstrap
    over the images. With --out, an interrupted run resumes.
    """
    place = study.cut, study.grid.rows
    chosen = [second_looks(*place) if name == SECOND_LOOKS else make_codec(name, *place) for name in names_list(codecs)]
    report(study, chosen).show(as_json)


@dataclass(frozen=True)
class Point:
    """A codec at one of its settings."""

    codec: Codec | SecondLooks
    setting: str

    @property
    def name(self) -> str:
        """Its name in the store."""
        return f"{self.codec.name}/{self.setting}"

    @property
    def bytes(self) -> str:
        """The name of its bytes in the store."""
        return f"bytes/{self.name}"


class Rates:
    """Asks the networks for what the store lacks; codecs at the same place share their ends."""

    def __init__(self, study: Study, points: list[Point], store: Store) -> None:
        """Load all networks."""
        self._store = store
        self._points = [(point, point.codec) for point in points if isinstance(point.codec, Codec)]
        self._looks = [(point, point.codec) for point in points if isinstance(point.codec, SecondLooks)]
        uncut = make_codec("webp", study.cut, study.grid.rows)
        both = [codec for _, looks in self._looks for codec in looks.codecs]
        self._ends = ends_of([uncut, *(codec for _, codec in self._points), *both])
        self._uncut = self._ends[uncut.place]
        for _, codec in self._points:
            store.vouch({codec.name: codec.place})
        for _, looks in self._looks:
            store.vouch(looks.fingerprints)
        for ends in self._ends.values():
            store.vouch(ends.fingerprints)

    def examine(self, name: str, image: Image) -> Record:
        """Return an image's answers, and the bytes of its tensors."""
        known = self._store.records.get(name, Record()).answers
        record = Record()
        if REFERENCE not in known:
            record.answers[REFERENCE] = [*self._uncut.classes([self._uncut.features(image).chi])]
        for place, ends in self._ends.items():
            points = [one for one in self._points if one[1].place == place and one[0].name not in known]
            if points:
                classes = ends.classes(self._tensors(points, ends, image, record))
                record.answers |= {point.name: [index] for (point, _), index in zip(points, classes, strict=True)}
        if any(point.name not in known for point, _ in self._looks):
            found = self._looks[0][1].look(image, self._ends)
            for point, _ in self._looks:
                index, size = found[point.setting]
                record.answers[point.name], record.numbers[point.bytes] = [index], float(size)
        return record

    def _tensors(self, points: list[tuple[Point, Codec]], ends: Ends, image: Image, record: Record) -> Iterator[Floats]:
        """Yield what the cloud decodes at each point, and note its bytes."""
        features = ends.features(image)
        for point, codec in points:
            tensor, size = sent_whole(codec.at(point.setting), features, ends)
            record.numbers[point.bytes] = float(size)
            yield tensor


def report(study: Study, codecs: list[Codec | SecondLooks]) -> Report:
    """Compute what is missing, and report everything, also into the study's folder if it has one."""
    points = [Point(codec, setting) for codec in codecs for setting in codec.settings]
    wanted = {REFERENCE: 1, **{point.name: 1 for point in points}}
    sizes = [point.bytes for point in points]
    with study.store("rate") as store:
        todo = [name for name in study.names if not store.knows(name, wanted, sizes)]
        if todo:
            study.each(store, todo, Rates(study, points, store).examine, "running the codecs")
        names = study.usable(store)
        fields: dict[str, Row] = {p.name: {"codec": p.codec.name, "setting": p.setting} for p in points}
        rows = measure(store, names, fields, 1, study.truth, Bootstrap(len(names))).rows()
        for row, size in zip(rows, store.numbers(names, sizes).mean(axis=0).tolist(), strict=True):
            row["bytes"] = round(size, 1)
        members: dict[str, Any] = {
            **study.about(store, names),
            "lossless_top1": lossless(store, names, study.truth),
            "rate": {codec.name: [entry(row) for row in rows if row["codec"] == codec.name] for codec in codecs},
        }
    made = Report(members, [make_table(rows, len(names))])
    if study.out is not None:
        from gradfec_lab.sweep.figures import rate_figure

        made.write(study.out, "rate", rows, rate_figure(rows))
    return made


def entry(row: Row) -> Row:
    """Return a point as in the JSON object."""
    return {"setting": row["setting"], "bytes": row["bytes"], **measures(row)}


def make_table(rows: list[Row], images: int) -> Grid:
    """Make the table."""
    found = [name for name in ("agreement", "top1") if name in rows[0]]
    lines = [
        [row["codec"], row["setting"], f"{row['bytes']:,.0f}", *(percents(row, name) for name in found)] for row in rows
    ]
    return Grid(
        f"Bytes a frame and answers, nothing lost, %; {images} images", ["codec", "setting", "bytes", *found], lines, 2
    )
