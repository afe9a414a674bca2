"""The cloud's live page, with all its edges."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from gradfec_cloud.cells import cells_of
from gradfec_cloud.counts import Snapshot
from gradfec_cloud.inference import Inferred
from gradfec_cloud.outward.news import Answered, News
from gradfec_cloud.port import address_text
from gradfec_cloud.workers.pool import Crew
from gradfec_common.decode import Found
from gradfec_common.quantisers import is_stream
from gradfec_common.session.events import (
    Decided,
    Event,
    Finished,
    GivenUp,
    SessionEnded,
    SessionMoved,
    SessionOpened,
    Sketched,
)
from gradfec_common.sketch import LEVELS, Sketch
from gradfec_web.shown import PICTURE_EVERY_S, Overview, PageOptions, Tell, shown
from gradfec_web.view import Answer, Edge, Frame, Picture, Workers, in_base64

SKETCHES_FOR_S = 3.0  # after a sketch, pictures wait for the next one
MOST_GONE = 16  # edges that have left and are still shown
BRIGHTEST = 255 // (LEVELS - 1)


@dataclass
class _Seen:
    """An edge, whether it has sent a frame, its newest sketch, and when a picture of it was last shown."""

    edge: Edge
    sends: bool = False  # `gradfec doctor` sends no frames, and is forgotten when it leaves
    sketch: Sketched | None = None
    sketched_at: float = -math.inf
    shown_at: float = -math.inf


class Watch:
    """Tells the page what becomes of each packet. Does nothing if there is no page."""

    def __init__(self, options: PageOptions | None) -> None:
        """Prepare a page, unless `options` is None."""
        self._options = options
        self._tell: Tell | None = None
        self.answers = {"delivered": 0, "dropped": 0}  # those for the page's HTTP API
        self._seen: dict[int, _Seen] = {}  # by session
        self._gone: deque[Edge] = deque(maxlen=MOST_GONE)
        self._sketches: dict[tuple[int, int], Sketch] = {}  # of tensors that are with the back-end, and of no others

    @asynccontextmanager
    async def shown(self, snapshot: Callable[[], Snapshot], say: Callable[[str], None]) -> AsyncIterator[None]:
        """Serve the page, if there is to be one. `snapshot` returns the daemon's counts and states."""
        if self._options is None:
            yield
            return

        def overview() -> Overview:
            now = snapshot()
            return Overview(self._edges(), now.totals(), _workers(now.crew), now.not_ready)

        async with shown(self._options, overview, say) as self._tell:
            yield

    def saw(self, event: Event) -> None:
        """Note an event of the core, and show each finished frame."""
        if self._tell is None:
            return
        seen = self._seen.get(event.session)
        if seen and isinstance(event, Decided):
            seen.sends = True
        match event:
            case SessionOpened():
                edge = Edge(event.edge, event.session, address_text(event.peer), True, time.time())
                self._seen[event.session] = _Seen(edge)
            case SessionMoved() if seen:
                seen.edge = replace(seen.edge, address=address_text(event.peer))
            case GivenUp() if seen:
                self._sketches.pop((event.session, event.tensor), None)
                self._tell(_given_up(event, seen.edge.name))
            case SessionEnded() if seen:
                del self._seen[event.session]
                for key in [key for key in self._sketches if key[0] == event.session]:
                    del self._sketches[key]
                if seen.sends:
                    self._gone.append(replace(seen.edge, connected=False, since=time.time(), said=event.reason))
            case Sketched() if seen:
                seen.sketch, seen.sketched_at = event, time.monotonic()
            case Decided() if seen and seen.sketch and seen.sketch.tensor == event.tensor:
                sketch = seen.sketch.sketch
                if len(sketch.fates) == event.arrived.grid.count:  # the edge may lie about the form
                    self._sketches[event.session, event.tensor] = sketch
            case Finished():
                self._tell(_frame(event))

    def told(self, news: News) -> None:
        """Pass an answer on to the page's HTTP API."""
        if self._tell and isinstance(news, Answered):
            self.answers["delivered" if self._tell(Answer(news.edge, news.record)) else "dropped"] += 1

    def inferred(self, one: Inferred) -> None:
        """Show a picture of a tensor that inference is done with, about once a second for each edge.

        If an edge sends sketches, only tensors with a sketch are shown.
        """
        decided, found, now = one.decided, one.found, time.monotonic()
        sketch = self._sketches.pop((decided.session, decided.tensor), None)
        seen = self._seen.get(decided.session)
        if self._tell is None or found is None or seen is None:
            return
        since = now - seen.shown_at
        if since < PICTURE_EVERY_S / 2 or (sketch is None and since < PICTURE_EVERY_S):
            return  # a sketch comes about once a second
        if sketch is None and now < seen.sketched_at + SKETCHES_FOR_S:
            return
        seen.shown_at = now
        self._tell(_picture(one, found, seen.edge, sketch))

    def _edges(self) -> list[Edge]:
        return [*self._gone, *(seen.edge for seen in self._seen.values())]


def _workers(crew: Crew) -> Workers | None:
    lost = sum(crew.lost.values())
    return Workers(crew.ready, crew.wanted, lost, crew.fallback) if crew.elsewhere else None


def _frame(event: Finished) -> Frame:
    result = event.result
    return Frame(
        edge=event.edge,
        session=event.session,
        number=event.tensor,
        at=time.time(),
        outcome=result.outcome,
        answer=event.answer.lines(),
        packets=event.packets,
        datagrams=event.datagrams,
        bursts=event.bursts,
        latency_ms=1000 * event.latency_s,
        stages_ms=result.stages_ms,
        bytes=event.received_bytes,
    )


def _given_up(event: GivenUp, edge: str) -> Frame:
    """Return a frame that its edge has given up while the back-end, or the queue before it, had it."""
    return Frame(edge, event.session, event.tensor, time.time(), "timeout", [], {}, {}, 0, 0.0, {})


def _picture(one: Inferred, found: Found, edge: Edge, sketch: Sketch | None) -> Picture:
    grid = one.decided.arrived.grid
    cells = cells_of(found, grid.count, sketch.fates if sketch else None)
    return Picture(
        edge=edge.name,
        session=edge.session,
        number=one.decided.tensor,
        channels=grid.shape[2],
        groups=grid.groups,
        cells=in_base64(cells.tobytes()),
        importance=in_base64((BRIGHTEST * sketch.importance).tobytes()) if sketch else "",
        photograph=in_base64(sketch.photograph) if sketch else "",
        answer=one.answer.lines() if one.answer else [],
        of_file=is_stream(one.decided.arrived.quantiser),
        boxes=one.answer.boxes() if one.answer else None,
    )
