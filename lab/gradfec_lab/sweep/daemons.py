"""`gradfec sweep daemons`: how losses change the answers, with the real daemons and the loss injector."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gradfec_cli.experiment import Link, Record, Run, run_with_own_cloud, top1, unaccounted
from gradfec_cli.netem import datagrams, percentage
from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.console import plain_errors

Row = dict[str, Any]
WIDTH_OF_FILES = 120  # if the table does not go to a terminal, which would wrap it
COLUMNS = ("protect", "loss", "frames", "top1", "agreement", "sent", "lost", "recovered", "missing", "unaccounted")


def shares(text: str) -> list[float]:
    """Parse `0,10%,0.3` into shares."""
    return [percentage(part) for part in text.split(",")]


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of images.")
@click.option("--labels", type=click.Path(path_type=Path), help="CSV of file name and class index.")
@click.option("--limit", default=300, type=click.IntRange(1), help="Use this many images, the first by name.")
@click.option("--loss", default="0,10%,30%,50%", type=shares, metavar="SHARES", help="Shares of the datagrams to lose.")
@click.option("--burst", type=datagrams, metavar="N", help="Lose datagrams in bursts of N on average.")
@click.option("--protect", default="none,FEC_50_50,FEC_20_80", metavar="SCHEMES", help="Protections to compare.")
@click.option("--fec", default="zfec", metavar="CODE", help="Erasure code for FEC_A_B: zfec, leopard, zfec:256.")
@click.option("--importance", metavar="NAME", help="The edge's estimator. [default: the edge's default]")
@click.option(
    "--seed", default=1, type=click.IntRange(min=0), help="Seed for the losses, which are the same for each protection."
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
    importance: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Send images through the real edge, loss injector and cloud, and account for every datagram.

    Top-1 compares with the labels, agreement with the uncut model. A frame without an answer counts as wrong.
    """
    import tempfile

    import numpy as np

    from gradfec_common.codes import fec_named
    from gradfec_common.network import DEFAULT_SPLIT, split_point
    from gradfec_common.packets import PacketGrid
    from gradfec_common.plan import parse_scheme
    from gradfec_edge.importance import DEFAULT_ESTIMATOR, make_estimator

    schemes = [parse_scheme(name, fec_named(fec)).name for name in protect.split(",")]
    links = [Link(lost, burst, seed) for lost in loss]
    importance = importance or DEFAULT_ESTIMATOR
    split = split_point(DEFAULT_SPLIT)
    make_estimator(importance, split, PacketGrid(split.shape), np.random.default_rng())  # fail early
    truth = read_labels(labels) if labels else None
    console = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="gradfec-sweep-") as name:
        folder = Path(name)
        count = link_images(images, folder, limit)
        reference = answers(folder, console)
        rows = [uncut_row(reference, truth, count)]
        rows += [
            row(folder, scheme, fec, link, importance, reference, truth, console)
            for link in links
            for scheme in schemes
        ]
    if as_json:
        click.echo(json.dumps({"images": count, "fec": fec, "importance": importance, "burst": burst, "rows": rows}))
    else:
        print_table(rows)


def read_labels(path: Path) -> dict[str, int]:
    """Read a CSV of file name and class index; a first line without an index is a header."""
    try:
        with path.open(newline="") as file:
            rows = [line for line in csv.reader(file) if line]
    except OSError as error:
        raise GradfecError(f"cannot read labels from {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise UsageError(f"{path} is not a list of labels: it is not text") from None
    if rows and not rows[0][-1].strip().isdigit():
        rows = rows[1:]
    try:
        return {line[0]: int(line[1]) for line in rows}
    except (IndexError, ValueError):
        raise UsageError(f"{path} is not a list of labels: each line must be FILE,CLASS_INDEX") from None


def link_images(images: Path, folder: Path, limit: int) -> int:
    """Put links to the first `limit` images, by name, into a folder; return their number."""
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


def answers(folder: Path, console: Console) -> dict[str, int]:
    """Return the uncut model's class for each readable image."""
    from gradfec_host.weights import ensure_weights
    from gradfec_host.weights.progress import show_progress

    with show_progress() as progress:
        weights = ensure_weights(None, progress)
    from gradfec_cli.uncut import predict, uncut_model

    with console.status("running the uncut model"):
        return {name: int(scores.argmax()) for name, scores in predict(uncut_model(weights), folder)}


def uncut_row(reference: Mapping[str, int], truth: Mapping[str, int] | None, count: int) -> Row:
    """Return the table's row for the uncut model."""
    right = None if truth is None else share(truth.get(name) == index for name, index in reference.items())
    return {"protect": "uncut", "loss": None, "frames": count, "top1": right, "agreement": 1.0}


def row(
    folder: Path,
    scheme: str,
    fec: str,
    link: Link,
    importance: str,
    reference: Mapping[str, int],
    truth: Mapping[str, int] | None,
    console: Console,
) -> Row:
    """Measure one protection at one loss, with a separate cloud, so that every datagram can be accounted for."""
    run, cloud = one_run(folder, link, ["--protect", scheme, "--fec", fec, "--importance", importance], console)
    loose = unaccounted(run, cloud)
    return {
        "protect": scheme,
        "loss": link.loss,
        "frames": len(run.records),
        "outcomes": dict(Counter(record["outcome"] for record in run.records)),
        "top1": None if truth is None else share(truth.get(r["source"]) == top1(r) for r in run.records),
        "agreement": run.agreement(reference),
        "packets": run.packets(),
        "latency_ms": run.latency_ms(),
        "unaccounted": loose,
        "edge": run.edge,
        "injector": run.injector,
        "cloud": cloud,
    }


def one_run(folder: Path, link: Link, edge_options: list[str], console: Console) -> tuple[Run, Mapping[str, Any]]:
    """Run a cloud, an injector and an edge once; return the run and the cloud's totals."""
    count = sum(1 for _ in folder.iterdir())
    title = f"{edge_options[1]} at {link.loss:.0%}"
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"{title}: starting", total=count)

        def advance(record: Record) -> None:
            progress.update(task, advance=1, description=title)

        return run_with_own_cloud(folder, link, edge_options, advance)


def share(hits: Iterable[bool]) -> float:
    """Return the share of true values."""
    values = [*hits]
    return sum(values) / len(values)


def print_table(rows: list[Row]) -> None:
    """Print the rows as a table."""
    table = Table()
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "protect" else "right", overflow="fold")
    for measured in rows:
        packets = measured.get("packets", {})
        loose = measured.get("unaccounted")
        table.add_row(
            measured["protect"],
            "" if measured["loss"] is None else f"{measured['loss']:.0%}",
            str(measured["frames"]),
            "" if measured["top1"] is None else f"{measured['top1']:.1%}",
            f"{measured['agreement']:.1%}",
            *(f"{packets[name]:,}" if packets else "" for name in ("sent", "lost", "recovered", "missing")),
            "" if loose is None else str(sum(map(abs, loose.values()))),
        )
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_OF_FILES)
    console.print(table)
