"""What the cloud keeps of one tensor, and of the tensors of one session."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from gradfec_common.heads import Answer
from gradfec_common.networks import Cut
from gradfec_common.reassembly import Reassembly
from gradfec_common.session.events import Finished
from gradfec_common.session.offer import Form
from gradfec_common.session.states import TENSOR, TensorEvent, TensorState, after
from gradfec_common.session.timers import NEVER
from gradfec_common.session.window import NumberWindow
from gradfec_common.wire import Report, Result

MOST_LOSS = 0.75  # that requests allow for


@dataclass
class Tensor:
    """A tensor from its first datagram until it is finished or dropped."""

    arrived: Reassembly
    cut: Cut
    first_at: float
    last_at: float  # when the newest of its datagrams came
    first_tensor: int | None = None  # the number of its frame's first tensor, if this is the second
    closes_at: float = math.inf  # when no more of its datagrams are expected
    timer: int = NEVER  # asks for more, or closes it
    asked: int = 0  # how often more of it was asked for
    state: TensorState = TensorState.COLLECTING
    result: Result | None = None
    answer: Answer | None = None  # which `result` says
    latency_s: float = 0.0  # from `first_at` to `result`
    report: Report | None = None

    def move(self, event: TensorEvent) -> None:
        """Change the state as the table says."""
        self.state = after(TENSOR, self.state, event)


@dataclass
class SessionTensors:
    """The tensors of one session that are neither finished nor dropped."""

    session: int
    edge: str
    forms: Mapping[int, Form]
    window: NumberWindow
    round_trip_s: float  # to the edge and back
    key: bytes  # its id
    spacing_s: float | None = None  # between two datagrams of a tensor, once it is known
    loss: float = 0.05  # share of the datagrams that were lost lately
    usual: tuple[int, int] | None = None  # of a tensor with a reserve: datagrams sent unasked, and enough to decode it
    tensors: dict[int, Tensor] = field(default_factory=dict)
    unheard: dict[int, int] = field(default_factory=dict)  # numbers of tensors to ask for, and the timers that do so
    pending: int = 0  # with the back-end

    @property
    def arriving(self) -> float:
        """The share of the datagrams that is expected to arrive, for how many to ask."""
        return 1 - min(self.loss, MOST_LOSS)

    @property
    def held_bytes(self) -> int:
        """Bytes of symbols that are held."""
        return sum(tensor.arrived.symbols.nbytes for tensor in self.tensors.values())

    @property
    def collecting(self) -> list[int]:
        """The numbers of those that are being collected."""
        return [number for number, tensor in self.tensors.items() if tensor.state is TensorState.COLLECTING]

    def is_unanswered(self, number: int) -> bool:
        """Return whether there is such a tensor, and it has no answer yet."""
        tensor = self.tensors.get(number)
        return tensor is not None and tensor.state is not TensorState.ANSWERED

    def record(self, number: int) -> Finished:
        """Return the event for a finished tensor."""
        tensor = self.tensors[number]
        result, answer, report = tensor.result, tensor.answer, tensor.report
        assert result is not None and answer is not None and report is not None, "FINISHED has all"  # noqa: S101
        packets, datagrams = packet_counts(tensor.arrived, result), datagram_counts(tensor.arrived, report)
        return Finished(
            self.edge,
            self.session,
            number,
            packets,
            datagrams,
            result,
            answer,
            latency_s=tensor.latency_s,
            bursts=report.bursts,
            received_bytes=report.received * tensor.arrived.datagram_bytes,
            answered_at=tensor.first_at + tensor.latency_s,
            first_tensor=tensor.first_tensor,
        )


def report_on(number: int, tensor: Tensor, now: float) -> Report:
    """Return the report on a tensor's datagrams."""
    arrived, first_at, last_at = tensor.arrived, tensor.first_at, tensor.last_at
    return Report(
        number,
        arrived.due,
        arrived.received,
        arrived.lost_bursts(),
        arrived.map(),
        round(1e6 * first_at),
        round(1e6 * (last_at - first_at)),
        round(1e6 * (now - last_at)),
    )


def packet_counts(arrived: Reassembly, result: Result) -> dict[str, int]:
    """Return a tensor's counts of packets under the names of the results files."""
    return {
        "total": arrived.grid.count,
        "dropped_by_plan": arrived.grid.count - arrived.kept,
        "recovered": result.recovered,
        "missing": result.missing,
    }


def datagram_counts(arrived: Reassembly, report: Report) -> dict[str, int]:
    """Return a tensor's counts of datagrams under the names of the results files."""
    return {
        "sent": arrived.due,
        "parity": arrived.parity,
        "received": report.received,
        "lost": max(arrived.due - report.received, 0),
    }
