"""`gradfec sweep`: answers against losses, over a folder of images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import click

from gradfec_common.console import plain_errors
from gradfec_common.errors import GradfecError, UsageError
from gradfec_lab.experiment import Link, Record, Run, run_over_link, top1, unaccounted
from gradfec_lab.netem import percentage

COLUMNS = ("protect", "loss", "frames", "top1", "agreement", "sent", "lost", "recovered", "missing", "unaccounted")


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
def sweep() -> None:
    """Measure answers against losses, over a folder of images."""


def shares(text: str) -> list[float]:
    """Parse `0,10%,0.3` into shares."""
    return [percentage(part) for part in text.split(",")]


@sweep.command()
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of images.")
@click.option("--labels", type=click.Path(path_type=Path), help="CSV of file name and class index, without a header.")
@click.option("--limit", default=300, type=click.IntRange(1), help="Use the first so many images, by name.")
@click.option("--loss", default="0,10%,30%,50%", type=shares, metavar="SHARES", help="Shares of datagrams lost.")
@click.option("--burst", type=float, metavar="N", help="Lose in bursts of N datagrams on average.")
@click.option("--protect", default="none,FEC_50_50,FEC_20_80", metavar="SCHEMES", help="Schemes to compare.")
@click.option("--importance", default="activation", metavar="NAME", help="The edge's estimator.")
@click.option("--seed", default=1, type=click.IntRange(min=0), help="Of the losses: the same for each scheme.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def daemons(
    images: Path,
    labels: Path | None,
    limit: int,
    loss: list[float],
    burst: float | None,
    protect: str,
    importance: str,
    seed: int,
    as_json: bool,
) -> None:
    """Send images through the real edge, loss injector and cloud, and account for every datagram.

    Top-1 is against the labels, agreement against the uncut model; a frame without an answer counts as wrong.
    """
    import tempfile

    from rich.console import Console

    from gradfec_common.plan import parse_scheme

    schemes = [parse_scheme(name).name for name in protect.split(",")]
    truth = read_labels(labels) if labels else None
    console = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="gradfec-sweep-") as name:
        folder = Path(name)
        count = link_images(images, folder, limit)
        reference = answers(folder, console)
        rows = [uncut_row(reference, truth, count)]
        for share in loss:
            for scheme in schemes:
                rows.append(row(folder, scheme, Link(share, burst, seed), importance, reference, truth, console))
    if as_json:
        click.echo(json.dumps({"images": count, "importance": importance, "burst": burst, "rows": rows}))
    else:
        print_table(rows)


def read_labels(path: Path) -> dict[str, int]:
    """Read a CSV of file name and class index; a first line that has no index is a header."""
    try:
        with path.open(newline="") as file:
            rows = [line for line in csv.reader(file) if line]
    except OSError as error:
        raise GradfecError(f"cannot read labels from {path}: {error.strerror}") from None
    if rows and not rows[0][-1].strip().isdigit():
        rows = rows[1:]
    try:
        return {line[0]: int(line[1]) for line in rows}
    except (IndexError, ValueError):
        raise UsageError(f"{path} is no list of labels: each line must be FILE,CLASS_INDEX") from None


def link_images(images: Path, folder: Path, limit: int) -> int:
    """Put links to the first `limit` images, by name, into a folder; return how many there are."""
    from gradfec_edge.camera import IMAGE_SUFFIXES

    if not images.is_dir():
        raise UsageError(f"{images} is no folder: --images takes a folder of images")
    chosen = sorted(path for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)[:limit]
    for path in chosen:
        (folder / path.name).symlink_to(path.resolve())
    if not chosen:
        raise UsageError(f"{images} has no images")
    return len(chosen)
