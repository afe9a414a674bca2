"""Sketches on their way in, in parts, of which some may be lost: one of a session at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradfec_common.session.effects import Bite, Effect
from gradfec_common.session.events import CloudLimits, Sketched
from gradfec_common.session.sessions import Session
from gradfec_common.sketch import join_parts, read_sketch
from gradfec_common.wire import Drop, SketchPart


@dataclass
class PartialSketch:
    """The parts of a session's newest sketch, by index, until there are enough."""

    tensor: int = -1
    n: int = 0
    k: int = 0
    length: int = 0  # of each part
    parts: dict[int, bytes] = field(default_factory=dict)
    done: bool = False


class Sketches:
    """The newest sketch of each session."""

    def __init__(self, limits: CloudLimits, *, wanted: bool) -> None:
        """Drop all parts where sketches are not `wanted`."""
        self.wanted = wanted
        self._limits = limits
        self._newest: dict[int, PartialSketch] = {}  # by session

    def end(self, session: int) -> None:
        """Forget the sketch of a session."""
        self._newest.pop(session, None)

    def receive_part(self, session: Session, part: SketchPart) -> tuple[str, list[Effect]]:
        """Keep a part; return its fate, and effects."""
        if not self.wanted:
            return Drop.UNEXPECTED.value, []
        if not (1 <= part.k <= part.n and part.index < part.n and part.data):
            return Drop.BAD_MESSAGE.value, []
        sketch = self._newest.get(session.id, PartialSketch())
        if part.tensor < sketch.tensor:
            return Drop.LATE.value, []
        if part.k * len(part.data) > self._limits.sketch_bytes:
            return Drop.MEMORY_LIMIT.value, [Bite("sketch_bytes")]
        if part.tensor > sketch.tensor:
            sketch = self._newest[session.id] = PartialSketch(part.tensor, part.n, part.k, len(part.data))
        if (part.n, part.k, len(part.data)) != (sketch.n, sketch.k, sketch.length):
            return Drop.CONFLICT.value, []
        if part.index in sketch.parts:
            return Drop.DUPLICATE.value, []
        if sketch.done:
            return "sketch", []
        sketch.parts[part.index] = part.data
        return self._finish(session, sketch) if len(sketch.parts) == sketch.k else ("sketch", [])

    def _finish(self, session: Session, partial: PartialSketch) -> tuple[str, list[Effect]]:
        whole = join_parts(partial.parts, partial.n, partial.k)
        partial.done = True
        partial.parts.clear()
        sketch = read_sketch(whole, session.grid.count)
        if sketch is None:
            return Drop.BAD_MESSAGE.value, []
        return "sketch", [Sketched(session.id, session.edge, partial.tensor, sketch)]
