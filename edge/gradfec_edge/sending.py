"""Frames out: their tensors are sent one after the other, in the order in which they were taken."""

from __future__ import annotations

import asyncio
import time

from gradfec_edge.flights import Flights, Outgoing
from gradfec_edge.health import LinkHealth
from gradfec_edge.link import Link
from gradfec_edge.pacing import Pacing
from gradfec_edge.watch import Watch


class Sending:
    """The frames that are ready to be sent, and the one that is being sent."""

    def __init__(
        self, link: Link, health: LinkHealth, pacing: Pacing, flights: Flights, watch: Watch, *, live: bool
    ) -> None:
        """Join the parts; `live` if the frames are a camera's, which are not worth waiting with."""
        self._link, self._health, self._pacing, self._flights, self._watch = link, health, pacing, flights, watch
        self._live = live
        self._queue: asyncio.Queue[Outgoing] = asyncio.Queue()

    def put(self, outgoing: Outgoing) -> None:
        """Send a frame after those before it."""
        self._pacing.frame(time.monotonic())
        self._queue.put_nowait(outgoing)

    async def run(self) -> None:
        """Send frames until cancelled; GradfecError if a record cannot be written, or a file waits too long."""
        while True:
            await self._send(await self._queue.get())
            self._queue.task_done()

    async def until_all_sent(self) -> None:
        """Wait until each frame has been sent or given up."""
        await self._queue.join()

    async def _send(self, outgoing: Outgoing) -> None:
        """Send one frame. If the link was lost just before, a file's frame waits, a camera's is given up."""
        encoded, ready_at = outgoing.encoded, outgoing.ready_at
        while (tensor := self._link.open_tensor(encoded, self._pacing.spread_s(encoded.wire_bits))) is None:
            if self._live:
                self._flights.gave_up(outgoing.frame)
                return
            await self._health.until_connected()
            ready_at = time.perf_counter()
        self._flights.sent(tensor.number, outgoing)
        self._watch.sent(tensor.number, encoded)
        await self._link.send(tensor)
        outgoing.stages.took("send", ready_at)
