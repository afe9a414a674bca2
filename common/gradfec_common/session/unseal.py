"""From the sealed datagrams of a session to symbols, tensor by tensor.

Cheap checks come first, then whether a datagram is authentic, then whether it is new, and only then its content. Each
step drops datagrams under a named reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common import wire
from gradfec_common.replay import Verdict
from gradfec_common.seal import UNSEALED
from gradfec_common.session.sessions import Rows, Session
from gradfec_common.wire import Batch, Drop
from gradfec_common.wire.symbol import FIXED_BYTES, read_headers

MIN_SYMBOL_BYTES = wire.SEAL_BYTES + FIXED_BYTES  # a datagram that carries symbols is longer


class Opened(NamedTuple):
    """Symbols that are authentic and new: their (m,) rows of the batch and counters, their (m, bytes) bodies."""

    rows: Rows
    counters: npt.NDArray[Any]
    bodies: wire.Bytes
    drops: dict[str, int]  # the others, by fate


def open_symbols(session: Session, batch: Batch, rows: Rows, counters: npt.NDArray[Any]) -> Iterator[Opened]:
    """Open the symbols of a session in (m,) `rows` of a batch, with their counters, those of one length at a time.

    All datagrams of a tensor have the same length, so this is usually all of them.
    """
    for mine in alike(batch.lengths[rows]):
        yield _open_alike(session, batch, rows[mine], counters[mine])


def _open_alike(session: Session, batch: Batch, rows: Rows, counters: npt.NDArray[Any]) -> Opened:
    length = int(batch.lengths[rows[0]])
    if length <= MIN_SYMBOL_BYTES:
        none = np.empty((0, 0), np.uint8)
        return Opened(rows[:0], counters[:0], none, {Drop.BAD_LENGTH.value: len(rows)})
    whole = batch.buffer if len(rows) == len(batch.buffer) else batch.buffer[rows]
    bodies, verdicts = session.opener.open(whole[:, :length])
    drops: dict[str, int] = {}
    good = verdicts == Verdict.OK
    if not good.all():
        drops |= {reason.value: int((verdicts == verdict).sum()) for verdict, reason in UNSEALED.items()}
        rows, counters, bodies = rows[good], counters[good], bodies[good]
    return Opened(rows, counters, bodies, drops)


def by_tensor(bodies: wire.Bytes) -> Iterator[tuple[int, Rows | slice]]:
    """Yield the number of each tensor in (m, bytes) bodies, and which bodies are its."""
    numbers = read_headers(bodies)["tensor"]
    for mine in alike(numbers):
        yield int(numbers[mine][0]), mine


def alike(keys: npt.NDArray[Any]) -> Iterator[Rows | slice]:
    """Yield the rows of each distinct value among (m,) keys; a slice of all if they are all the same."""
    if not len(keys):
        return
    if (keys == keys[0]).all():  # usually; copying headers would take most of a batch's time
        yield slice(None)
        return
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    yield from np.split(order, 1 + np.flatnonzero(ranked[1:] != ranked[:-1]))
