"""What a daemon does now, at the bottom of a terminal: redrawn below the log lines, gone when it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from gradfec_common import logs

if TYPE_CHECKING:
    from rich.console import RenderableType

REDRAWN_PER_S = 2.0
MOST_LINES = 24


@contextlib.contextmanager
def live_status(render: Callable[[int], RenderableType]) -> Iterator[None]:
    """Show what `render` returns for so many lines, where standard error is a terminal and the log is text.

    `render` is called in a thread of its own.
    """
    log = logs.handler()
    if log is None or log.form != logs.TEXT or not log.stream.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(file=log.stream, highlight=False)
    if console.is_dumb_terminal:  # it cannot move its cursor
        yield
        return
    # Half of the screen is left to the log. Standard output stays where it is: it may be a file.
    with Live(
        get_renderable=lambda: render(max(min(console.height // 2, MOST_LINES), 1)),
        console=console,
        refresh_per_second=REDRAWN_PER_S,
        transient=True,
        redirect_stdout=False,
    ):
        log.above = partial(console.out, highlight=False)
        try:
            yield
        finally:
            log.above = None
