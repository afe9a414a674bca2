"""Frames on their way: how many there may be, and what becomes of each."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from gradfec_common.session.edge import Answered, Closed
from gradfec_edge.frames import Frame
from gradfec_edge.journal import Journal, Story
from gradfec_edge.losses import Weights
from gradfec_edge.metrics import CameraMetrics
from gradfec_edge.pipeline import EncodedFrame, Stages


class Outgoing(NamedTuple):
    """A frame that is encoded, and ready to be sent since `ready_at`, by time.perf_counter()."""

    frame: Frame
    encoded: EncodedFrame
    stages: Stages
    ready_at: float


class Flights:
    """Holds a place for each frame that awaits its answer, and writes the end of its story."""

    def __init__(self, places: int, journal: Journal, metrics: CameraMetrics) -> None:
        """Let `places` frames await their answers at a time."""
        self._places = asyncio.Semaphore(places)
        self._journal, self._metrics = journal, metrics

    async def take_place(self) -> None:
        """Wait for a place, which is free again once the frame is answered or given up."""
        await self._places.acquire()

    def sent(self, tensor: int, outgoing: Outgoing) -> None:
        """Take note that a frame goes out as `tensor`."""
        encoded = outgoing.encoded
        weights = Weights(encoded.plan, encoded.headers, encoded.shares)
        self._journal.sent(tensor, outgoing.frame, encoded.plan, outgoing.stages, weights)

    def answered(self, event: Answered) -> None:
        """Take note of a frame's answer."""
        self._journal.answered(event)
        self._places.release()

    def closed(self, event: Closed) -> Story:
        """Write the record of a frame that was sent; GradfecError if it cannot be written."""
        if event.result is None:
            self._places.release()
        story = self._journal.closed(event)
        self._metrics.ended(story)
        return story

    def gave_up(self, frame: Frame) -> None:
        """Write the record of a frame that was never sent; GradfecError if it cannot be written."""
        self._places.release()
        self._metrics.ended(self._journal.unsent(frame))
