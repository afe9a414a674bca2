"""A page for as long as a daemon runs: it is told the status regularly, and closed at the end in any case."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gradfec_host.console import Endpoint
from gradfec_web import shown as module
from gradfec_web.shown import Overview, PageOptions, shown
from gradfec_web.view import Edge, Record, Status, Workers

OPTIONS = PageOptions(Endpoint("127.0.0.1", 8080), "edge", "photos/", {"fps": "2"}, True)
EDGE = Edge("kitchen", 7, "cloud:9000", True, 5.0)
WORKERS = Workers(1, 2, 0, fallback=False)


class Page:
    """Takes down what it is told."""

    url = "http://127.0.0.1:8080/"

    def __init__(self) -> None:
        self.told: list[Record] = []
        self.closed = False
        self.enough = asyncio.Event()

    def tell(self, record: Record) -> None:
        self.told.append(record)
        if len(self.told) >= 3:
            self.enough.set()

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Page]:
    made: list[Page] = []

    async def start(endpoint: Endpoint, say: Callable[[str], None], token_file: None, *, api: bool) -> Page:
        assert not api  # it is the cloud's
        assert endpoint == OPTIONS.endpoint
        made.append(Page())
        return made[-1]

    monkeypatch.setattr(module.Page, "start", start)
    monkeypatch.setattr(module, "STATUS_EVERY_S", 0.001)
    return made


def test_the_page_is_told_the_current_status_again_and_again(pages: list[Page]) -> None:
    said: list[str] = []
    counts = {"frames": {"complete": 0}}

    def totals() -> Any:
        counts["frames"]["complete"] += 1
        return counts

    async def run() -> None:
        async with shown(OPTIONS, lambda: Overview([EDGE], totals(), WORKERS), said.append):
            await pages[0].enough.wait()

    asyncio.run(run())
    assert said == ["live page: http://127.0.0.1:8080/"]
    statuses = [record for record in pages[0].told if isinstance(record, Status)]
    assert [status.counters["frames"]["complete"] for status in statuses[:3]] == [1, 2, 3]
    first = statuses[0]
    assert (first.role, first.title, first.settings, first.insecure) == ("edge", "photos/", {"fps": "2"}, True)
    assert (first.edges, first.workers) == ([EDGE], WORKERS)
    assert pages[0].closed


def test_other_records_go_to_the_same_page_and_it_is_closed_whatever_goes_wrong(pages: list[Page]) -> None:
    async def run() -> None:
        async with shown(OPTIONS, lambda: Overview([], {}), lambda line: None) as tell:
            tell("a record")  # type: ignore[arg-type]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
    assert "a record" in pages[0].told
    assert pages[0].closed
