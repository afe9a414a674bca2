"""What the edge shows while it works: a progress bar or counter on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from gradfec_edge.journal import Record


class Progress:
    """One status line on standard error, and messages above it."""

    def __init__(self, quiet: bool = False) -> None:
        """Show nothing but messages when `quiet`, or when standard error is no terminal."""
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),  # a file may be called [red].png
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Print one line above the status."""
        self._console.print(f"gradfec-edge: {line}", markup=False)

    def record(self, record: Record) -> None:
        """Show a frame's record."""
        top5 = record["top5"]
        answer = "no answer"
        if isinstance(top5, list) and top5:
            answer = f"{top5[0]['label']} {top5[0]['score']:.2f}"
        self._bar.update(self._task, advance=1, description=f"{record['source']}: {answer}")
