"""Progress on standard error: a bar with the time left or, without a terminal, a line at each tenth."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def say(line: str) -> None:
    """Print a line on standard error, above the bar if there is one: click would write through it."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield `advance(images)`."""
    file = sys.stderr
    if not file.isatty():
        done = 0

        def say(images: int) -> None:
            nonlocal done
            before, done = done, done + images
            if 10 * done // total != 10 * before // total:
                print(f"{title}: {done:,} of {total:,} images", file=file, flush=True)

        yield say
        return
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=file), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda images: progress.update(task, advance=images)
