"""Sorting a batch: each datagram in exactly one place, for what its bytes say alone."""

from __future__ import annotations

import numpy as np
from tests.fuzz.reader import Reader

from gradfec_common import wire
from gradfec_common.wire import Drop, Kind

MOST_DATAGRAMS = 32


def target(data: bytes) -> None:
    """Cut a batch from the bytes, as wide as one of the receiver's buffers may be."""
    reader = Reader(data)
    width = max(wire.MIN_WIDTH_BYTES, reader.below(2049))
    datagrams = []
    while reader.more and len(datagrams) < MOST_DATAGRAMS:
        datagrams.append(reader.edited(bytes([wire.MAGIC, wire.VERSION, reader.number()]) + reader.piece()))
    lengths = np.array([len(datagram) for datagram in datagrams], np.intp)
    buffer = np.full((len(datagrams), width), 0xA5, np.uint8)  # what is left of the batch before
    for row, datagram in zip(buffer, datagrams, strict=True):
        row[: len(datagram)] = np.frombuffer(datagram, np.uint8)[:width]
    none = np.zeros(len(datagrams))
    batch = wire.Batch(buffer, np.minimum(lengths, 2048), none.astype(np.intp), ["somebody"], none)
    found = wire.sort_batch(batch)
    fates: dict[int, Drop | Kind | str] = {}
    for fate, rows in [*found.drops.items(), (Kind.HELLO, found.hellos), (Kind.WELCOME, found.welcomes)]:
        for row in rows.tolist():
            assert row not in fates, "two fates"
            fates[row] = fate
    for row, header in zip(found.sealed.tolist(), found.headers, strict=True):
        assert row not in fates, "two fates"
        assert header.tobytes() == datagrams[row][:16]
        fates[row] = "sealed"
    assert fates == {row: fate_of(datagram, width) for row, datagram in enumerate(datagrams)}


def fate_of(datagram: bytes, width: int) -> Drop | Kind | str:
    """Say what section 7.4 of docs/reference/protocol.md says."""
    if len(datagram) <= 32:
        return Drop.TOO_SHORT
    if datagram[0] != 0x47:
        return Drop.NOT_GRADFEC
    if len(datagram) > min(1200, width):
        return Drop.TOO_LONG
    if datagram[1] != 3:
        return Drop.UNKNOWN_VERSION
    return {1: "sealed", 2: "sealed", 16: Kind.HELLO, 17: Kind.WELCOME}.get(datagram[2], Drop.UNKNOWN_KIND)
