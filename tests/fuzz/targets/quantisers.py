"""Quantisers' decoding: any parameters and any packets, and what comes of them is finite."""

from __future__ import annotations

import numpy as np
from tests.common.small_tensors import OF_PARTS
from tests.fuzz.reader import Reader
from tests.fuzz.world import DEFLATE, GRID, coded

from gradfec_common.packets import Packets
from gradfec_common.quantisers import MAX_PARAMETER_BYTES, QUANTISERS, Quantiser


def target(data: bytes) -> None:
    """Decode packets of a true tensor, changed or not, at any places."""
    reader = Reader(data)
    names = sorted({*OF_PARTS, DEFLATE.name})
    quantiser = QUANTISERS[names[reader.below(len(names))]]
    true = coded(quantiser, 0)
    parameters = reader.edited(true.parameters)[: MAX_PARAMETER_BYTES + 2]
    if not quantiser.are_valid(parameters):
        assert parameters != true.parameters
        return
    offsets = true.packets.offsets
    given: dict[int, bytes] = {}
    for _ in range(reader.below(2 * GRID.count)):
        place, of = reader.below(GRID.count), reader.below(GRID.count)
        packet = true.packets.data[offsets[of] : offsets[of + 1]].tobytes()
        given[place] = (reader.edited(packet) if reader.below(2) else packet) or b"\0"
    decoded = decode(quantiser, given, parameters)
    tensor, there = decoded
    for place, packet in given.items():  # each by itself is what it is among the others
        alone, is_there = decode(quantiser, {place: packet}, parameters)
        assert is_there[place] == there[place]
        assert not there[place] or alone[place].tobytes() == tensor[place].tobytes()
    assert not there[np.setdiff1d(np.arange(GRID.count), [*given])].any(), "a packet is there that has not come"
    if parameters == true.parameters:
        whole, all_there = decode(quantiser, dict(enumerate(pieces(true.packets))), parameters)
        assert all_there.all()
        for place, packet in given.items():
            if packet == pieces(true.packets)[place]:
                assert there[place] and tensor[place].tobytes() == whole[place].tobytes()


def pieces(packets: Packets) -> list[bytes]:
    """Return the bytes of each packet."""
    ends = zip(packets.offsets[:-1], packets.offsets[1:], strict=True)
    return [packets.data[start:end].tobytes() for start, end in ends]


def decode(quantiser: Quantiser, given: dict[int, bytes], parameters: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Decode packets by their places; return the packets of the tensor, and which are there."""
    offsets = np.cumsum([0, *map(len, given.values())])
    data = np.frombuffer(b"".join(given.values()), np.uint8)
    decoded = quantiser.decode(Packets(np.array([*given], np.intp), offsets, data), parameters, GRID)
    assert decoded.tensor.shape == GRID.shape and decoded.tensor.dtype == np.float32
    assert decoded.there.shape == (GRID.count,) and decoded.there.dtype == bool
    assert np.isfinite(decoded.tensor).all(), "features that are not finite"
    return GRID.split(decoded.tensor), decoded.there
