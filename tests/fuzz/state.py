"""Everything that an object holds, as a value that can be compared: has anything changed?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gradfec_common.session.rates import Allowance
from gradfec_common.session.timers import Timers

PLAIN = (int, float, str, bytes, bool, type(None))
# What counts what came, whatever it was; the rest of what a core holds may only change for what is authentic.
COUNTED = frozenset({"counts"})


def state_of(thing: Any) -> Any:
    """Return everything that can be reached from `thing`, except the counts of datagrams."""
    return _walk(thing, set())


def _walk(thing: Any, seen: set[int]) -> Any:
    if isinstance(thing, PLAIN):
        return thing
    if isinstance(thing, np.ndarray):
        return thing.shape, thing.tobytes()
    if id(thing) in seen or callable(thing):
        return id(thing)
    seen.add(id(thing))
    if isinstance(thing, Allowance):  # each look at it brings it up to date
        return None
    if isinstance(thing, Timers):
        return len(thing._things), thing.next_at
    if isinstance(thing, dict):
        return [(_walk(key, seen), _walk(value, seen)) for key, value in thing.items()]
    if hasattr(thing, "__dict__"):
        return [(name, _walk(value, seen)) for name, value in vars(thing).items() if name not in COUNTED]
    if isinstance(thing, Iterable):
        return [_walk(item, seen) for item in thing]
    return id(thing)
