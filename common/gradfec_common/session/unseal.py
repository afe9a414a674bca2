"""From the sealed datagrams of a session to symbols, tensor by tensor.

What is cheap to see is looked at first, then whether a datagram is authentic, then whether it is new, and only then
what it says. Each step drops what it does not let pass under a named reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common import wire
from gradfec_common.packets import PacketGrid
from gradfec_common.reassembly import Reassembly, judge
from gradfec_common.replay import Verdict
from gradfec_common.seal import UNSEALED
from gradfec_common.session.sessions import Rows, Session
from gradfec_common.wire import Batch, Drop

Headers = npt.NDArray[Any]  # SYMBOL_HEADER records


class Opened(NamedTuple):
    """Symbols that are authentic and new: their (m,) rows of the batch and counters, their (m, length) bodies."""

    rows: Rows
    counters: npt.NDArray[Any]
    bodies: wire.Bytes
    drops: dict[str, int]  # the others, by fate


class Judged(NamedTuple):
    """Symbols of one tensor that may be true: (m,) headers, (m, length) symbols."""

    headers: Headers
    symbols: wire.Bytes
    expected: bool  # whether the headers say only what is known already: see `Reassembly.expects`
    drops: dict[str, int]  # the others, by fate


def open_symbols(session: Session, batch: Batch, rows: Rows, counters: npt.NDArray[Any]) -> Opened:
    """Open the symbols of a session in (m,) `rows` of a batch, with their counters."""
    drops = {}
    length = wire.OVERHEAD_BYTES + session.grid.size
    fits = batch.lengths[rows] == length
    if not fits.all():
        drops[Drop.BAD_LENGTH.value] = int((~fits).sum())
        rows, counters = rows[fits], counters[fits]
    whole = batch.buffer if len(rows) == len(batch.buffer) else batch.buffer[rows]
    bodies, verdicts = session.opener.open(whole[:, :length])
    good = verdicts == Verdict.OK
    if not good.all():
        drops |= {reason.value: int((verdicts == verdict).sum()) for verdict, reason in UNSEALED.items()}
        rows, counters, bodies = rows[good], counters[good], bodies[good]
    return Opened(rows, counters, bodies, drops)


def by_tensor(bodies: wire.Bytes) -> Iterator[tuple[int, Headers, wire.Bytes]]:
    """Yield the number, headers and symbols of each tensor of which there are some in (m, length) bodies."""
    headers, symbols = wire.read_symbols(bodies)
    for mine in alike(headers["tensor"]):
        yield int(headers["tensor"][mine][0]), headers[mine], symbols[mine]


def judge_symbols(
    headers: Headers, symbols: wire.Bytes, arrived: Reassembly | None, grid: PacketGrid, split_id: int
) -> Judged:
    """Judge symbols of one tensor, of which `arrived` is there already, by what each says."""
    if arrived is not None and arrived.expects(headers):
        return Judged(headers, symbols, True, {})
    good, drops = judge(headers, grid, split_id)
    if drops:
        headers, symbols = headers[good], symbols[good]
    return Judged(headers, symbols, False, {reason.value: count for reason, count in drops.items()})


def alike(keys: npt.NDArray[Any]) -> Iterator[Rows | slice]:
    """Yield, for each distinct one of (m,) keys, where it is; all at once, as a slice, where they are all the same."""
    if not len(keys):
        return
    if (keys == keys[0]).all():  # mostly; copies of headers are what a batch would spend most of its time on
        yield slice(None)
        return
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    yield from np.split(order, 1 + np.flatnonzero(ranked[1:] != ranked[:-1]))
