"""The thread on which all sinks run, on an event loop of their own, so that they hold up nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

from gradfec_cloud.outward.news import News
from gradfec_cloud.outward.outbox import Outbox
from gradfec_cloud.outward.sink import Sink
from gradfec_host.logs import Log

LAST_NEWS_S = 2.0  # at the end, how long the waiting news may take
LAST_WORDS_S = 2.0  # and then a sink's goodbye
SPARE_S = 1.0  # a thread that takes longer is left behind
AGAIN_S = 5.0  # after an error of ours in a sink


class Outward:
    """Tells sinks what happens. Without sinks, there is no thread."""

    def __init__(self, sinks: Mapping[str, Sink], log: Log) -> None:
        """Collect news for each sink from now on, and send them after `start`."""
        self._sinks, self._log = sinks, log
        self._outboxes = {name: Outbox() for name in sinks}
        self._loop: asyncio.AbstractEventLoop
        self._closing: asyncio.Event | None = None  # before `start`
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="outward", daemon=True)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Answers by fate, and `waiting`, of each sink."""
        return {name: outbox.counts for name, outbox in self._outboxes.items()}

    def tell(self, news: News) -> None:
        """Put news into the outbox of each sink that wants it, without waiting for anything."""
        for name, sink in self._sinks.items():
            if sink.wants(news):
                self._outboxes[name].put(news)

    def start(self) -> None:
        """Start the thread."""
        if self._sinks:
            self._thread.start()
            self._ready.wait()

    def close(self) -> None:
        """Send what waits, for a short while, and stop. Blocks; tell nothing more."""
        if self._closing is not None:
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(LAST_NEWS_S + LAST_WORDS_S + SPARE_S)

    async def _run(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        sinks = [asyncio.create_task(self._keep_running(name, sink)) for name, sink in self._sinks.items()]
        self._ready.set()
        await self._closing.wait()
        empty = [asyncio.create_task(outbox.emptied()) for outbox in self._outboxes.values()]
        await asyncio.wait(empty, timeout=LAST_NEWS_S)
        for task in (*empty, *sinks):
            task.cancel()
        await asyncio.wait(sinks, timeout=LAST_WORDS_S)

    async def _keep_running(self, name: str, sink: Sink) -> None:
        while True:
            try:
                await sink.run(self._outboxes[name], self._log)
            except Exception as error:
                line = f"{name} has failed, and starts again in {AGAIN_S:g} s: {error!r}"
                self._log.error(line, event="sink_failed", sink=name)
            finally:
                self._outboxes[name].lose()
            await asyncio.sleep(AGAIN_S)
