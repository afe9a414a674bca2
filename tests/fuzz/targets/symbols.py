"""From the bodies of datagrams to features: what is not good is refused, and what is decoded is what has arrived."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from typing import NamedTuple

import numpy as np
from tests.common.small_tensors import ZERO
from tests.fuzz.reader import Reader
from tests.fuzz.symbols_of import with_field
from tests.fuzz.targets.inside import packets_in
from tests.fuzz.world import GRID, KINDS, content

from gradfec_common.codes import CODES
from gradfec_common.decode import DecodedTensor, decode_tensor
from gradfec_common.delivery import packets_arrived, packets_at_hand
from gradfec_common.packets import Packets
from gradfec_common.quantisers import quantiser_of_id
from gradfec_common.reassembly import Reassembly, judge
from gradfec_common.wire import MAX_DATAGRAM_BYTES, SEAL_BYTES
from gradfec_common.wire.symbol import FIXED_BYTES

MOST_BYTES = MAX_DATAGRAM_BYTES - SEAL_BYTES
MOST_BATCHES = 8


def target(data: bytes) -> None:
    """Take in bodies of a true tensor, changed or not, and made up ones, in batches."""
    reader = Reader(data)
    number = reader.below(len(KINDS))
    bodies = content(number).bodies
    arrived: Reassembly | None = None
    true = True  # whether nothing but the tensor's own datagrams has come
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
                    body = reader.edited(body)[:MOST_BYTES].ljust(FIXED_BYTES + 1, b"\0")
            true &= kind < 2
            batch.append(body)
        for _, alike in groupby(sorted(batch, key=len), key=len):  # the core hands on those of one length together
            arrived = take_in(arrived, [*alike])
    if arrived is None:
        return
    decoded = check_decoded(arrived)
    if true:
        check_true(number, positions, decoded)


def take_in(arrived: Reassembly | None, batch: list[bytes]) -> Reassembly | None:
    """Judge and add bodies of one length, as the cloud does; check the books."""
    bodies = np.frombuffer(b"".join(batch), np.uint8).reshape(len(batch), -1)
    if arrived is None:
        drops, good = judge(bodies, GRID)
        assert good.sum() + sum(drops.values()) == len(batch), "not exactly one fate each"
        assert all(count > 0 for count in drops.values())
        if not good.any():
            return None
        bodies = bodies[good]
        arrived = Reassembly(bodies[0].tobytes(), GRID)
    before = arrived.received
    drops = arrived.add(bodies)
    assert arrived.received - before + sum(drops.values()) == len(bodies), "not exactly one fate each"
    check_books(arrived)
    return arrived


def check_books(arrived: Reassembly) -> None:
    """Check that what is written of a tensor agrees with itself."""
    heard = np.flatnonzero(arrived.base >= 0)
    assert len(heard)
    assert arrived.received == arrived.present.sum() == arrived.have.sum()
    rows = np.concatenate([np.arange(arrived.base[g], arrived.base[g] + arrived.n[g]) for g in heard])
    assert len(set(rows.tolist())) == len(rows) <= arrived.sent
    for group in heard.tolist():
        start, n = arrived.base[group], arrived.n[group]
        assert 0 < arrived.present[start : start + n].sum() == arrived.have[group] <= n
        table = arrived.stripe_table(group)
        assert table["k"].tolist() == arrived.k[group].tolist()
        assert table["length"].sum() == arrived.symbols.shape[1]
    assert 0 <= arrived.lost_bursts() <= arrived.sent - arrived.received
    assert not arrived.all_arrived or arrived.complete
    assert arrived.symbols.nbytes <= arrived.sent * MOST_BYTES


class Claim(NamedTuple):
    """A packet that a data symbol holds."""

    data: bytes
    recovered: bool
    protected: bool


def check_decoded(arrived: Reassembly) -> DecodedTensor:
    """Decode, and compare with what a plain reader finds, with codes that are only made to encode."""
    decoded = decode_tensor(arrived, ZERO)
    claims = claims_of(arrived)
    quantiser = quantiser_of_id(arrived.quantiser)
    assert quantiser is not None
    packets, found = GRID.split(decoded.tensor), decoded.found
    seen = dict(zip(found.places.tolist(), zip(found.recovered, found.protected, strict=True), strict=True))
    assert len(seen) == len(found.places)
    for place in range(GRID.count):
        possible = []
        for claim in claims[place]:
            one = Packets(np.array([place]), np.array([0, len(claim.data)]), np.frombuffer(claim.data, np.uint8))
            alone = quantiser.decode(one, arrived.parameters, GRID)
            if alone.there[place]:
                possible.append((GRID.split(alone.tensor)[place].tobytes(), claim.recovered, claim.protected))
        if place in seen:
            assert (packets[place].tobytes(), *seen[place]) in possible, "another packet than has arrived"
        else:
            assert not packets[place].any(), "a packet that nobody has sent"
            assert not possible or len(possible) < len(claims[place]), "a packet is left out"
    total = sum(map(len, claims.values()))
    assert decoded.conflicting == total - len(seen) if total <= GRID.count else 0 <= decoded.conflicting < total
    assert decoded.recovered == sum(recovered for recovered, _ in seen.values())
    assert decoded.missing == max(arrived.kept - len(seen), 0)
    return decoded


def claims_of(arrived: Reassembly) -> dict[int, list[Claim]]:
    """Return all packets in the data symbols at hand, by their places."""
    claims: dict[int, list[Claim]] = defaultdict(list)
    for group in np.flatnonzero(arrived.base >= 0).tolist():
        start, n = int(arrived.base[group]), int(arrived.n[group])
        indices = np.flatnonzero(arrived.present[start : start + n])
        column = 0
        for k, length, code_id in arrived.stripe_table(group).tolist():
            symbols = arrived.symbols[start + indices, column : column + length]
            column += length
            own, data = indices[indices < k], symbols[indices < k]
            if len(indices) >= k:
                code = CODES[code_id]
                data = code.decode(symbols, indices, k, n)
                encoded = np.concatenate([data, code.encode(data, n)])
                assert np.array_equal(encoded[indices[:k]], symbols[:k]), "what was decoded is not what was encoded"
            numbers = range(k) if len(indices) >= k else own.tolist()
            for index, symbol in zip(numbers, data, strict=True):
                for place, packet in packets_in(symbol.tobytes()):
                    claims[place].append(Claim(packet, index not in own, n > k))
    return claims


def check_true(number: int, positions: set[int], decoded: DecodedTensor) -> None:
    """Check what nobody has lied about: all that has come, or that parity gives back, is there, and right."""
    plan, bodies = KINDS[number][1], content(number).bodies
    mask = np.isin(np.arange(len(bodies)), [*positions])
    there, came = packets_at_hand(plan, mask), packets_arrived(plan, mask)
    whole = take_in(None, bodies)
    assert whole is not None and whole.complete
    packets, right = GRID.split(decoded.tensor), GRID.split(decode_tensor(whole, ZERO).tensor)
    assert np.array_equal(packets[there], right[there]), "a wrong packet"
    assert sorted(decoded.found.places.tolist()) == np.flatnonzero(there).tolist()
    assert (decoded.missing, decoded.conflicting) == (plan.kept - there.sum(), 0)
    assert decoded.recovered == (there & ~came).sum()
