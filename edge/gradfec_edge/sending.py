"""Frames out: sent one after the other, in the order in which they were taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gradfec_edge.adaptation import Adaptation
from gradfec_edge.health import LinkHealth
from gradfec_edge.link import Link
from gradfec_edge.pacing import Pacing
from gradfec_edge.slots import Outgoing, Slots
from gradfec_edge.story import Story
from gradfec_edge.watch import Watch


class Sending:
    """A queue of frames that are ready, and the task that sends them."""

    def __init__(
        self,
        link: Link,
        health: LinkHealth,
        pacing: Pacing,
        slots: Slots,
        watch: Watch,
        adaptation: Adaptation | None,
        *,
        live: bool,
        on_story: Callable[[Story], object],
    ) -> None:
        """Join the parts; `live` if frames are given up while the cloud is away, and do not wait.

        `on_story` gets the story of a frame that is over because it gets no second look after all.
        """
        self._link, self._health, self._pacing, self._slots, self._watch = link, health, pacing, slots, watch
        self._live, self._adaptation, self._on_story = live, adaptation, on_story
        self._queue: asyncio.Queue[Outgoing] = asyncio.Queue()

    def put(self, outgoing: Outgoing) -> None:
        """Queue a coded frame; it leaves when those before it have, and the link may take it."""
        self._pacing.frame(time.monotonic())
        self._queue.put_nowait(outgoing)

    def put_look(self, outgoing: Outgoing) -> None:
        """Queue a second look, which is no frame of its own."""
        self._queue.put_nowait(outgoing)

    def no_look(self, first_tensor: int) -> None:
        """Give up the second look at the frame of a `first_tensor`; GradfecError if its record cannot be written."""
        if story := self._slots.no_look(first_tensor):
            self._on_story(story)

    async def run(self) -> None:
        """Send frames until cancelled; GradfecError if a file waits too long, or a record cannot be written."""
        while True:
            await self._send(await self._queue.get())
            self._queue.task_done()

    async def until_all_sent(self) -> None:
        """Wait until each frame has been sent or given up."""
        await self._queue.join()

    async def _send(self, outgoing: Outgoing) -> None:
        """Send one frame. If the link is lost, it is given up or waits; a second look is given up."""
        encoded, ready_at, first = outgoing.encoded, outgoing.ready_at, outgoing.first_tensor
        spread_s = self._pacing.spread_s(8 * encoded.wire_bytes)
        while (tensor := self._link.open_tensor(encoded, spread_s, first)) is None:
            if first is not None:
                self.no_look(first)
                return
            if self._live:
                await self._slots.gave_up(outgoing.frame)
                return
            await self._health.until_connected()
            ready_at = time.perf_counter()
        adaptation, now = self._adaptation, time.monotonic()
        why = adaptation.why(encoded.plan) if adaptation else {}
        self._slots.sent(tensor.session, tensor.number, outgoing, why)
        sketch_bytes = self._watch.sent(
            tensor.number, encoded, first, may_sketch=adaptation is None or adaptation.may_say(now)
        )
        if adaptation:
            adaptation.sends(tensor.number, encoded.plan, encoded.datagram_bytes, tensor.left, now)
            adaptation.says(sketch_bytes, now)
        await self._link.send(tensor)
        outgoing.stages.took("send", ready_at)
