"""Many seeds, on all cores: `python -m tests.sim`, or `make sim`."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import click

from .ledger import watched
from .planted import PLANTED
from .story import Story

CHUNK = 8  # seeds that a process takes at a time


@dataclass
class Told:
    """How the run of one seed went."""

    seed: int
    trace: str
    failure: str
    virtual_s: float
    datagrams: int
    tensors: int


def tell(seed: int) -> Told:
    """Run a seed; whatever goes wrong is a failure of the seed."""
    failure, trace, story = "", "", None
    try:
        with warnings.catch_warnings(), watched():
            warnings.simplefilter("error")
            story = Story(seed)
            trace = story.story()
    except Exception as error:  # a core that raises, or warns, has failed, too
        failure = f"{type(error).__name__}: {error}"
    if story is None:
        return Told(seed, trace, failure, 0.0, 0, 0)
    return Told(seed, trace, failure, story.now, story.network.datagrams, len(story.truth.sent))


def reproduction(told: Told) -> str:
    """Return the one line that reproduces a failure."""
    return f"make sim SEED={told.seed}    # {told.failure}"


def tell_all(seeds: range, bug: str | None = None) -> list[Told]:
    """Run seeds one after the other, with a planted bug if so asked."""
    with PLANTED[bug].plant() if bug else nullcontext():
        return [tell(seed) for seed in seeds]


def caught(bug: str, seeds: range) -> int:
    """Count the seeds that catch a planted bug."""
    return sum(bool(told.failure) for told in tell_all(seeds, bug))


def chunks(first: int, seeds: int) -> Iterator[range]:
    """Cut the seeds into what a process takes at a time."""
    for start in range(first, first + seeds, CHUNK):
        yield range(start, min(start + CHUNK, first + seeds))


@click.command()
@click.option("--seeds", default=200, show_default=True, help="How many seeds to run.")
@click.option("--first", default=0, show_default=True, help="The first of them.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--trace", is_flag=True, help="Print the hash of each seed's trace.")
@click.option("--planted", is_flag=True, help="Count how many seeds catch each of the planted bugs.")
def main(seeds: int, first: int, jobs: int, trace: bool, planted: bool) -> None:
    """Run the protocol cores against a hostile network, and hold them to their promises."""
    with ProcessPoolExecutor(jobs) as pool:
        if planted:
            catch_planted(pool, range(first, first + min(seeds, 50)))
            return
        start, failures, totals = time.monotonic(), 0, Counter[str]()
        for told in (told for some in pool.map(tell_all, chunks(first, seeds)) for told in some):
            totals.update(seeds=1, virtual_s=told.virtual_s, datagrams=told.datagrams, tensors=told.tensors)  # type: ignore[arg-type]
            failures += bool(told.failure)
            if told.failure:
                click.echo(reproduction(told))
            elif trace:
                click.echo(f"{told.seed} {told.trace}")
            if sys.stderr.isatty():
                click.echo(f"\r{totals['seeds']} of {seeds} seeds, {failures} failed", err=True, nl=False)
    took = time.monotonic() - start
    if sys.stderr.isatty():
        click.echo(err=True)
    click.echo(
        f"{totals['seeds']} seeds, {failures} failed: {totals['virtual_s']:.0f} virtual seconds, "
        f"{totals['datagrams']} datagrams, {totals['tensors']} tensors in {took:.1f} s ({seeds / took:.1f} seeds/s)"
    )
    sys.exit(bool(failures))


def catch_planted(pool: ProcessPoolExecutor, seeds: range) -> None:
    """Print how many seeds catch each planted bug; exit with 1 where none does."""
    missed = 0
    for (name, bug), count in zip(PLANTED.items(), pool.map(caught, PLANTED, [seeds] * len(PLANTED)), strict=True):
        click.echo(f"{name:22} {bug.what:45} {count:3} of {len(seeds)} seeds")
        missed += not count
    sys.exit(bool(missed))
