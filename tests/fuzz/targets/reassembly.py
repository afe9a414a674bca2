"""Collecting, datagram by datagram: each has its fate by docs/reference/protocol.md, sections 7.2 and 7.5."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from tests.fuzz.reader import Reader
from tests.fuzz.symbols_of import with_field
from tests.fuzz.targets.symbols import check_books, check_decoded
from tests.fuzz.world import DEFLATE, GRID, KINDS, content

from gradfec_common.codes import CODES
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.reassembly import Reassembly, judge
from gradfec_common.wire import MAX_DATAGRAM_BYTES, SEAL_BYTES, Drop

MOST_STEPS = 60
MOST_BYTES = MAX_DATAGRAM_BYTES - SEAL_BYTES
LIMITS = {0: (65_535, 1), 1: (256, 1), 2: (32_768, 2)}  # of codes: the most n, and what a length is a multiple of


def target(data: bytes) -> None:
    """Take in bodies one by one: of true tensors, with changed fields, and of any bytes."""
    reader = Reader(data)
    model = Model()
    arrived: Reassembly | None = None
    for _ in range(MOST_STEPS):
        if not reader.more:
            break
        bodies = content(reader.below(len(KINDS)) if reader.below(4) == 1 else 0).bodies
        body = bodies[reader.below(len(bodies))]
        for _ in range(reader.below(3)):
            body = with_field(body, reader)
        if reader.below(8) == 1:
            body = reader.edited(body)[:MOST_BYTES].ljust(22, b"\0")
        fate, expected = "", model.fate(body)
        matrix = np.frombuffer(body, np.uint8)[np.newaxis]
        if arrived is None:
            drops, good = judge(matrix, GRID)
            if good[0]:
                arrived = Reassembly(body, GRID)
                drops = arrived.add(matrix)
        else:
            drops = arrived.add(matrix)
        (fate,) = [reason.value for reason in drops] or [""]
        assert fate == expected, f"{fate or 'taken'} instead of {expected or 'taken'}"
        if arrived is not None:
            check_books(arrived)
            assert arrived.received == len(model.positions)
            assert arrived.complete == model.complete
    if arrived is not None:
        check_decoded(arrived)


@dataclass
class Group:
    """What is known of a group."""

    n: int
    table: bytes
    ks: list[int]
    indices: set[int] = field(default_factory=set)


@dataclass
class Model:
    """What is known of a tensor, by the letter of the protocol."""

    common: bytes = b""  # bytes 8 to 18 and the parameters
    length: int = 0
    positions: set[int] = field(default_factory=set)
    groups: dict[int, Group] = field(default_factory=dict)
    sent: int = 0
    count: int = 0  # of groups

    @property
    def complete(self) -> bool:
        """Whether all stripes of all groups can be decoded."""
        of_all = len(self.groups) == self.count
        return of_all and all(len(group.indices) >= max(group.ks) for group in self.groups.values())

    def fate(self, body: bytes) -> str:
        """Say why a body is refused, or nothing where it is taken, which is then noted."""

        def u16(at: int) -> int:
            return int.from_bytes(body[at : at + 2], "big")

        position, index, sent, unasked, kept, n = (u16(at) for at in (4, 6, 8, 10, 12, 20))
        groups, stripes, quantiser_id, parameter_bytes, number = body[15:20]
        table_end = 22 + 5 * stripes
        start = table_end + parameter_bytes
        if not 1 <= stripes <= 32 or parameter_bytes > 64 or len(body) <= start:
            return Drop.BAD_LENGTH.value
        quantiser = {one.id: one for one in (*QUANTISERS.values(), DEFLATE)}.get(quantiser_id)
        if quantiser is None:
            return Drop.UNKNOWN_QUANTISER.value
        table = [(u16(at), u16(at + 2), body[at + 4]) for at in range(22, table_end, 5)]
        if any(code not in CODES for _, _, code in table):
            return Drop.UNKNOWN_CODE.value
        parameters = body[table_end:start]
        true = (
            1 <= groups * stripes <= 255
            and number < groups
            and 1 <= kept <= GRID.count
            and 1 <= unasked <= sent <= 4 * GRID.count
            and (unasked == sent or groups == 1)
            and (n == sent if groups == 1 else n + groups - 1 <= sent)
            and all(1 <= k <= n and length >= 1 for k, length, _ in table)
            and all(n <= LIMITS[code][0] and length % LIMITS[code][1] == 0 for _, length, code in table)
            and all(code != 0 or n == k for k, _, code in table)
            and sum(length for _, length, _ in table) == len(body) - start
            and quantiser.are_valid(parameters)
            and index < n
            and position < sent
        )
        if not true:
            return Drop.BAD_PARAMETERS.value
        if not self.common:
            self.common, self.length = body[8:19] + parameters, len(body)
            self.sent, self.count = sent, groups
        if body[8:19] + parameters != self.common or len(body) != self.length:
            return Drop.CONFLICT.value
        group = self.groups.get(number)
        if group is None:
            total = n + sum(other.n for other in self.groups.values())
            unheard = groups - len(self.groups) - 1
            if position in self.positions or total + unheard > sent or (not unheard and total != sent):
                return Drop.CONFLICT.value
            group = self.groups[number] = Group(n, body[22:table_end], [k for k, _, _ in table])
        if (n, body[22:table_end]) != (group.n, group.table):
            return Drop.CONFLICT.value
        if (index in group.indices) != (position in self.positions):
            return Drop.CONFLICT.value
        if index in group.indices:
            return Drop.DUPLICATE.value
        group.indices.add(index)
        self.positions.add(position)
        return ""
