"""Frames in: taken from the camera and encoded, one at a time."""

from __future__ import annotations

import asyncio
import time

from gradfec_edge.flights import Flights, Outgoing
from gradfec_edge.frames import Frame, Source
from gradfec_edge.health import LinkHealth
from gradfec_edge.pipeline import Pipeline

CAMERA_PATIENCE_S = 10.0  # how long a camera that is asked for a frame counts as delivering; at least two intervals


class Intake:
    """Takes the next frame when there is a place for it."""

    def __init__(self, source: Source, pipeline: Pipeline, flights: Flights, health: LinkHealth) -> None:
        """Join the parts."""
        self._source, self._pipeline, self._flights, self._health = source, pipeline, flights, health
        self._started_at = time.monotonic()
        self._taken_at: float | None = None  # when the newest frame was taken
        self._asking_since: float | None = None  # while the camera is asked for one

    async def next(self) -> Outgoing | None:
        """Return the next frame, encoded; None if the source has ended.

        A file waits while the cloud is away; GradfecError if that takes too long. A camera's frames are given up.
        """
        while (frame := await self._take()) is not None:
            if self._health.connected or not self._source.live:
                encoded, stages = await asyncio.to_thread(self._pipeline.encode, frame.image)
                return Outgoing(frame, encoded, stages, time.perf_counter())
            self._flights.gave_up(frame)
        return None

    async def _take(self) -> Frame | None:
        await self._flights.take_place()
        if not self._source.live:
            await self._health.until_connected()
        self._asking_since = time.monotonic()
        frame = await asyncio.to_thread(self._source.next_frame)  # for as long as it takes: `close` ends it
        if frame is not None:
            self._taken_at, self._asking_since = time.monotonic(), None
        return frame

    def delivering(self, now: float) -> bool:
        """Return whether the camera sends frames when it is asked for them."""
        patience_s = max(CAMERA_PATIENCE_S, 2 * (self._source.interval or 0))
        waiting_s = 0.0 if self._asking_since is None else now - self._asking_since
        return self._taken_at is not None and waiting_s < patience_s

    def frame_age_s(self, now: float) -> float:
        """Return the seconds since the newest frame was taken, or since the start if there was none."""
        return now - (self._started_at if self._taken_at is None else self._taken_at)

    async def close(self) -> None:
        """Let go of the camera, in a thread: a driver that is stuck must not hold up other cameras."""
        await asyncio.to_thread(self._source.close)
