"""`gradfec sweep all`: every figure and table of docs/explanation/results.md, each with its command; can be resumed."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import click

from gradfec_cli import GRADFEC
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import DEFAULT_NETWORK, named_network
from gradfec_host.console import CONTEXT, EXIT_INTERRUPTED, plain_errors
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.daemons import daemons_table
from gradfec_lab.sweep.labels import labels_of
from gradfec_lab.sweep.store import unwritable, write_file

TABLES = "tables.md"


class Part(NamedTuple):
    """One command, `gradfec sweep SWEEP OPTIONS --images ...`, and the name of its results."""

    name: str
    title: str
    sweep: str
    options: list[str]
    subset: bool = False  # too slow for all images


TABLE = "gradcam,proxy,proxy-uncompensated,proxy-paper,activation,deviation,static,random"
FIGURE = "gradcam,proxy,proxy-paper,activation,deviation,static,random"

# Each sweep's own defaults apply unless set here.
PARTS = [
    Part(
        "importance", "Estimators", "importance",
        ["--order", "least", "--drop", "0.4,0.5,0.6,0.7", "--fill", "zero,mean", "--estimators", TABLE],
    ),
    Part(
        "figure5", "Figure 5", "importance",
        ["--drop", "0.1,0.3,0.5,0.7,0.9", "--estimators", FIGURE], subset=True,
    ),
    Part("figure6", "Figure 6", "protection", [], subset=True),
    Part(
        "bursts", "Bursts, and both codes", "protection",
        ["--fec", "zfec,leopard", "--burst", "iid,8,20", "--loss", "0.2,0.4", "--protect", "none,FEC_20_80,FEC_50_50"],
        subset=True,
    ),
    Part("quantise", "Quantisers", "quantise", [], subset=True),
    Part("daemons", "Through the real daemons and the injector", "daemons", ["--limit", "300"]),
    Part(
        "sweep-40", "A sweep at 40 % lost", "protection",
        ["--loss", "0,0.4", "--protect", "FEC_50_50", "--limit", "200"],
    ),
    Part(
        "daemons-40", "The same images through the real daemons, 40 % lost", "daemons",
        ["--loss", "40%", "--protect", "FEC_50_50", "--limit", "200"],
    ),
]  # fmt: skip


@click.command(name="all", context_settings=CONTEXT)
@plain_errors
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of images.")
@click.option("--labels", type=click.Path(path_type=Path), help="CSV of file name and class index, for top-1.")
@click.option("--limit", type=click.IntRange(1), help="Use this many images, the first by name. [default: all]")
@click.option("--subset", default=300, type=click.IntRange(1), help="How many images to draw for Figures 5 and 6.")
@click.option("--repetitions", default=3, type=click.IntRange(1), help="Draws of the losses for each image.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for all results; a run resumes there."
)
def command(images: Path, labels: Path | None, limit: int | None, subset: int, repetitions: int, out: Path) -> None:
    """Run all sweeps in docs/explanation/results.md, and collect their figures and tables.

    This takes hours; each part shows how long. After Ctrl-C, the same command resumes where it stopped.
    """
    network = named_network(DEFAULT_NETWORK)
    names = Photographs(images, network.preprocess, limit).names
    if labels is not None:
        labels_of(labels, names, network.output.shape[-1])
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from None
    chapters = []
    for part in PARTS:
        command = arguments(part, images, labels, limit, subset, repetitions, out)
        click.echo(f"{part.title}: {shlex.join(['gradfec', *command])}", err=True)
        if part.sweep == "daemons":
            run_daemons(command, out / part.name)
        else:
            run_sweep(command)
        chapters.append(chapter(part, command, out))
        write_file(out / TABLES, "\n".join(chapters).encode())
    figures = ", ".join(path.name for path in sorted(out.glob("*.png")))
    click.echo(f"all figures and tables are in {out}: {TABLES}, {figures}")


def arguments(
    part: Part, images: Path, labels: Path | None, limit: int | None, subset: int, repetitions: int, out: Path
) -> list[str]:
    """Return the arguments of `gradfec` for a part."""
    options = [*part.options]
    if limit is not None and "--limit" not in options:
        options += ["--limit", str(limit)]
    if part.subset:
        options += ["--sample", str(subset)]
    if part.sweep == "protection":
        options += ["--repetitions", str(repetitions)]
    if part.sweep == "daemons":
        options += ["--json"]
    else:
        options += ["--out", str(out / part.name)]
    return ["sweep", part.sweep, "--images", str(images), *(["--labels", str(labels)] if labels else []), *options]


def run_sweep(command: list[str]) -> None:
    """Run a sweep, which writes its own results and reports its own errors."""
    check(command, subprocess.run([*GRADFEC, *command], check=False, stdout=subprocess.DEVNULL).returncode)


def run_daemons(command: list[str], folder: Path) -> None:
    """Run a sweep over the daemons and write its results to the folder, unless they are there."""
    results = folder / "daemons.json"
    if results.exists() and json.loads(results.read_bytes()).get("command") == command:
        return
    done = subprocess.run([*GRADFEC, *command], check=False, stdout=subprocess.PIPE)
    check(command, done.returncode)
    folder.mkdir(exist_ok=True)
    found = {"command": command, **json.loads(done.stdout)}
    write_file(results, json.dumps(found, indent=1).encode())
    write_file(folder / "daemons.md", daemons_table(found["rows"]).markdown().encode())


def check(command: list[str], code: int) -> None:
    """Raise GradfecError or UsageError for a part that failed, as its exit code says; its own error is above."""
    if code < 0 or code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        text = f"`{shlex.join(['gradfec', *command])}` ended with exit code {code}; the reason is above"
        raise (UsageError if code == UsageError.exit_code else GradfecError)(f"{text}; finished results are kept")


def chapter(part: Part, command: list[str], out: Path) -> str:
    """Return a part's tables and figure as Markdown, under its command; copy the figure next to it."""
    folder = out / part.name
    figure = folder / f"{part.sweep}.png"
    picture = ""
    if figure.exists():
        shutil.copyfile(figure, out / f"{part.name}.png")
        picture = f"\n![{part.title}]({part.name}.png)\n"
    tables = (folder / f"{part.sweep}.md").read_text("utf-8")
    return f"## {part.title}\n\n    {shlex.join(['gradfec', *command])}\n{picture}\n{tables}"
