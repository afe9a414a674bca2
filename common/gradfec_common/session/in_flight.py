"""The edge's tensors in flight: what has been heard of each, and which answers are to be acknowledged."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradfec_common.heads import Answer
from gradfec_common.session.edge_events import Answered, Closed, EdgeLimits, Reported
from gradfec_common.session.states import AWAITED, AwaitedEvent, AwaitedState, after
from gradfec_common.transmit import EncodedTensor
from gradfec_common.wire import Ack, Bytes, Drop, Report, Result
from gradfec_common.wire.symbol import MAX_AGAIN


@dataclass
class Awaited:
    """A tensor that was sent: it ends with both answer and report, or at `closes_at`, by the edge's clock, in s."""

    closes_at: float
    unasked: int  # datagrams that the edge sends without a request
    reserve: Bytes  # (m, bytes) bodies of those that wait for a request
    state: AwaitedState = AwaitedState.UNANSWERED
    result: Result | None = None
    answer: Answer | None = None
    report: Report | None = None
    sent: int = 0  # datagrams that were sealed, in send order

    def may(self, event: AwaitedEvent) -> bool:
        """Return whether an event can happen now."""
        return event in AWAITED[self.state]

    def move(self, event: AwaitedEvent) -> None:
        """Change the state as the table says."""
        self.state = after(AWAITED, self.state, event)


class InFlight:
    """The tensors of one edge that are not closed yet, by number. Numbers go on from session to session."""

    def __init__(self, limits: EdgeLimits) -> None:
        self._limits = limits
        self._next_number = self._first_number = 0  # of the next tensor, and of the session's first
        self._last_closes_at = 0.0  # of the newest
        self._tensors: dict[int, Awaited] = {}
        self._results: list[int] = []  # to be acknowledged
        self._reports: list[int] = []

    def __len__(self) -> int:
        return len(self._tensors)

    def may_look_again(self, first_tensor: int) -> bool:
        """Return whether the next tensor can still say that it is the second one of the frame of `first_tensor`.

        It cannot in another session: the cloud knows that one's tensors under its own number.
        """
        return self._first_number <= first_tensor < self._next_number <= first_tensor + MAX_AGAIN

    @property
    def unanswered(self) -> int:
        """Tensors that still await their answer."""
        return sum(tensor.result is None for tensor in self._tensors.values())

    @property
    def closes_next_at(self) -> float:
        """When the next tensor is closed, whatever has been heard of it."""
        return min((tensor.closes_at for tensor in self._tensors.values()), default=math.inf)

    def open(self, encoded: EncodedTensor, sent_by: float, first_tensor: int | None = None) -> tuple[int, Bytes]:
        """Number a new tensor, whose last datagram leaves at `sent_by`; return the bodies that are to be sent.

        It may be the second one of the frame whose `first_tensor` has that number. An older one is not awaited for
        longer: the cloud may then take it as given up when a newer one is.
        """
        number, self._next_number = self._next_number, self._next_number + 1
        again = 0 if first_tensor is None else number - first_tensor
        bodies, unasked = encoded.bodies(number, again), encoded.plan.unasked
        reserve = bodies[unasked:].copy()
        self._last_closes_at = max(self._last_closes_at, sent_by + self._limits.answer_timeout_s)
        self._tensors[number] = Awaited(self._last_closes_at, unasked, reserve)
        return number, bodies[:unasked]

    def count_sealed(self, number: int, symbols: int) -> bool:
        """Count symbols of a tensor that are about to be sealed; return False if its answer is no longer awaited."""
        tensor = self._tensors.get(number)
        if tensor is not None:
            tensor.sent += symbols
        return tensor is not None

    def asked_for(self, number: int, until: int) -> Bytes | None:
        """Return the bodies (m, bytes) below position `until` that are in reserve, and count them; None if none are.

        While the edge still sends a tensor, a request for more of it is too early, and the cloud will repeat it.
        """
        tensor = self._tensors.get(number)
        if tensor is None or tensor.result is not None or not tensor.unasked <= tensor.sent < until:
            return None
        bodies = tensor.reserve[tensor.sent - tensor.unasked : until - tensor.unasked]
        tensor.sent += len(bodies)
        return bodies if len(bodies) else None

    def receive_result(self, result: Result, answer: Answer, now: float) -> tuple[Drop | None, list[Answered | Closed]]:
        """Acknowledge a result, and keep the first one; return why it is useless, if it is, and the news."""
        tensor = self._tensor_of(result.tensor, self._results, AwaitedEvent.RESULT)
        if isinstance(tensor, Drop):
            return tensor, []
        tensor.result, tensor.answer = result, answer
        tensor.closes_at = now + self._limits.report_timeout_s
        return None, [Answered(result.tensor, result, answer), *self._closed(result.tensor)]

    def receive_report(self, report: Report) -> tuple[Drop | None, list[Reported | Closed]]:
        """Acknowledge a report, and keep the first one; return why it is useless, if it is, and the news."""
        tensor = self._tensor_of(report.tensor, self._reports, AwaitedEvent.REPORT)
        if isinstance(tensor, Drop):
            return tensor, []
        tensor.report = report
        return None, [Reported(report), *self._closed(report.tensor)]

    def _tensor_of(self, number: int, acknowledged: list[int], event: AwaitedEvent) -> Awaited | Drop:
        """Acknowledge a message for a tensor and return the tensor, or why the message is useless."""
        if number >= self._next_number:
            return Drop.UNEXPECTED
        acknowledged.append(number)
        tensor = self._tensors.get(number)
        if tensor is None:
            return Drop.LATE
        if not tensor.may(event):
            return Drop.DUPLICATE
        tensor.move(event)
        return tensor

    def give_up_overdue(self, now: float, *, tell: bool) -> list[Closed]:
        """Close the tensors whose time is over, and `tell` the cloud that it need not work on them any more."""
        overdue = [number for number, tensor in self._tensors.items() if tensor.closes_at <= now]
        if tell:
            self._results += [number for number in overdue if self._tensors[number].result is None]
        return [self._give_up(number) for number in overdue]

    def begin_session(self) -> list[Closed]:
        """Close the tensors of the session before as they stand."""
        self._first_number = self._next_number
        return self.give_up_all()

    def give_up_all(self) -> list[Closed]:
        """Close all tensors as they stand."""
        return [self._give_up(number) for number in list(self._tensors)]

    def acknowledgements(self) -> list[Ack]:
        """Return the messages that acknowledge all results and reports since the last call."""
        results, self._results = self._results, []
        reports, self._reports = self._reports, []
        step = self._limits.numbers_per_ack
        starts = range(0, max(len(results), len(reports)), step)
        return [Ack(results[start : start + step], reports[start : start + step]) for start in starts]

    def _closed(self, number: int) -> list[Closed]:
        return [self._close(number)] if self._tensors[number].state is AwaitedState.CLOSED else []

    def _give_up(self, number: int) -> Closed:
        self._tensors[number].move(AwaitedEvent.GIVE_UP)
        return self._close(number)

    def _close(self, number: int) -> Closed:
        tensor = self._tensors.pop(number)
        return Closed(number, tensor.result, tensor.report, tensor.sent, tensor.answer)
