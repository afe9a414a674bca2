"""TCP connections to an HTTP server: how long each may take to say what it wants, and who goes if there are too many.

Anybody can open them. Without this, uvicorn waits for a request for ever, and its faster parser reads endless headers.
"""

from __future__ import annotations

import asyncio
import math

from uvicorn.protocols.http.h11_impl import H11Protocol

ASK_WITHIN_S = 10.0  # from the beginning of a connection, or from the response before


class Connection(H11Protocol):
    """A connection that is closed if no request comes in time.

    If more are open than `limit_concurrency`, the one that has asked for nothing for the longest time has to go.
    """

    _idle_since = math.inf  # of the loop's time; infinite while there is a request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        super().connection_made(transport)
        self._await_request()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            here = [one for one in self.connections if isinstance(one, Connection)]
            min(here, key=lambda one: one._idle_since)._close_if_idle()

    def on_response_complete(self) -> None:
        """Wait for another request."""
        self._await_request()
        super().on_response_complete()

    def handle_events(self) -> None:
        """Read what has come."""
        cycle = self.cycle
        super().handle_events()
        if self.cycle is not cycle or self.transport.get_protocol() is not self:  # a request, or a websocket
            self._idle_since = math.inf

    def _await_request(self) -> None:
        self._idle_since = since = self.loop.time()

        def give_up() -> None:
            if self._idle_since == since:
                self._close_if_idle()

        self.loop.call_later(ASK_WITHIN_S, give_up)

    def _close_if_idle(self) -> None:
        if self._idle_since < math.inf:
            self._idle_since = math.inf
            self.transport.abort()
