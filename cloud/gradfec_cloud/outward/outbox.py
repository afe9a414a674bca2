"""The news that wait for one sink. A sink that is slow or dead fills it, and then the oldest answers go.

Any thread may put news in. One event loop takes them out.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from gradfec_cloud.outward.news import Answered, Linked, News

MOST_ANSWERS = 1000
MOST_EDGES = 256  # whose newest state is kept; as many as can be connected
FATES = ("delivered", "failed", "dropped")  # of answers


class Outbox:
    """Answers in their order, and the newest state of each edge, which goes first and is not dropped for an answer.

    Each answer that is put in has one of FATES in the end: `delivered`, `failed` (the sink gave up on it), or `dropped`
    (it was the oldest, and there was no more room).
    """

    def __init__(self, most: int = MOST_ANSWERS) -> None:
        """Hold at most `most` answers."""
        self._most = most
        self._answers: deque[Answered] = deque()
        self._links: dict[str, Linked] = {}
        self._fates = dict.fromkeys(FATES, 0)
        self._in_hand = 0
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # of the sink that waits for news
        self._changed, self._settled = asyncio.Event(), asyncio.Event()

    @property
    def counts(self) -> dict[str, int]:
        """Answers by fate, and those that are `waiting`, in a sink's hands among them."""
        with self._lock:
            return {**self._fates, "waiting": len(self._answers) + self._in_hand}

    def put(self, news: News) -> None:
        """Add news, from any thread, without waiting for anything."""
        with self._lock:
            if isinstance(news, Linked):
                self._links.pop(news.edge, None)
                self._links[news.edge] = news
                if len(self._links) > MOST_EDGES:
                    del self._links[next(iter(self._links))]
            else:
                self._answers.append(news)
                if len(self._answers) > self._most:
                    self._answers.popleft()
                    self._fates["dropped"] += 1
            waiter = None if self._changed.is_set() else self._loop
        if waiter is not None:
            waiter.call_soon_threadsafe(self._changed.set)

    async def get(self) -> News:
        """Wait for news and take it. Tell `done` of each answer, once."""
        while True:
            with self._lock:
                self._loop = asyncio.get_running_loop()
                if self._links:
                    return self._links.pop(next(iter(self._links)))
                if self._answers:
                    self._in_hand += 1
                    return self._answers.popleft()
                self._changed.clear()
            await self._changed.wait()

    def done(self, *, delivered: bool) -> None:
        """Note what became of an answer that was taken."""
        with self._lock:
            self._in_hand -= 1
            self._fates["delivered" if delivered else "failed"] += 1
        self._settled.set()

    def lose(self) -> None:
        """Note that the sink has failed, and so have the answers that it was sending."""
        with self._lock:
            self._fates["failed"] += self._in_hand
            self._in_hand = 0
        self._settled.set()

    async def emptied(self) -> None:
        """Wait until no answer waits; on the event loop that takes them."""
        while self.counts["waiting"]:
            self._settled.clear()
            await self._settled.wait()
