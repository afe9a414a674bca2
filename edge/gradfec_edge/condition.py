"""A condition for tasks of the event loop to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Condition:
    """Lets tasks wait until a predicate holds.

    `asyncio.Condition` does not fit: it has a lock, and the callbacks that change our state (a socket is readable, a
    timer has fired) cannot wait for a lock. We need none. Everything runs on one event loop, so nothing changes
    between the check of a predicate and the next `await` of the task that checked it.

    The time limit is a timer of the loop, and not `asyncio.wait_for`. Before Python 3.12, that may swallow a
    cancellation; then a daemon that was told to stop would go on.
    """

    def __init__(self) -> None:
        """Create the condition; nothing waits for it yet."""
        self._waiters: set[asyncio.Future[bool]] = set()

    def notify(self) -> None:
        """Let all waiting tasks check their predicates again."""
        for waiter in self._waiters:
            _settle(waiter, True)

    async def wait_for(self, predicate: Callable[[], object], timeout_s: float | None = None) -> bool:
        """Wait until `predicate` holds; return False if it still does not after `timeout_s` seconds."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while not predicate():
            waiter: asyncio.Future[bool] = loop.create_future()
            timer = None if deadline is None else loop.call_at(deadline, _settle, waiter, False)
            self._waiters.add(waiter)
            try:
                if not await waiter:
                    return bool(predicate())
            finally:
                self._waiters.discard(waiter)
                if timer:
                    timer.cancel()
        return True


def _settle(waiter: asyncio.Future[bool], notified: bool) -> None:
    if not waiter.done():
        waiter.set_result(notified)
