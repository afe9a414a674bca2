"""Sketches from whoever has a key: bounds hold, and what comes of true symbols alone is what was sent."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from tests.common.small_tensors import GRID
from tests.fuzz.reader import Reader

from gradfec_common.session.events import CloudLimits, Event, Sketched
from gradfec_common.session.records import PartialSketch
from gradfec_common.session.sketches import Sketches
from gradfec_common.sketch import JPEG_MAGIC, Sketch, read_sketch, sketch_bytes, sketch_parts
from gradfec_common.wire import Drop, SketchPart

MOST_STEPS = 200
FIELDS = ("", "n", "k", "index", "tensor", "data")  # of a symbol; nothing is changed under the first
LIMITS = CloudLimits(sketch_bytes=4096)


@lru_cache
def sent(number: int) -> tuple[Sketch, list[SketchPart]]:
    """Return the sketch of a tensor, and its six symbols, of which three will do."""
    rng = np.random.default_rng(number)
    fates, importance = rng.integers(0, 3, GRID.count), rng.integers(0, 16, GRID.count)
    sketch = Sketch(fates.astype(np.uint8), importance.astype(np.uint8), JPEG_MAGIC + rng.bytes(2500))
    return sketch, sketch_parts(number, sketch_bytes(sketch))


def target(data: bytes) -> None:
    """Read the bytes as a sketch; then take symbols, true ones and false ones, as they say."""
    read = read_sketch(data, GRID.count)
    if read is not None:
        again = read_sketch(sketch_bytes(read), GRID.count)
        assert again is not None and all(map(np.array_equal, read, again))
    reader, events, bites = Reader(data), deque[Event](), Counter[str]()
    sketches = Sketches(LIMITS, True, events, bites)
    session: Any = SimpleNamespace(id=7, edge="edge", grid=GRID, sketch=PartialSketch())
    lied: set[int] = set()  # about these tensors
    for _ in range(MOST_STEPS):
        if not reader.more:
            break
        part = sent(reader.below(3))[1][reader.below(6)]
        field = FIELDS[reader.below(len(FIELDS))]
        value = reader.piece()[:1024] if field == "data" else reader.number()
        if field:
            part = replace(part, **{field: value})
            lied.add(part.tensor)
        newest = session.sketch.tensor
        fate = sketches.take(session, part)
        assert fate == "sketch" or Drop(fate)
        assert session.sketch.tensor >= newest
        assert sum(map(len, session.sketch.parts.values())) <= LIMITS.sketch_bytes
        while events:
            event = events.popleft()
            assert isinstance(event, Sketched) and event.tensor == part.tensor
            assert event.sketch.fates.shape == event.sketch.importance.shape == (GRID.count,)
            if event.tensor not in lied:
                assert all(map(np.array_equal, event.sketch, sent(event.tensor)[0])), "not what was sent"
    assert bites.keys() <= {"sketch_bytes"}
