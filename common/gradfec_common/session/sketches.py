"""Sketches on their way in, in parts, of which some may be lost: one of a session at a time."""

from __future__ import annotations

from collections import Counter, deque

from gradfec_common.session.events import CloudLimits, Event, Sketched
from gradfec_common.session.records import PartialSketch, Session
from gradfec_common.sketch import join_parts, read_sketch
from gradfec_common.wire import Drop, SketchPart


class Sketches:
    """Takes parts, and tells of sketches."""

    def __init__(self, limits: CloudLimits, wanted: bool, events: deque[Event], bites: Counter[str]) -> None:
        """Take nothing where none is `wanted`; count in `bites` how often the limit bites."""
        self.wanted = wanted
        self._limits, self._events, self._bites = limits, events, bites

    def take(self, session: Session, part: SketchPart) -> str:
        """Take in a part, and return its fate."""
        if not self.wanted:
            return Drop.UNEXPECTED.value
        if not (1 <= part.k <= part.n and part.index < part.n and part.data):
            return Drop.BAD_MESSAGE.value
        if part.tensor < session.sketch.tensor:
            return Drop.LATE.value
        if part.k * len(part.data) > self._limits.sketch_bytes:
            self._bites["sketch_bytes"] += 1
            return Drop.MEMORY_LIMIT.value
        if part.tensor > session.sketch.tensor:
            session.sketch = PartialSketch(part.tensor, part.n, part.k, len(part.data))
        sketch = session.sketch
        if (part.n, part.k, len(part.data)) != (sketch.n, sketch.k, sketch.length):
            return Drop.CONFLICT.value
        if part.index in sketch.parts:
            return Drop.DUPLICATE.value
        if sketch.done:
            return "sketch"
        sketch.parts[part.index] = part.data
        return "sketch" if len(sketch.parts) < sketch.k else self._finish(session, sketch)

    def _finish(self, session: Session, partial: PartialSketch) -> str:
        """Tell of a sketch that enough has arrived of, if it is one."""
        whole = join_parts(partial.parts, partial.n, partial.k)
        partial.done = True
        partial.parts.clear()
        sketch = read_sketch(whole, session.grid.count)
        if sketch is None:
            return Drop.BAD_MESSAGE.value
        self._events.append(Sketched(session.id, session.edge, partial.tensor, sketch))
        return "sketch"
