"""Show the progress of a download on stderr: a bar on a terminal, otherwise lines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from gradfec_host import logs
from gradfec_host.weights.store import Progress


@contextlib.contextmanager
def show_progress() -> Iterator[Progress]:
    """Yield a `progress` argument for `ensure_weights` that shows the progress to the user."""
    log = logs.handler()
    if not sys.stderr.isatty() or (log and log.form == logs.JSON):
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def show(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield show


class _Lines:
    """Print a line when a step starts, and at each quarter of it."""

    def __init__(self) -> None:
        self._said: tuple[str, int] | None = None

    def __call__(self, step: str, done: int, total: int | None) -> None:
        now = (step, 4 * done // total if total else 0)
        if now != self._said:
            self._said = now
            share = f" {100 * done // total} %" if total else ""
            logs.say("fetching", f"{step}: {done / 1e6:.1f} MB{share}")
