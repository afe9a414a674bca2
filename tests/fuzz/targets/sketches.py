"""Sketches from anybody with a key: bounds hold, and true parts alone make the sketch that was sent."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from tests.common.small_tensors import CUT, GRID
from tests.fuzz.reader import Reader

from gradfec_common.session.effects import Bite
from gradfec_common.session.events import CloudLimits, Sketched
from gradfec_common.session.offer import Form
from gradfec_common.session.sketches import PartialSketch, Sketches
from gradfec_common.sketch import JPEG_MAGIC, Sketch, read_sketch, sketch_bytes, sketch_parts
from gradfec_common.wire import Drop, SketchPart

MOST_STEPS = 200
FIELDS = ("", "part", "parts", "tensor", "data")  # of a part; nothing is changed under the first
LIMITS = CloudLimits(sketch_bytes=4096)


@lru_cache
def sent(number: int) -> tuple[Sketch, list[SketchPart]]:
    """Return the sketch of a tensor, and its three parts."""
    rng = np.random.default_rng(number)
    fates, importance = rng.integers(0, 3, GRID.count), rng.integers(0, 16, GRID.count)
    sketch = Sketch(fates.astype(np.uint8), importance.astype(np.uint8), JPEG_MAGIC + rng.bytes(2500))
    return sketch, sketch_parts(number, sketch_bytes(sketch))


def target(data: bytes) -> None:
    """Read the bytes as a sketch; then receive parts, true ones and false ones, as they say."""
    read = read_sketch(data, GRID.count)
    if read is not None:
        again = read_sketch(sketch_bytes(read), GRID.count)
        assert again is not None and all(map(np.array_equal, read, again))
    reader, newest = Reader(data), -1
    sketches = Sketches(LIMITS, wanted=True)
    session: Any = SimpleNamespace(id=7, edge="edge", forms={0: Form(CUT, GRID)})
    lied: set[int] = set()  # about these tensors
    for _ in range(MOST_STEPS):
        if not reader.more:
            break
        part = sent(reader.below(3))[1][reader.below(3)]
        field = FIELDS[reader.below(len(FIELDS))]
        value = reader.piece()[:1024] if field == "data" else reader.number()
        if field:
            part = replace(part, **{field: value})
            lied.add(part.tensor)
        fate, effects = sketches.receive_part(session, part)
        assert fate == "sketch" or Drop(fate)
        held = sketches._newest.get(session.id, PartialSketch())
        assert held.tensor >= newest
        newest = held.tensor
        assert held.held_bytes <= LIMITS.sketch_bytes
        for effect in effects:
            if effect == Bite("sketch_bytes"):
                continue
            assert isinstance(effect, Sketched) and effect.tensor == part.tensor
            assert effect.sketch.fates.shape == effect.sketch.importance.shape == (GRID.count,)
            if effect.tensor not in lied:
                assert all(map(np.array_equal, effect.sketch, sent(effect.tensor)[0])), "not what was sent"
