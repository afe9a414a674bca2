"""What a core may hold: a census of everything that it can reach, and the most that its limits allow."""

from __future__ import annotations

import enum
import itertools
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradfec_common import wire
from gradfec_common.networks import Cut, Network
from gradfec_common.packets import PacketGrid
from gradfec_common.quantisers import MAX_PARAMETER_BYTES
from gradfec_common.session.edge import EdgeLimits
from gradfec_common.session.events import CloudLimits
from gradfec_common.session.timers import SLACK
from gradfec_common.wire.symbol import MAX_STRIPES, MAX_TENSOR_STRIPES, layout_of

ATOMS = (str, bytes, int, float, bool, type(None), enum.Enum, np.generic)
COUNTERS = ("counts", "bites")  # of datagrams and of limits that bit: checked elsewhere
OPAQUE = (type, types.ModuleType, types.BuiltinFunctionType, np.dtype, Network, Cut, PacketGrid)  # nothing changes them


def walk(root: Any) -> Iterator[Any]:
    """Yield everything that a core can reach, containers before their content, in an order that no hash affects."""
    todo, seen, kept = [root], set(), []
    while todo:
        thing = todo.pop()
        yield thing
        if isinstance(thing, (*ATOMS, *OPAQUE)) or id(thing) in seen:
            continue
        seen.add(id(thing))
        kept.append(thing)  # otherwise another object could get the same id
        todo += reversed(inside(thing))


def inside(thing: Any) -> list[Any]:
    """Return what an object holds."""
    if isinstance(thing, dict):
        return [part for pair in thing.items() for part in pair]
    if isinstance(thing, (set, frozenset)):
        return sorted(thing, key=repr)
    if isinstance(thing, (list, tuple, deque)):
        return [*thing]
    if isinstance(thing, types.FunctionType):
        return [cell.cell_contents for cell in thing.__closure__ or ()]
    if isinstance(thing, types.MethodType):
        return [thing.__self__]
    if isinstance(thing, np.ndarray) or not hasattr(thing, "__dict__"):
        return []
    return [part for name, part in vars(thing).items() if name not in COUNTERS]


def census(root: Any) -> tuple[int, int]:
    """Count the elements of all containers and the bytes of all arrays that a core can reach, except its counters."""
    elements = array_bytes = 0
    for thing in walk(root):
        if isinstance(thing, (dict, list, tuple, set, deque)):
            elements += len(thing)
        elif isinstance(thing, np.ndarray):
            array_bytes += thing.nbytes
    return elements, array_bytes


def picture(root: Any) -> list[Any]:
    """Return the state of a core, except its counters: two are equal if nothing has changed."""
    parts: list[Any] = []
    for thing in walk(root):
        if isinstance(thing, np.ndarray):
            parts.append(thing.tobytes())
        elif isinstance(thing, np.random.Generator):
            parts.append(repr(thing.bit_generator.state))
        elif isinstance(thing, itertools.count):
            parts.append(repr(thing))
        else:
            parts.append(thing if isinstance(thing, ATOMS) else type(thing).__name__)
    return parts


FIXED = 200  # elements of a core that has nothing to do
OF_ATOM = 12  # elements that one tensor, answer, number or timer takes, with the tuples and attributes around it


def most_elements(limits: CloudLimits, hellos: int) -> int:
    """Return how many elements the containers of a cloud may have after it has answered so many hellos."""
    tensors = limits.tensors_per_session + limits.pending_tensors
    of_session = tensors + limits.answers_per_session + 2 * limits.tensor_window + 1
    greetings = min(limits.greetings, hellos) + min(limits.addresses, hellos + 1)
    parts = limits.sessions * 255  # of sketches: u8 on the wire
    of_session += 2 * limits.unheard_tensors
    return FIXED + OF_ATOM * (limits.sessions * (of_session + 4) + most_timers(limits) + greetings) + parts


def most_timers(limits: CloudLimits) -> int:
    """Return how many timers a cloud may have, with all that its limits allow."""
    of_session = limits.tensors_per_session + limits.pending_tensors + limits.answers_per_session
    of_session += limits.unheard_tensors
    return 2 * (limits.sessions * of_session + SLACK) + 1  # one for all sessions


def places_for(waiting: int) -> int:
    """Return how many places a heap of timers may have if so many things wait in it: as many may be called off."""
    return 2 * waiting + SLACK


def most_array_bytes(limits: CloudLimits, max_sent: int, window: int) -> int:
    """Return how many bytes the arrays of a cloud may have: symbols, the book of each tensor, and replay windows."""
    book = most_said() + 256 * 8 * 4 + 2 * max_sent
    handed_over = max_sent * wire.MAX_DATAGRAM_BYTES
    tensors = limits.sessions * (limits.tensors_per_session + limits.pending_tensors)
    pending = max(limits.pending_tensors, limits.sessions)
    return limits.reassembly_bytes + tensors * book + pending * (handed_over + book) + limits.sessions * window


def most_said() -> int:
    """Return how many bytes a tensor's book has at most of what the headers of its groups say, twice."""
    of_group = [layout_of(stripes, MAX_PARAMETER_BYTES).header + 8 for stripes in range(1, MAX_STRIPES + 1)]
    return max((MAX_TENSOR_STRIPES // stripes + 2) * size for stripes, size in enumerate(of_group, 1))


def most_edge_elements(limits: EdgeLimits) -> int:
    """Return how many elements the containers of an edge may have between two calls."""
    return FIXED + OF_ATOM * limits.tensors_in_flight
