"""Measure netem against our injector, and print the table: `python -m tests.netem`. As root; some minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from gradfec_cli.demo import answers_of_the_uncut_model, photographs
from gradfec_common.errors import GradfecError
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_host.console import plain_errors
from gradfec_host.weights import ensure_weights

from .measure import IMPAIRMENTS, OFFLOADED, Impairment, Measured, repeated, through_injector, through_netem
from .router import missing, router

MACHINE = Path("build/netem")
Both = tuple[Measured, Measured | None]  # by netem and by the injector, where it has a match
Measure = Callable[[Impairment], Both]
HEADINGS = (
    "| link | netem: lost | in a run | overtaken | answers | injector: lost | in a run | overtaken | answers |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


@click.command(context_settings={"show_default": True})
@click.option("--images", type=click.Path(path_type=Path), help="Folder of images.  [default: the demo's photographs]")
@click.option("--protect", default="FEC_20_80", help="Protection of the frames sent.")
@click.option("--repetitions", default=2, type=click.IntRange(1), help="How often each image is sent.")
@click.option("--rate", default=8.0, help="Mbit/s of the edge: what the machine with netem can take.")
@click.option("--seed", default=7, type=click.IntRange(0), help="Of the injector; netem has none here.")
@click.option("--only", default="", metavar="WORDS", help="Only links whose name has these words.")
@click.option("--machine", default=MACHINE, type=click.Path(path_type=Path), help="Where the machine is built.")
@plain_errors
def main(images: Path | None, protect: str, repetitions: int, rate: float, seed: int, only: str, machine: Path) -> None:
    """Send photographs through the kernel's netem and through gradfec-netem, impaired alike, and compare.

    Lost: share of the datagrams from edge to cloud. In a run: mean length of a run of lost ones. Overtaken: share that
    came after one that was sent later. Answers: frames with the answer of the uncut model.
    """
    if reason := missing():
        raise GradfecError(reason)
    links = [link for link in (*IMPAIRMENTS, OFFLOADED) if only in link.name]
    with measurements(images, protect, repetitions, rate, seed, machine) as (measure, reference):
        click.echo(HEADINGS)
        for link in links:
            by_netem, by_injector = measure(link)
            cells = [*cells_of(by_netem, reference), *(cells_of(by_injector, reference) if by_injector else 4 * [""])]
            click.echo(f"| {link.name} | {' | '.join(cells)} |")


@contextmanager
def measurements(
    images: Path | None, protect: str, repetitions: int, rate: float, seed: int, machine: Path
) -> Iterator[tuple[Measure, dict[str, int]]]:
    """Boot the router, and yield what measures a link by netem and by the injector, and the lossless answers."""
    options = ["--protect", protect, "--rate", f"{rate:g}"]
    with photographs(images) as folder, repeated(folder, repetitions) as frames:
        console = Console(stderr=True, highlight=False)
        answers = answers_of_the_uncut_model(ensure_weights(RESNET50), folder, console)
        with router(machine) as running:

            def measure(link: Impairment) -> Both:
                by_netem = through_netem(running, link, frames, options)
                return by_netem, None if link.prepare else through_injector(link, frames, options, seed)

            yield measure, {name: index for name, (index, _) in answers.items()}


def cells_of(run: Measured, reference: dict[str, int]) -> list[str]:
    """Return a run's cells of the table."""
    (loss_low, loss_high), (burst_low, burst_high) = run.intervals()
    lost = f"{run.loss:.2%} ({100 * loss_low:.2f} to {100 * loss_high:.2f})" if run.lost.any() else "0"
    burst = f"{run.burst:.2f} ({burst_low:.2f} to {burst_high:.2f})" if run.lost.any() else ""
    overtaken = f"{run.reordered / np.count_nonzero(~run.lost):.1%}" if run.reordered else "0"
    answers = f"{round(run.agreement(reference) * len(run.records))} of {len(run.records)}"
    if run.round_trip_ms:
        overtaken += f"; round trip {run.round_trip_ms['min']:.1f} ms at least"
    return [lost, burst, overtaken, answers]


if __name__ == "__main__":
    main()
