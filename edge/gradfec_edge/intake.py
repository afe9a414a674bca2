"""Frames in: taken from the camera and encoded, one at a time."""

from __future__ import annotations

import asyncio
import time

from gradfec_common.protect import UNKNOWN_LINK
from gradfec_edge.adaptation import Adaptation
from gradfec_edge.frames import Asker, Frame, Source
from gradfec_edge.health import LinkHealth
from gradfec_edge.pipeline import Pipeline
from gradfec_edge.slots import Outgoing, Slots

CAMERA_PATIENCE_S = 10.0  # how long a camera that is asked for a frame counts as delivering; at least two intervals
LOOKS_AGAIN_S = 0.1  # at what the link carries, while a frame has to wait: a report may have come


class Intake:
    """Takes a frame whenever there is a free slot."""

    def __init__(
        self,
        source: Source,
        pipeline: Pipeline,
        slots: Slots,
        health: LinkHealth,
        adaptation: Adaptation | None,
        *,
        waits: bool,
    ) -> None:
        """Join the parts; without an `adaptation`, frames do not follow what the link carries.

        While the cloud is away, frames that can wait do so if `waits`.
        """
        self._waits = waits
        self._source, self._pipeline, self._slots, self._health = source, pipeline, slots, health
        self._adaptation = adaptation
        self._started_at = time.monotonic()
        self._taken_at: float | None = None  # when the newest frame was taken
        self._asking_since: float | None = None  # while the camera is asked for one

    async def next(self) -> Outgoing | None:
        """Return the next frame, encoded; None if the source has ended.

        While the cloud is away, frames are given up, to the fallback if there is one, or they wait; GradfecError if
        they wait too long.
        """
        while (frame := await self._take()) is not None:
            if self._health.connected or self._waits:
                link = self._adaptation.estimate(time.monotonic()) if self._adaptation else UNKNOWN_LINK
                encoded, stages = await asyncio.to_thread(self._pipeline.encode, frame.image, link)
                return Outgoing(frame, encoded, stages, time.perf_counter())
            await self._slots.gave_up(frame)
        return None

    async def _take(self) -> Frame | None:
        await self._slots.take()
        if self._waits:
            await self._health.until_connected()
        while self._adaptation and (wait_s := self._adaptation.wait_s(time.monotonic())):
            await asyncio.sleep(min(wait_s, LOOKS_AGAIN_S))
        self._asking_since = time.monotonic()
        frame = await asyncio.to_thread(self._source.next_frame)  # waits until there is one, or `close` is called
        if frame is not None:
            self._taken_at, self._asking_since = time.monotonic(), None
        return frame

    def delivering(self, now: float) -> bool:
        """Return whether the camera sends frames when it is asked for them; an Asker may be silent for hours."""
        if isinstance(self._source, Asker):
            return True
        patience_s = max(CAMERA_PATIENCE_S, 2 * (self._source.interval or 0))
        waiting_s = 0.0 if self._asking_since is None else now - self._asking_since
        return self._taken_at is not None and waiting_s < patience_s

    def frame_age_s(self, now: float) -> float:
        """Return the seconds since the newest frame was taken, or since the start if there was none."""
        return now - (self._started_at if self._taken_at is None else self._taken_at)

    async def close(self) -> None:
        """Close the source, in a thread: a driver that hangs must not hold up other cameras."""
        await asyncio.to_thread(self._source.close)
