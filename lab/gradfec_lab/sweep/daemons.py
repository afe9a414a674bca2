"""`gradfec sweep daemons`: how losses change the answers, with the real daemons and the loss injector."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from gradfec_cli.experiment import Link, Record, Run, coding_options, run_with_own_cloud, top1, unaccounted
from gradfec_cli.options import fec_option, packets_option, packets_text
from gradfec_cli.quantities import datagrams, percentage
from gradfec_common.errors import UsageError
from gradfec_common.networks import DEFAULT_CUT, Network, named_cut
from gradfec_edge.coding import Coding, coding_of
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_lab.sweep.arguments import names_list, read_policies
from gradfec_lab.sweep.labels import read_labels
from gradfec_lab.sweep.report import Grid, Row

COUNTS = ("sent", "lost", "recovered", "missing")  # of datagrams, and then of packets
HEADER = ["policy", "codec", "loss", "frames", "top-1", "agreement", *COUNTS, "bytes a frame", "unaccounted"]


@dataclass(frozen=True)
class Setting:
    """How the edge codes its frames; `codec`, `fec` and `importance` are as in the options."""

    codec: str
    coding: Coding
    fec: str
    importance: str

    @property
    def policy(self) -> str:
        """The policy's name."""
        return self.coding.policy.name

    def options(self) -> list[str]:
        """Return the edge's options."""
        coding = coding_options(self.policy, self.fec, self.codec, self.coding.packets_a_datagram)
        return [*coding, "--importance", self.importance]


def shares(text: str) -> list[float]:
    """Read `0,10%,0.3` as shares from 0 to 1; click.BadParameter."""
    return [percentage(part) for part in text.split(",")]


@click.command(context_settings=CONTEXT)
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of images.")
@click.option("--labels", type=click.Path(path_type=Path), help="CSV of file name and class index.")
@click.option("--limit", default=300, type=click.IntRange(1), help="Use this many images, the first by name.")
@click.option("--loss", default="0,10%,30%,50%", type=shares, metavar="SHARES", help="Shares of the datagrams to lose.")
@click.option("--burst", type=datagrams, metavar="N", help="Lose datagrams in bursts of N on average.")
@click.option("--protect", default="none,FEC_50_50,FEC_20_80", metavar="POLICIES", help="Policies to compare.")
@fec_option()
@click.option(
    "--codec", default="uniform8", metavar="NAMES", help="Codecs to compare: uniform8, sqrt4, bottleneck and so on."
)
@packets_option()
@click.option("--importance", metavar="NAME", help="The edge's estimator. [default: the edge's default]")
@click.option("--fill", default="zero", metavar="NAME", help="The cloud's --fill.")
@click.option(
    "--seed", default=1, type=click.IntRange(min=0), help="Seed for the losses, which are the same for each policy."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def daemons(
    images: Path,
    labels: Path | None,
    limit: int,
    loss: list[float],
    burst: float | None,
    protect: str,
    fec: str,
    codec: str,
    packets_a_datagram: int | None,
    importance: str | None,
    fill: str,
    seed: int,
    as_json: bool,
) -> None:
    """Send images through the real edge, loss injector and cloud, and account for every datagram.

    With one packet a datagram and 8 bits, the default, the edge runs in paper mode. Top-1 compares with the labels,
    agreement with the uncut model. A frame without an answer counts as wrong.
    """
    import tempfile

    cut = named_cut(DEFAULT_CUT)
    settings = [
        setting_of(name, coding_of(cut, None, name, policy, fec, packets_a_datagram), fec, importance)
        for name, policy in product(names_list(codec), read_policies(protect))
    ]
    links = [Link(lost, burst, seed) for lost in loss]
    truth = read_labels(labels) if labels else None
    console = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="gradfec-sweep-") as name:
        folder = Path(name)
        count = link_images(images, folder, limit)
        reference = answers(cut.network, folder, console)
        rows = [uncut_row(reference, truth, count)]
        rows += [
            row(folder, setting, link, fill, reference, truth, console) for link, setting in product(links, settings)
        ]
    if as_json:
        said = {"images": count, "fec": fec, "packets_per_datagram": packets_text(packets_a_datagram)}
        click.echo(json.dumps({**said, "burst": burst, "rows": rows}))
    else:
        daemons_table(rows).show()


