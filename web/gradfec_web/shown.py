"""A daemon's live page while the daemon runs: its status once a second, and all other records."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gradfec_host.console import Endpoint
from gradfec_web.child import Page
from gradfec_web.view import Edge, Record, Settings, Status, Workers

STATUS_EVERY_S = 1.0
PICTURE_EVERY_S = 1.0  # of each edge
Tell = Callable[[Record], bool]  # whether it was sent
Totals = Mapping[str, Mapping[str, int]]  # family -> name -> count, as in a daemon's totals


@dataclass(frozen=True)
class PageOptions:
    """The page's address, title and settings."""

    endpoint: Endpoint
    role: str  # "edge" or "cloud"
    title: str
    settings: Settings  # of the whole daemon
    insecure: bool
    token_file: Path | None = None  # of the token that browsers need


@dataclass(frozen=True)
class Overview:
    """The part of a daemon's status that changes."""

    edges: list[Edge]
    totals: Totals
    workers: Workers | None = None
    not_ready: str = ""


@asynccontextmanager
async def shown(
    options: PageOptions, overview: Callable[[], Overview], say: Callable[[str], None]
) -> AsyncIterator[Tell]:
    """Serve a page, which calls `overview` once a second; yield a function for other records."""
    page = await Page.start(options.endpoint, say, options.token_file, api=options.role == "cloud")
    say(f"live page: {page.url}")

    async def repeat() -> None:
        while True:
            now = overview()
            page.tell(
                Status(
                    role=options.role,
                    at=time.time(),
                    title=options.title,
                    settings=dict(options.settings),
                    insecure=options.insecure,
                    edges=now.edges,
                    counters={family: dict(counts) for family, counts in now.totals.items()},
                    workers=now.workers,
                    not_ready=now.not_ready,
                )
            )
            await asyncio.sleep(STATUS_EVERY_S)

    telling = asyncio.create_task(repeat())
    try:
        yield page.tell
    finally:
        telling.cancel()
        await page.close()
