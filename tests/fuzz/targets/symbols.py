"""From symbols to features: what is not good is refused, and what is decoded is what has arrived."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from gradfec_common.quantise import dequantise
from tests.fuzz.reader import Reader
from tests.fuzz.symbols_of import with_field
from tests.fuzz.world import GRID, PLANS, SPLIT, content

from gradfec_common import wire
from gradfec_common.codes import CODES
from gradfec_common.delivery import packets_at_hand
from gradfec_common.reassembly import Reassembly, decode_tensor, judge

BODY_BYTES = wire.HEADER_BYTES + wire.PLACE_BYTES + GRID.size
MOST_BATCHES = 8


def target(data: bytes) -> None:
    """Take in symbols of a true tensor, changed or not, and made up ones, in batches."""
    reader = Reader(data)
    number = reader.below(len(PLANS))
    bodies = content(number).bodies
    arrived: Reassembly | None = None
    true = True  # whether nothing but the tensor's own symbols has come
    positions = set()
    for _ in range(MOST_BATCHES):
        if not reader.more:
            break
        batch = []
        for _ in range(reader.below(24)):
            place = reader.below(len(bodies))
            body, kind = bodies[place], reader.below(4)
            match kind:
                case 0 | 1:
                    positions.add(place)
                case 2:
                    body = with_field(body, reader)
                case 3:
                    body = reader.edited(body)[:BODY_BYTES].ljust(BODY_BYTES, b"\0")
            true &= kind < 2
            batch.append(body)
        if batch:
            arrived = take_in(arrived, batch)
    if arrived is None:
        return
    decoded = check_decoded(arrived)
    if true:
        mask = np.isin(np.arange(len(bodies)), [*positions])
        there = packets_at_hand(PLANS[number], mask)
        whole = received(bodies)
        packets, right = GRID.split(decoded), GRID.split(decode_tensor(whole).chi)
        assert np.array_equal(packets[there], right[there]), "a wrong packet"
        assert not packets[~there].any(), "a packet that nobody has sent"


def received(bodies: list[bytes]) -> Reassembly:
    """Return a tensor of which all has arrived."""
    arrived = take_in(None, bodies)
    assert arrived is not None
    assert arrived.complete
    return arrived


def take_in(arrived: Reassembly | None, batch: list[bytes]) -> Reassembly | None:
    """Judge and add bodies, as the cloud does; check the books."""
    matrix = np.frombuffer(b"".join(batch), np.uint8).reshape(len(batch), -1)
    headers, symbols = wire.read_symbols(matrix)
    good, drops = judge(headers, GRID, SPLIT.id)
    assert good.sum() + sum(drops.values()) == len(batch)
    assert all(count > 0 for count in drops.values())
    headers, symbols = headers[good], symbols[good]
    if arrived is None:
        if not len(headers):
            return None
        arrived = Reassembly(headers[0], GRID)
    expected = arrived.expects(headers)
    before = arrived.received
    drops = arrived.add(headers, symbols, expected=expected)
    assert arrived.received - before + sum(drops.values()) == len(headers), "not exactly one fate each"
    check_books(arrived)
    return arrived


def check_books(arrived: Reassembly) -> None:
    """Check that what is written of a tensor agrees with itself."""
    heard = np.flatnonzero(arrived.base >= 0)
    assert len(heard)
    assert arrived.received == arrived.present.sum() == arrived.have.sum()
    slots = np.concatenate([np.arange(arrived.base[b], arrived.base[b] + arrived.n[b]) for b in heard])
    assert len(set(slots.tolist())) == len(slots) <= arrived.sent
    assert arrived.k.sum() <= arrived.kept
    for block in heard:
        start, n = arrived.base[block], arrived.n[block]
        assert arrived.present[start : start + n].sum() == arrived.have[block] <= n
    assert 0 <= arrived.lost_bursts() <= arrived.sent - arrived.received
    assert not arrived.all_arrived or arrived.complete
    assert arrived.symbols.nbytes <= arrived.sent * (BODY_BYTES - wire.HEADER_BYTES)


def check_decoded(arrived: Reassembly) -> npt.NDArray[np.float32]:
    """Decode, and build the features once more, packet by packet, from codes that are only made to encode."""
    decoded = decode_tensor(arrived)
    packets = np.zeros((GRID.count, GRID.size), np.float32)
    claimed: set[int] = set()
    own = recovered = conflicting = 0
    chi = GRID.split(decoded.chi)
    for block in np.flatnonzero(arrived.base >= 0):
        start, n, k = (int(array[block]) for array in (arrived.base, arrived.n, arrived.k))
        indices = np.flatnonzero(arrived.present[start : start + n])
        symbols = arrived.symbols[start + indices]
        code = CODES[int(arrived.code[block])]
        data = symbols[indices < k]
        own += len(data)
        if len(indices) >= k:
            recovered += k - len(data)
            data = code.decode(symbols, indices, k, n)
            encoded = np.concatenate([data, code.encode(data, n)])
            assert np.array_equal(encoded[indices[:k]], symbols[:k]), "what was decoded is not what was encoded"
        for symbol in data:
            place = int.from_bytes(symbol[:2].tobytes(), "big")
            if place in claimed or place >= GRID.count:
                conflicting += 1
                continue
            claimed.add(place)
            packets[place] = dequantise(symbol[2:], arrived.low, arrived.high)
    assert np.array_equal(chi, packets), "other features than have arrived"
    assert decoded.recovered == recovered
    assert decoded.conflicting == conflicting
    assert decoded.missing == arrived.kept - own - recovered >= 0
    return decoded.chi