def setting_of(codec: str, coding: Coding, fec: str, importance: str | None) -> Setting:
    """Return a setting; UsageError for an unknown estimator, or one that was not made for these packets."""
    import numpy as np

    from gradfec_edge.importance import default_estimator, make_estimator

    importance = importance or default_estimator(coding.cut, coding.grid, coding.quantiser.needs)
    make_estimator(importance, coding.cut, coding.grid, np.random.default_rng())  # fail early
    return Setting(codec, coding, fec, importance)


def link_images(images: Path, folder: Path, limit: int) -> int:
    """Put links to the first `limit` images, by name, into a folder; return their number. UsageError without any."""
    from gradfec_edge.camera import IMAGE_SUFFIXES

    if not images.is_dir():
        raise UsageError(f"{images} is not a folder: --images takes a folder of images")
    visible = (path for path in images.iterdir() if not path.name.startswith("."))  # like the edge
    chosen = sorted(path for path in visible if path.suffix.lower() in IMAGE_SUFFIXES)[:limit]
    for path in chosen:
        (folder / path.name).symlink_to(path.resolve())
    if not chosen:
        raise UsageError(f"{images} has no images")
    return len(chosen)


def answers(network: Network, folder: Path, console: Console) -> dict[str, int]:
    """Return the uncut model's class for each readable image."""
    from gradfec_host.weights import ensure_weights
    from gradfec_host.weights.progress import show_progress

    with show_progress() as progress:
        weights = ensure_weights(network, None, progress)
    from gradfec_cli.uncut import predict, uncut_model

    with console.status("running the uncut model"):
        return {name: int(scores.argmax()) for name, scores in predict(uncut_model(weights), folder)}


def uncut_row(reference: Mapping[str, int], truth: Mapping[str, int] | None, count: int) -> Row:
    """Return the table's row for the uncut model."""
    right = None if truth is None else share(truth.get(name) == index for name, index in reference.items())
    return {"protect": "uncut", "loss": None, "frames": count, "top1": right, "agreement": 1.0}


def row(
    folder: Path,
    setting: Setting,
    link: Link,
    fill: str,
    reference: Mapping[str, int],
    truth: Mapping[str, int] | None,
    console: Console,
) -> Row:
    """Measure one setting at one loss, with a separate cloud, so that every datagram can be accounted for."""
    run, cloud = one_run(folder, link, setting, fill, console)
    return {
        "protect": setting.policy,
        "codec": setting.codec,
        "importance": setting.importance,
        "loss": link.loss,
        "frames": len(run.records),
        "outcomes": dict(Counter(record["outcome"] for record in run.records)),
        "top1": None if truth is None else share(truth.get(r["source"]) == top1(r) for r in run.records),
        "agreement": run.agreement(reference),
        "packets": run.packets(),
        "datagrams": run.datagrams(),
        "frame_bytes": round(run.frame_bytes()),
        "latency_ms": run.latency_ms(),
        "unaccounted": unaccounted(run, cloud),
        "edge": run.edge,
        "injector": run.injector,
        "cloud": cloud,
    }


def one_run(folder: Path, link: Link, setting: Setting, fill: str, console: Console) -> tuple[Run, Mapping[str, Any]]:
    """Run a cloud, an injector and an edge once; return the run and the cloud's totals."""
    count = sum(1 for _ in folder.iterdir())
    title = f"{setting.policy}, {setting.codec} at {link.loss:.0%}"
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"{title}: starting", total=count)

        def advance(record: Record) -> None:
            progress.update(task, advance=1, description=title)

        return run_with_own_cloud(folder, link, setting.options(), advance, fill)


def share(hits: Iterable[bool]) -> float:
    """Return the share of true values."""
    values = [*hits]
    return sum(values) / len(values)


def daemons_table(rows: list[Row]) -> Grid:
    """Make the table of the rows."""
    lines = []
    for measured in rows:
        counts = {**measured.get("datagrams", {}), **measured.get("packets", {})}
        loose, size = measured.get("unaccounted"), measured.get("frame_bytes")
        lines.append(
            [
                measured["protect"],
                measured.get("codec", ""),
                "" if measured["loss"] is None else f"{measured['loss']:.0%}",
                str(measured["frames"]),
                "" if measured["top1"] is None else f"{measured['top1']:.1%}",
                f"{measured['agreement']:.1%}",
                *(f"{counts[name]:,}" if counts else "" for name in COUNTS),
                "" if size is None else f"{size:,}",
                "" if loose is None else str(sum(map(abs, loose.values()))),
            ]
        )
    return Grid("Every datagram accounted for", HEADER, lines, names=2)
