"""A daemon's live status at the bottom of a terminal: it stays below the log lines, and disappears at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from gradfec_host import logs
from gradfec_host.logs import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

REDRAWN_PER_S = 2.0
MOST_LINES = 24
ECHO_COLUMNS = 4  # left free: a terminal prints ^C at the cursor, and a line that wraps then would not be erased


@contextlib.contextmanager
def live_status(render: Callable[[int], RenderableType]) -> Iterator[bool]:
    """Show what `render(lines)` returns, if standard error is a terminal and the log is text; yield whether it shows.

    Another thread calls `render`.
    """
    log = logs.handler()
    if log is None or log.form != logs.TEXT or not log.stream.isatty():
        yield False
        return
    from rich.console import Console
    from rich.constrain import Constrain
    from rich.live import Live

    console = Console(file=log.stream, highlight=False)
    if console.is_dumb_terminal:  # it cannot move its cursor
        yield False
        return

    def drawn() -> RenderableType:
        lines = max(min(console.height // 2, MOST_LINES), 1)  # half of the screen is for the log
        return Constrain(render(lines), max(console.width - ECHO_COLUMNS, 1))

    with Live(  # do not redirect standard output: it may be a file
        get_renderable=drawn,
        console=console,
        refresh_per_second=REDRAWN_PER_S,
        transient=True,
        redirect_stdout=False,
    ):
        log.above = partial(console.out, highlight=False)
        try:
            yield True
        finally:
            log.above = None


def plain_table(titles: Sequence[str], numbers: Sequence[str], name: str, cut: Sequence[str]) -> Table:
    """Return an empty table without lines, with the columns `numbers` aligned to the right.

    If there is too little room, the columns `cut` shrink. The column `name` is never wider than 20 characters.
    """
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for title in titles:
        side: Literal["left", "right"] = "right" if title in numbers else "left"
        table.add_column(words(title), justify=side, no_wrap=title not in cut, max_width=20 if title == name else None)
    return table


def words(text: str) -> Text:
    """Return a cell that ends in an ellipsis if there is no room; its text is never markup."""
    from rich.text import Text

    return Text(printable(text), no_wrap=True, overflow="ellipsis")


def rest(count: int, room: int) -> list[str]:
    """Return the line that replaces the rows without room, if there are any."""
    return [f"and {count - room} more"] if count > room else []
