"""Encoding: from coded packets and a plan to the bodies of datagrams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import CODES, Each, worth_threads
from gradfec_common.packets import Packets
from gradfec_common.protect.plan import GroupShape, Plan, Stripe
from gradfec_common.protect.policy import Room
from gradfec_common.quantisers import MAX_PARAMETER_BYTES, Coded, Quantiser
from gradfec_common.symbols import Packing, fill_symbols
from gradfec_common.wire import SEAL_BYTES, Bytes
from gradfec_common.wire.symbol import (
    COMMON_BYTES,
    FIXED_BYTES,
    FORM_BITS,
    FORM_BYTE,
    STRIPE,
    SYMBOL_HEADER,
    TENSOR_BYTES,
    body_room,
    form_byte,
    layout_of,
)

Indices = npt.NDArray[np.intp]

TOGETHER = 4  # stripes that are coded in one call: one call for each would cost a quarter of the time
KEPT = 16  # cached send orders, of 50 bytes a datagram each


def room_for(parameter_bytes: int = MAX_PARAMETER_BYTES, packets_a_symbol: int | None = None) -> Room:
    """Return the room in a datagram with `parameter_bytes` of a quantiser's parameters."""
    return Room(body_room(parameter_bytes), packets_a_symbol)


@dataclass(frozen=True)
class EncodedTensor:
    """A tensor ready to be sent: the plan, and the (sent, bytes) bodies in send order, which lack only its number.

    The plan's `unasked` first ones are sent, the others only if the cloud asks for them.
    """

    plan: Plan
    unnumbered: Bytes

    @property
    def datagram_bytes(self) -> int:
        """Bytes of UDP payload in each datagram, its seal included."""
        return self.unnumbered.shape[1] + SEAL_BYTES

    @property
    def wire_bytes(self) -> int:
        """Bytes of UDP payload in all datagrams that are sent unasked."""
        return self.plan.unasked * self.datagram_bytes

    def bodies(self, tensor: int, again: int = 0) -> Bytes:
        """Return the (sent, bytes) bodies under the tensor's number, to be sealed; valid until the next call.

        If it is its frame's second one, the first one has the number `tensor - again`.
        """
        self.unnumbered[:, TENSOR_BYTES] = np.frombuffer(tensor.to_bytes(4, "big"), np.uint8)
        self.unnumbered[:, FORM_BYTE] = form_byte(int(self.unnumbered[0, FORM_BYTE]) % (1 << FORM_BITS), again)
        return self.unnumbered


def encode_tensor(coded: Coded, quantiser: Quantiser, plan: Plan, each: Each = map, *, form: int = 0) -> EncodedTensor:
    """Pack and code a tensor's packets according to the plan; `each` maps over the codes' calls.

    `form` is the tensor's, by the edge's hello.
    """
    shapes = plan.shapes
    parameters = coded.parameters
    layout = layout_of(len(shapes[0].stripes), len(parameters))
    order = order_of(shapes)
    bodies = np.empty((plan.sent, layout.header + plan.symbol_bytes), np.uint8)
    bodies[:, : layout.table] = order.headers
    common = np.zeros(1, SYMBOL_HEADER)
    common["sent"], common["unasked"] = plan.sent, plan.unasked
    common["kept"], common["form"], common["groups"] = plan.kept, form, len(shapes)
    common["stripes"], common["quantiser"], common["parameters"] = len(shapes[0].stripes), quantiser.id, len(parameters)
    bodies[:, COMMON_BYTES] = common.view(np.uint8)[COMMON_BYTES]
    bodies[:, layout.table : layout.header] = np.frombuffer(parameters, np.uint8)
    _fill(bodies[:, layout.header :], coded.packets, plan, order, each)
    return EncodedTensor(plan, bodies)


def _fill(symbols: Bytes, packets: Packets, plan: Plan, order: SendOrder, each: Each) -> None:
    """Put the symbols of every stripe into (sent, bytes) `symbols`."""

    def code(call: Call) -> None:
        stripe, count = call.stripes[0], len(call.stripes)
        (k, length, _), n = stripe.shape, call.positions.shape[1]
        columns = slice(call.column, call.column + length)
        data = fill_symbols(packets, *_one_after_the_other(call.stripes))
        symbols[call.positions[:, :k].ravel(), columns] = data  # (count x k, length), stripe after stripe
        if n > k:
            beside = data.reshape(count, k, length).swapaxes(0, 1).reshape(k, -1)  # -> (k, count x length)
            parity = stripe.code.encode(beside, n)  # (n - k, count x length)
            symbols[call.positions[:, k:].T.ravel(), columns] = parity.reshape(
                -1, length
            )  # -> ((n - k) x count, length)

    calls = [*_calls(plan, order.positions)]
    work = [sum(stripe.k * (call.positions.shape[1] - stripe.k) for stripe in call.stripes) for call in calls]
    for _ in worth_threads(work, each)(code, calls):
        pass


