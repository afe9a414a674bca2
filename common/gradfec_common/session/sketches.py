"""Sketches at the cloud: parts are kept until a sketch is whole, one sketch of a session at a time.

A sketch is only for people to look at. Its parts are sent once, and nothing waits for them. If one part is lost, this
sketch is not shown; the next one comes a second later.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gradfec_common.session.effects import Bite, Effect
from gradfec_common.session.events import CloudLimits, Sketched
from gradfec_common.session.offer import Form
from gradfec_common.session.sessions import Session
from gradfec_common.sketch import read_sketch
from gradfec_common.wire import Drop, SketchPart


@dataclass
class PartialSketch:
    """The newest sketch of a session, with the parts that have arrived."""

    tensor: int = -1
    parts: int = 0
    data: dict[int, bytes] = field(default_factory=dict)  # by part; empty again once the sketch is whole
    whole: bool = False

    @property
    def held_bytes(self) -> int:
        """Bytes of parts that are held."""
        return sum(map(len, self.data.values()))


class Sketches:
    """The newest sketch of each session."""

    def __init__(self, limits: CloudLimits, *, wanted: bool) -> None:
        """Drop all parts unless sketches are `wanted`."""
        self._limits, self._wanted = limits, wanted
        self._newest: dict[int, PartialSketch] = {}  # by session

    def end(self, session: int) -> None:
        """Forget the sketch of a session."""
        self._newest.pop(session, None)

    def receive_part(self, session: Session, part: SketchPart) -> tuple[str, list[Effect]]:
        """Keep a part; return its fate, and effects."""
        if not self._wanted:
            return Drop.UNEXPECTED.value, []
        form = session.forms.get(part.form)
        if part.part >= part.parts or not part.data or form is None:
            return Drop.BAD_MESSAGE.value, []
        sketch = self._newest.get(session.id, PartialSketch())
        if part.tensor < sketch.tensor:
            return Drop.LATE.value, []
        if part.tensor > sketch.tensor:
            sketch = PartialSketch(part.tensor, part.parts)
        if sketch.held_bytes + len(part.data) > self._limits.sketch_bytes:
            return Drop.MEMORY_LIMIT.value, [Bite("sketch_bytes")]
        if part.parts != sketch.parts:
            return Drop.CONFLICT.value, []
        if sketch.whole or part.part in sketch.data:
            return Drop.DUPLICATE.value, []
        self._newest[session.id] = sketch
        sketch.data[part.part] = part.data
        return self._finish(session, sketch, form) if len(sketch.data) == sketch.parts else ("sketch", [])

    def _finish(self, session: Session, partial: PartialSketch, form: Form) -> tuple[str, list[Effect]]:
        sketch = read_sketch(b"".join(data for _, data in sorted(partial.data.items())), form.grid.count)
        partial.data, partial.whole = {}, True
        if sketch is None:
            return Drop.BAD_MESSAGE.value, []
        return "sketch", [Sketched(session.id, session.edge, partial.tensor, sketch)]
