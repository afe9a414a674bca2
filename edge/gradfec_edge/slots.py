"""The frames in flight: how many there may be, and the record of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from gradfec_common.session.edge import Answered, Closed
from gradfec_edge.fallback import Fallback
from gradfec_edge.frames import Frame
from gradfec_edge.journal import Journal
from gradfec_edge.losses import ImportanceShares
from gradfec_edge.metrics import CameraMetrics
from gradfec_edge.pipeline import EncodedFrame, Stages
from gradfec_edge.story import FALLBACK, Sent, Story


class Outgoing(NamedTuple):
    """A frame that is encoded and ready to be sent, since `ready_at` by time.perf_counter().

    If it is for a second look, the `first` tensor of the frame has that number.
    """

    frame: Frame
    encoded: EncodedFrame
    stages: Stages
    ready_at: float
    first_tensor: int | None = None


class Slots:
    """Gives each frame a slot until it is answered or given up, and writes its record."""

    def __init__(self, slots: int, journal: Journal, metrics: CameraMetrics, fallback: Fallback | None = None) -> None:
        """Let `slots` frames be in flight at a time. The `fallback` answers those that are not sent."""
        self._free = asyncio.Semaphore(slots)
        self._journal, self._metrics, self._fallback = journal, metrics, fallback

    async def take(self) -> None:
        """Wait for a free slot, and take it for the next frame."""
        await self._free.acquire()

    def sent(self, session: int, tensor: int, outgoing: Outgoing, why: Mapping[str, float]) -> None:
        """Note that a frame is sent as `tensor` of a session, and `why` as planned."""
        encoded = outgoing.encoded
        importance = ImportanceShares(encoded.plan, encoded.shares)
        names = encoded.codec, encoded.split
        sent = Sent(session, tensor, encoded.plan, encoded.datagram_bytes, importance, why, *names, encoded.part)
        self._journal.sent(outgoing.frame, sent, outgoing.stages, outgoing.first_tensor)

    def on_its_way(self, tensor: int) -> Story:
        """Return the story of a tensor that was sent."""
        return self._journal.on_its_way(tensor)

    def answered(self, event: Answered, *, unsure: bool = False) -> None:
        """Note the time of an answer, and free the slot, unless it is `unsure`, and a second look follows."""
        self._journal.answered(event, unsure=unsure)
        if not unsure:
            self._free.release()

    def closed(self, event: Closed) -> Story | None:
        """Note the end of a tensor; return its frame's story if that is over; GradfecError if it cannot be written.

        Frees the slot if there was no answer; otherwise `answered` has done so.
        """
        if event.result is None:
            self._free.release()
        return self._counted(self._journal.closed(event))

    def no_look(self, first_tensor: int) -> Story | None:
        """Note that there will be no second look at the frame of a `first` tensor, and free the slot.

        Return its story if it is over; GradfecError if it cannot be written.
        """
        self._free.release()
        return self._counted(self._journal.no_look(first_tensor))

    def end(self) -> None:
        """Write the records of frames that still await a second look."""
        for story in self._journal.end():
            self._metrics.ended(story)

    def _counted(self, story: Story | None) -> Story | None:
        if story:
            self._metrics.ended(story)
        return story

    async def gave_up(self, frame: Frame) -> None:
        """Free the slot of a frame that is not sent, and write its record; GradfecError if it cannot be written.

        If there is a fallback, it answers first.
        """
        answer, stages = None, Stages()
        if self._fallback:
            start = time.perf_counter()
            answer = await asyncio.to_thread(self._fallback, frame.image)
            stages.took(FALLBACK, start)
        self._free.release()
        if self._fallback and answer is not None:
            self._metrics.ended(self._journal.fell_back(frame, answer, self._fallback.name, stages))
        else:
            self._metrics.ended(self._journal.unsent(frame))