def _one_after_the_other(stripes: Sequence[Stripe]) -> tuple[Indices, Packing]:
    """Return the packets of stripes of one shape, and their packing, as if they were one."""
    counts = np.concatenate([np.diff(stripe.packing.starts) for stripe in stripes])
    starts = np.concatenate([[0], np.cumsum(counts)])
    return np.concatenate([stripe.packets for stripe in stripes]), Packing(starts, stripes[0].packing.length)


class Call(NamedTuple):
    """Stripes of one shape that are coded in one call.

    `positions` (count, n) are where the symbols of each go in the send order, `column` where a symbol begins there.
    """

    stripes: list[Stripe]
    positions: Indices
    column: int


def _calls(plan: Plan, positions: Sequence[Indices]) -> Iterator[Call]:
    """Group stripes that can be coded side by side, because a code of one-byte words codes each byte by itself."""
    members = []
    for group, at in zip(plan.groups, positions, strict=True):
        column = 0
        for stripe in group.stripes:
            members.append((group.n, column, stripe, at))
            column += stripe.packing.length
    for (_, column, shape), alike in groupby(members, key=lambda member: (*member[:2], member[2].shape)):
        same = [*alike]
        together = TOGETHER if CODES[shape.code].word_bytes == 1 else 1
        for first in range(0, len(same), together):
            part = same[first : first + together]
            yield Call([stripe for _, _, stripe, _ in part], np.stack([at for *_, at in part]), column)


@dataclass(frozen=True)
class SendOrder:
    """What is the same in all tensors with groups of the same shapes: which datagram goes when.

    `positions`: for each group, the positions (n,) of its datagrams. `group` and `index` (sent,): what the datagram at
    each position is. `headers` (sent, bytes): the fixed part and the table, without what is the tensor's.
    """

    positions: tuple[Indices, ...]
    group: Indices
    index: Indices
    headers: Bytes


@lru_cache(KEPT)
def order_of(shapes: tuple[GroupShape, ...]) -> SendOrder:
    """Lay out tensors with groups of these shapes; cached, because an edge's frames are mostly alike."""
    ends = np.cumsum([shape.n for shape in shapes], dtype=np.intp)
    sent = int(ends[-1])
    position = np.empty(sent, np.intp)  # of the datagrams, numbered group after group
    position[send_order(shapes)] = np.arange(sent)
    positions = tuple(np.split(position, ends[:-1]))
    fixed = np.zeros(sent, SYMBOL_HEADER)
    tables = np.zeros((sent, len(shapes[0].stripes)), STRIPE)
    for number, (shape, at) in enumerate(zip(shapes, positions, strict=True)):
        fixed["group"][at], fixed["n"][at], fixed["index"][at] = number, shape.n, np.arange(shape.n)
        tables[at] = np.array([tuple(stripe) for stripe in shape.stripes], STRIPE)
    fixed["position"] = np.arange(sent)
    headers = np.hstack([fixed.view(np.uint8).reshape(sent, FIXED_BYTES), tables.view(np.uint8).reshape(sent, -1)])
    headers.flags.writeable = False
    return SendOrder(positions, fixed["group"].astype(np.intp), fixed["index"].astype(np.intp), headers)


def send_order(shapes: Sequence[GroupShape]) -> Indices:
    """Return the order (sent,) in which the groups' datagrams, numbered group after group, are sent.

    Neighbours on the wire come from different groups, so that a burst of losses hits many groups lightly; within a
    group, neighbours on the wire are far apart in the order of importance. Data goes before parity: if nothing is
    lost, a tensor is complete before its parity has been sent.
    """
    keys = []
    for number, shape in enumerate(shapes):
        n, k = shape.n, shape.most_k
        turn = np.arange(n)
        turn[np.arange(k) * _stride(k) % k] = np.arange(k)
        keys.append(np.stack([np.full(n, number), turn, np.arange(n) >= k]))  # (3, n): the last decides first
    order: Indices = np.lexsort(np.concatenate(keys, axis=1))  # (3, sent) -> (sent,)
    return order


def _stride(k: int) -> int:
    """Return a stride near k / golden ratio that visits all of 0 .. k-1: consecutive places end far apart."""
    stride = max(round(k * 0.618), 1)
    while np.gcd(stride, k) != 1:
        stride += 1
    return stride
