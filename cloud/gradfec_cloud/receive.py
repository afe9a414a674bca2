"""Datagrams from a UDP socket in batches: many a system call if the kernel has UDP_GRO, otherwise one a call.

With UDP_GRO (Linux 5.0, udp(7)) a call may return a run of datagrams of one peer, end to end: all of the length that
comes with it as ancillary data, but for the last, which may be shorter. Without that data it is a single datagram.

With SO_TIMESTAMPNS (socket(7)) the kernel also says when each came. A busy process reads late, and that is not the
link's delay.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import time
from collections.abc import Hashable

import numpy as np
import numpy.typing as npt

from gradfec_common.wire import MIN_WIDTH_BYTES, Batch, Bytes

BATCH = 256  # system calls a batch
MAX_ROWS = 4096  # datagrams a batch, after which no further call is made
WIDTH_BYTES = 2048  # longer datagrams are cut off: they are longer than the protocol allows, and counted as that
RUN_BYTES = 65_536  # more than any call returns
BUFFER_BYTES = 2**20  # about as much as a tensor
UDP_GRO = 104  # from Linux's udp.h; Python's socket module does not name it
SEGMENT = struct.Struct("=i")  # the ancillary data: the length of a run's datagrams
SO_TIMESTAMPNS = 35  # from Linux's socket.h, on all but Alpha, PA-RISC and SPARC
CAME = struct.Struct("@ll")  # the ancillary data: seconds and nanoseconds of the wall clock
ANCILLARY_BYTES = socket.CMSG_SPACE(SEGMENT.size) + socket.CMSG_SPACE(CAME.size)
LONGEST_WAIT_S = 2.0  # longer ones are steps of the wall clock

Numbers = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]


def batches_runs(opened: socket.socket) -> bool:
    """Ask the kernel to hand over runs of datagrams; False if it cannot."""
    try:
        opened.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    except OSError:
        return False
    return True


class Receiver:
    """Reads a non-blocking UDP socket into one buffer, which is used again for each batch."""

    def __init__(self, opened: socket.socket, *, batched: bool = True) -> None:
        """Read `opened`; one datagram a call if `batched` is False or the kernel cannot do more."""
        self.batched = batched and batches_runs(opened)
        with contextlib.suppress(OSError):  # of a kernel without it
            opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket = opened
        self._buffer = np.empty(BUFFER_BYTES + RUN_BYTES + WIDTH_BYTES, np.uint8)
        self._bytes = memoryview(self._buffer)[: BUFFER_BYTES + RUN_BYTES]  # type: ignore[arg-type]
        self._stride = WIDTH_BYTES  # how far apart the next batch's datagrams are expected to stand

    def receive(self) -> Batch | None:
        """Take what waits, within bounds, or None if nothing does; the batch is valid until the next call."""
        runs: list[tuple[int, int, int, int]] = []  # start in the buffer, bytes, bytes a datagram, sender
        came_at: list[float] = []
        peers: dict[Hashable, int] = {}
        end = rows = 0
        for _ in range(BATCH):
            if rows >= MAX_ROWS or end > BUFFER_BYTES:
                break
            try:
                size, segment, came, peer = self._read(self._bytes[end:])
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error of an answer: that edge has gone
            runs.append((end, size, segment, peers.setdefault(peer, len(peers))))
            came_at.append(came)
            count = -(-size // segment) or 1
            rows += count
            end += count * max(self._stride, segment)
        return self._batch(np.array(runs, np.intp), time.time() - np.array(came_at), [*peers]) if runs else None

    def _read(self, space: memoryview) -> tuple[int, int, float, Hashable]:
        """Return a run's bytes, those of a datagram, when it came by the wall clock, or infinity, and its sender."""
        space = space if self.batched else space[:WIDTH_BYTES]
        size, ancillary, _, peer = self._socket.recvmsg_into([space], ANCILLARY_BYTES)
        segment, came_at = max(size, 1), math.inf
        for level, kind, data in ancillary:
            if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO):
                (segment,) = SEGMENT.unpack(data)
            elif (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, nanoseconds = CAME.unpack(data)
                came_at = seconds + nanoseconds / 1e9
        return size, segment, came_at, peer

    def _batch(self, runs: Numbers, waited_s: Floats, peers: list[Hashable]) -> Batch:
        """Cut (r, 4) runs, which have waited (r,), into datagrams, one a row."""
        start, size, segment, sender = runs.T
        waited_s = np.where((waited_s > 0) & (waited_s < LONGEST_WAIT_S), waited_s, 0.0)
        counts = np.maximum(-(-size // segment), 1)  # an empty datagram is one, too
        number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # of a datagram in its run
        offset = number * np.repeat(segment, counts)
        lengths = np.minimum(np.repeat(size, counts) - offset, np.repeat(segment, counts))
        rows = self._rows(np.repeat(start, counts) + offset, lengths)
        long_runs = segment[(counts > 1) & (segment >= MIN_WIDTH_BYTES) & (segment <= WIDTH_BYTES)]
        if len(long_runs):
            self._stride = int(long_runs[-1])
        elif lengths.max() > self._stride:
            self._stride = WIDTH_BYTES
        lengths = np.minimum(lengths, WIDTH_BYTES)
        return Batch(rows, lengths, np.repeat(sender, counts), peers, np.repeat(waited_s, counts))

    def _rows(self, starts: Numbers, lengths: Numbers) -> Bytes:
        """Return the (n, width) matrix of the datagrams that start there: in place if they are evenly spaced."""
        if lengths.max() <= self._stride and np.array_equal(starts, np.arange(len(starts)) * self._stride):
            return self._buffer[: len(starts) * self._stride].reshape(len(starts), self._stride)
        width = min(max(int(lengths.max()), MIN_WIDTH_BYTES), WIDTH_BYTES)
        return np.lib.stride_tricks.sliding_window_view(self._buffer, width)[starts]
