"""Decoding: from the datagrams of a tensor that arrived back to features."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import CODES, Each, Symbols, worth_threads
from gradfec_common.conceal import Concealment
from gradfec_common.packets import Packets, join_packets, select_packets
from gradfec_common.quantisers import Needs, quantiser_of_id
from gradfec_common.reassembly import Mask, Reassembly, is_first
from gradfec_common.symbols import unpack

Indices = npt.NDArray[np.intp]


class Found(NamedTuple):
    """The packets of a tensor that are there: `places` (m,), whether each is `protected` (m,), and `recovered` (m,)."""

    places: Indices
    protected: Mask  # of a stripe that has parity
    recovered: Mask  # lost, and recovered by parity


@dataclass(frozen=True)
class DecodedTensor:
    """A tensor (H, W, C) float32 with its gaps filled, and what became of the packets that were sent."""

    tensor: npt.NDArray[np.float32]
    recovered: int  # packets that were lost, and recovered by parity
    missing: int  # packets that were sent and are lost for good
    conflicting: int  # packets whose place is taken or does not exist, or whose bytes are invalid
    found: Found


class _Job(NamedTuple):
    """A stripe to decode: its group's rows and which of them arrived, its columns, n, k, and code."""

    rows: slice
    indices: Indices
    columns: slice
    n: int
    k: int
    code: int


class _Data(NamedTuple):
    """Data symbols (m, length), whether the stripe of each has parity, and whether parity recovered it."""

    symbols: Symbols
    protected: Mask
    recovered: Mask


def decode_tensor(arrived: Reassembly, conceal: Concealment, each: Each = map) -> DecodedTensor:
    """Decode the stripes, dequantise, and fill the gaps; `each` maps over stripes.

    A stripe with fewer than k symbols contributes the data symbols that arrived. A gap is a packet that the plan
    dropped or that is lost for good: the receiver does not need to tell them apart.
    """
    quantiser = quantiser_of_id(arrived.quantiser)
    assert quantiser is not None, "a quantiser that `judge` should have refused"  # noqa: S101
    jobs = _jobs(arrived)

    def of_stripe(job: _Job) -> _Data:
        symbols = arrived.symbols[job.rows, job.columns][job.indices]
        own = job.indices < job.k
        if len(job.indices) < job.k:
            count = int(own.sum())
            return _Data(symbols[own], np.full(count, job.n > job.k), np.zeros(count, bool))
        data = CODES[job.code].decode(np.ascontiguousarray(symbols), job.indices, job.k, job.n)
        recovered = np.ones(job.k, bool)
        recovered[job.indices[own]] = False
        return _Data(data, np.full(job.k, job.n > job.k), recovered)

    work = [job.k * (job.n - job.k) for job in jobs]
    stripes = [*worth_threads(work, each)(of_stripe, jobs)]
    packets, protected, recovered = _unpacked(stripes, arrived.grid.count)
    valid = packets.places < arrived.grid.count
    valid[valid] = is_first(packets.places[valid], arrived.grid.count)
    claimed = len(valid)
    if not valid.all():
        packets, protected, recovered = (
            select_packets(packets, np.flatnonzero(valid)),
            protected[valid],
            recovered[valid],
        )
    decoded = quantiser.decode(packets, arrived.parameters, arrived.grid)
    good = decoded.there[packets.places]
    found = Found(packets.places[good], protected[good], recovered[good])
    is_stream = quantiser.needs is not Needs.NOTHING
    return DecodedTensor(
        tensor=decoded.tensor if is_stream else conceal(decoded.tensor, decoded.there, arrived.grid, decoded.step),
        recovered=int(found.recovered.sum()),
        missing=max(arrived.kept - len(found.places), 0),
        conflicting=claimed - len(found.places),
        found=found,
    )


def _jobs(arrived: Reassembly) -> list[_Job]:
    """Return the stripes of the groups that are known."""
    jobs = []
    for group in np.flatnonzero(arrived.base >= 0).tolist():
        start, n = int(arrived.base[group]), int(arrived.n[group])
        rows = slice(start, start + n)
        indices = np.flatnonzero(arrived.present[rows])
        column = 0
        for k, length, code in arrived.stripe_table(group).tolist():
            jobs.append(_Job(rows, indices, slice(column, column + length), n, k, code))
            column += length
    return jobs


def _unpacked(stripes: list[_Data], most: int) -> tuple[Packets, Mask, Mask]:
    """Return the packets in the data symbols of all stripes, and whether each is protected and recovered.

    `most` is the number of packets in a tensor. If an edge lies and sends more, some may be left out.
    """
    parts = []
    for _, alike in groupby(stripes, key=lambda data: data.symbols.shape[1]):
        symbols, protected, recovered = (np.concatenate(part) for part in zip(*alike, strict=True))
        packets, symbol = unpack(symbols, most)
        parts.append((packets, protected[symbol], recovered[symbol]))
    every, protected, recovered = zip(*parts, strict=True)
    return join_packets(every), np.concatenate(protected), np.concatenate(recovered)
