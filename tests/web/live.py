"""A daemon's side of the page in a test: the real child process, driven from a thread with its own event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from gradfec_host.console import Endpoint
from gradfec_web.child import Page
from gradfec_web.view import Record

T = TypeVar("T")
PATIENCE_S = 120.0  # of a test, where it waits for what will happen


class LivePage:
    """A page whose records a function makes, ten times a second."""

    def __init__(self, port: int, token_file: Path | None = None) -> None:
        self.endpoint, self._token_file = Endpoint("127.0.0.1", port), token_file
        self.said: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._page: Page | None = None
        self._telling: asyncio.Future[None] | None = None

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def start(self) -> str:
        os.environ.pop("PYTEST_CURRENT_TEST", None)  # NiceGUI does otherwise where it believes to be in a test
        self._page = self._do(Page.start(self.endpoint, self.said.append, self._token_file))
        return self._page.url

    def tell(self, records: list[Record]) -> None:
        async def tell() -> None:
            for record in records:
                self._page.tell(record)
                await asyncio.sleep(0)

        self._do(tell())

    def feed(self, records: Callable[[], list[Record]]) -> None:
        """Tell what `records` returns, again and again from now on."""

        async def tell() -> None:
            while True:
                for record in records():
                    self._page.tell(record)
                await asyncio.sleep(0.1)

        async def begin() -> None:
            if self._telling:
                self._telling.cancel()
            self._telling = asyncio.ensure_future(tell())

        self._do(begin())

    def stop(self) -> None:
        async def stop() -> None:
            if self._telling:
                self._telling.cancel()
            if self._page:
                await self._page.close()

        self._do(stop())
        self._page = self._telling = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
