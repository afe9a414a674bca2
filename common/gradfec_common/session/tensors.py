"""The tensors at the cloud: opened by their first datagram, collected, decided, answered, closed.

`states` says what a tensor can be, and what it becomes when; here is what makes it happen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from gradfec_common.heads import Answer
from gradfec_common.reassembly import Reassembly, judge
from gradfec_common.session.effects import Bite, Deliver, Effect, Say
from gradfec_common.session.events import CloudLimits, Decided, GivenUp
from gradfec_common.session.offer import Form
from gradfec_common.session.sessions import Session
from gradfec_common.session.states import TensorEvent, TensorState
from gradfec_common.session.tensor import SessionTensors, Tensor, report_on
from gradfec_common.session.timers import NEVER, Timers
from gradfec_common.session.window import NumberWindow
from gradfec_common.wire import Bytes, Drop, Report, Request, Result, message_body
from gradfec_common.wire.symbol import MAX_SYMBOLS, form_and_again, read_headers

Floats = npt.NDArray[np.float64]

LONGER = 0.1  # a longer round trip's weight in what is expected
ROUND_TRIPS = 1.25  # for which the answer to a request is awaited
LOSS_MEMORY = 0.2  # the newest tensor's weight in a session's loss


class Tensors:
    """The tensors of all sessions that an edge uses."""

    def __init__(self, limits: CloudLimits, deadline_s: float) -> None:
        """Decide each tensor at the latest `deadline_s` after its first datagram."""
        self.fates: Counter[str] = Counter()  # opened = the sum of the others + those still open
        self._limits, self._deadline_s = limits, deadline_s
        self._sessions: dict[int, SessionTensors] = {}
        self._pending = 0  # with the back-end; also those of sessions that have ended
        self._timers: Timers[tuple[int, int]] = Timers()  # close a tensor: of a session, of a number

    @property
    def open(self) -> int:
        """Tensors that are not finished yet."""
        return sum(len(mine.tensors) for mine in self._sessions.values())

    @property
    def held_bytes(self) -> int:
        """Bytes of symbols held for tensors that are being collected."""
        return sum(mine.held_bytes for mine in self._sessions.values())

    @property
    def next_timer(self) -> float | None:
        """When the next tensor is closed, or None."""
        return self._timers.next_at

    def handle_timer(self, now: float) -> list[Effect]:
        """Ask for more of the tensor that is due next, or close it."""
        session, number = self._timers.pop()
        mine = self._sessions[session]
        if mine.unheard.pop(number, None) is not None:
            return self._ask_unheard(mine, number)
        return self._ask(mine, number, now) or self._close(mine, number, now)

    # --- sessions ---

    def begin(self, session: Session, round_trip_s: float) -> None:
        """Give a session its share: its edge uses it, and has answered its welcome after `round_trip_s`."""
        window = NumberWindow(self._limits.tensor_window)
        about = session.id, session.edge, session.forms
        self._sessions[session.id] = SessionTensors(*about, window, round_trip_s, session.key.id)

    def end(self, session: int) -> list[Effect]:
        """Let go of a session and its tensors; what was answered stays recorded."""
        effects: list[Effect] = []
        mine = self._sessions[session]
        for number, tensor in list(mine.tensors.items()):
            if tensor.state is TensorState.ANSWERED:
                self._report(mine, number, tensor, tensor.last_at)  # for the record: it is not sent
                effects += self._finish_if_done(mine, number)
            else:
                self._drop(mine, number, TensorEvent.ABANDON)
        for timer in mine.unheard.values():
            self._timers.call_off(timer)
        del self._sessions[session]
        return effects

    # --- datagrams ---

    def collect(
        self, session: int, number: int, bodies: Bytes, came_at: Floats, now: float, *, leaving: bool
    ) -> tuple[dict[str, int], list[Effect]]:
        """Take in (m, bytes) bodies of one tensor, at least one; return their fates, and effects.

        Each came at one of the moments `came_at` (m,), which are before `now` if we were busy: that they waited here
        must not look as if they had waited on the link. `leaving`: open no tensor.
        """
        mine, effects = self._sessions[session], list[Effect]()
        fates: dict[str, int] = {}
        tensor: Tensor | Drop | None = mine.tensors.get(number)
        is_new = tensor is None
        if tensor is None:
            (form, first_tensor), drops, good = _of_one_form(number, bodies, mine.forms)
            bodies, came_at = bodies[good], came_at[good]
            fates = {reason.value: count for reason, count in drops.items()}
            if form is None:
                return fates, effects
            first_at = float(came_at.min())
            body = bodies[0].tobytes()
            tensor, effects = self._open(mine, number, form, first_tensor, body, first_at, now, leaving=leaving)
        if isinstance(tensor, Drop):
            fates[tensor.value] = len(bodies)
        elif tensor.state is TensorState.CLOSED:
            fates[Drop.LATE.value] = len(bodies)
        else:
            more, then = self._add(mine, number, tensor, bodies, float(came_at.max()), now, judged=is_new)
            fates = {fate: fates.get(fate, 0) + more.get(fate, 0) for fate in {**fates, **more}}
            effects += then
        return fates, effects

    def _add(
        self,
        mine: SessionTensors,
        number: int,
        tensor: Tensor,
        bodies: Bytes,
        last_at: float,
        now: float,
        *,
        judged: bool,
    ) -> tuple[dict[str, int], list[Effect]]:
        """Add bodies to an open tensor, which may be `judged` already; return their fates, and effects."""
        arrived, collecting, effects = tensor.arrived, tensor.state is TensorState.COLLECTING, list[Effect]()
        before, reached = arrived.received, arrived.reached
        drops = arrived.add(bodies, judged=judged)
        fates = {reason.value: count for reason, count in drops.items()}
        fates["collected" if collecting else "surplus"] = arrived.received - before
        if arrived.received > before:
            tensor.last_at = max(tensor.last_at, last_at)
            if arrived.unasked < arrived.sent:
                self._measure(mine, tensor)
            if tensor.asked and reached < arrived.reached:  # the edge was still sending: we have asked too early
                arrived.expect(arrived.unasked)
        if collecting and arrived.complete:
            effects += self._decide(mine, number, now)
        if arrived.all_arrived:
            effects += self._close(mine, number, now)
        elif arrived.arrived[arrived.due - 1]:  # the last in send order: datagrams still missing are late, or lost
            self._settle(mine, number, now)
        elif tensor.state is TensorState.COLLECTING and arrived.sent > arrived.due:
            self._await_end(mine, number, now)
        return fates, effects

    # --- asking for more ---

    def _ask(self, mine: SessionTensors, number: int, now: float) -> list[Effect]:
        """Ask for as many more datagrams as a tensor needs, losses included, if they can come in time.

        If it was asked for too often, close it. Do nothing, and return nothing, if there is no reserve, or no time.
        """
        tensor, limits = mine.tensors[number], self._limits
        arrived, last_moment = tensor.arrived, tensor.first_at + self._deadline_s
        in_time = now + mine.round_trip_s + limits.reorder_s <= last_moment
        if tensor.state is not TensorState.COLLECTING or arrived.due == arrived.sent or not in_time:
            return []
        if tensor.asked >= limits.request_rounds:
            return [Bite("request_rounds"), *self._close(mine, number, now)]
        arrived.expect(min(arrived.due + math.ceil(arrived.wanting / mine.arriving), arrived.sent))
        tensor.asked += 1
        answered_at = now + ROUND_TRIPS * mine.round_trip_s + limits.reorder_s
        self._close_at(mine, number, min(answered_at, last_moment), later=True)
        return [Say(mine.session, message_body(Request(number, arrived.due)))]

    def learn_round_trip(self, session: int, round_trip_s: float) -> None:
        """Learn from a round trip: a shorter one counts at once, a longer one may have waited somewhere."""
        mine = self._sessions[session]
        longer = round_trip_s > mine.round_trip_s
        mine.round_trip_s += (round_trip_s - mine.round_trip_s) * (LONGER if longer else 1.0)

    def _expect_older(self, mine: SessionTensors, newest: int, number: int, now: float) -> None:
        """Note of which tensors between the two newest ones nothing has arrived: they come late, or are asked for."""
        if mine.usual is not None and newest >= 0:
            most = self._limits.unheard_tensors - len(mine.unheard)
            for unheard in range(max(newest + 1, number - most), number):
                mine.unheard[unheard] = self._timers.add(now + self._limits.reorder_s, (mine.session, unheard))

    def _ask_unheard(self, mine: SessionTensors, number: int) -> list[Effect]:
        """Ask for the reserve of a tensor of which nothing has arrived, as if it were like the others."""
        if mine.usual is None or mine.window.refusal(number) is not None or mine.round_trip_s > self._deadline_s:
            return []
        unasked, enough = mine.usual
        until = min(unasked + math.ceil(enough / mine.arriving), MAX_SYMBOLS)
        return [Say(mine.session, message_body(Request(number, until)))]

    def _await_end(self, mine: SessionTensors, number: int, now: float) -> None:
        """Expect the last datagram of a tensor when the pace of the others says, so that its loss is noticed."""
        tensor = mine.tensors[number]
        if tensor.arrived.due > tensor.arrived.unasked or mine.spacing_s is None:
            return
        left = tensor.arrived.unasked - tensor.arrived.reached
        end = now + left * mine.spacing_s + self._limits.reorder_s
        self._close_at(mine, number, min(end, tensor.first_at + self._deadline_s), later=True)

    @staticmethod
    def _measure(mine: SessionTensors, tensor: Tensor) -> None:
        """Learn from a datagram how far apart an edge's datagrams are, and how many of them a tensor has."""
        arrived = tensor.arrived
        mine.usual = arrived.unasked, int(arrived.k.max())
        positions = np.flatnonzero(arrived.arrived)
        if not tensor.asked and len(positions) > 1:
            mine.spacing_s = (tensor.last_at - tensor.first_at) / int(positions[-1] - positions[0])

    # --- opening ---

    def _open(
        self,
        mine: SessionTensors,
        number: int,
        form: Form,
        first_tensor: int | None,
        body: bytes,
        first_at: float,
        now: float,
        *,
        leaving: bool,
    ) -> tuple[Tensor | Drop, list[Effect]]:
        """Begin to collect the tensor of a body, if its number is acceptable and no limit is hit."""
        if (reason := mine.window.refusal(number)) is not None:
            return reason, []
        if leaving:
            return Drop.LEAVING, []
        has_memory, effects = self._make_room(mine, Reassembly.bytes_for(body), now)
        if not has_memory:
            return Drop.MEMORY_LIMIT, effects
        has_place, more = self._make_place(mine, number, now)
        effects += more
        if not has_place:
            return Drop.TENSOR_LIMIT, effects
        self._timers.call_off(mine.unheard.pop(number, NEVER))
        tensor = mine.tensors[number] = Tensor(Reassembly(body, form.grid), form.cut, first_at, first_at, first_tensor)
        self.fates["opened"] += 1
        self._close_at(mine, number, first_at + self._deadline_s)
        newest = mine.window.newest
        if mine.window.begin(number):
            self._expect_older(mine, newest, number, now)
            for older in list(mine.tensors):
                # The edge now sends a newer one: datagrams still missing are late, or lost, unless they were asked for.
                if older < number and not mine.tensors[older].asked:
                    self._settle(mine, older, now)
        else:
            self._settle(mine, number, now)
        return tensor, effects

    def _make_room(self, mine: SessionTensors, more: int, now: float) -> tuple[bool, list[Effect]]:
        """Return whether a session may hold `more` bytes.

        Each session may hold an equal share. The shares shrink when an edge comes, so others may then hold more than
        theirs. As many of their oldest tensors as necessary are decided with what has arrived.
        """
        total = self._limits.reassembly_bytes
        share = total // len(self._sessions)
        if mine.held_bytes + more > share:
            return False, [Bite("reassembly_bytes")]
        effects: list[Effect] = []
        if self.held_bytes + more > total:
            effects.append(Bite("reassembly_bytes"))
            for other in self._sessions.values():
                while other.held_bytes > share and self.held_bytes + more > total:
                    effects += self._close(other, min(other.collecting), now)
        return True, effects

    def _make_place(self, mine: SessionTensors, number: int, now: float) -> tuple[bool, list[Effect]]:
        """Return whether one more tensor may be collected; if there are too many, the oldest is decided."""
        collecting = mine.collecting
        crowded = len(collecting) >= self._limits.tensors_per_session
        if len(mine.tensors) >= self._limits.tensors_per_session + self._limits.pending_tensors or (
            crowded and number < min(collecting)  # a late one does not push out one that is being sent
        ):
            return False, [Bite("tensors_per_session")]
        if not crowded:
            return True, []
        return True, [Bite("tensors_per_session"), *self._close(mine, min(collecting), now)]

    # --- deciding and answering ---

    def _decide(self, mine: SessionTensors, number: int, now: float) -> list[Effect]:
        """Ask for a tensor's answer with what has arrived of it, if the back-end does not owe the session too many."""
        tensor, sessions = mine.tensors[number], len(self._sessions)
        limit = max(self._limits.pending_tensors, sessions)
        if mine.pending >= limit // sessions or self._pending >= limit:
            self._drop(mine, number, TensorEvent.OVERLOAD)
            return [Bite("pending_tensors")]
        tensor.move(TensorEvent.DECIDE)
        mine.pending += 1
        self._pending += 1
        arrived = tensor.arrived
        waited_s = now - tensor.first_at
        whole, complete = arrived.handed_over(), arrived.complete
        return [Decided(mine.session, number, whole, complete, waited_s, tensor.cut, mine.key)]

    def answer(self, decided: Decided, result: Result, answer: Answer, now: float) -> list[Effect]:
        """Take back the answer for a decided tensor, which `result` says; drop it if its edge no longer awaits it."""
        mine = self._take_back(decided)
        if mine is None:
            return []
        tensor = mine.tensors[decided.tensor]
        tensor.move(TensorEvent.ANSWER)
        tensor.result, tensor.answer, tensor.latency_s = result, answer, now - tensor.first_at
        return [Deliver(mine.session, result, now), *self._finish_if_done(mine, decided.tensor)]

    def fail(self, decided: Decided) -> None:
        """Note that a decided tensor will have no answer."""
        mine = self._take_back(decided)
        if mine is not None:
            self._drop(mine, decided.tensor, TensorEvent.FAIL)

    def _take_back(self, decided: Decided) -> SessionTensors | None:
        """Note that the back-end is done with a tensor; return its session's tensors, None if it is not wanted now."""
        self._pending -= 1
        mine = self._sessions.get(decided.session)
        if mine is not None:
            mine.pending -= 1
        return mine if mine is not None and decided.tensor in mine.tensors else None

    # --- closing and finishing ---

    def _settle(self, mine: SessionTensors, number: int, now: float) -> None:
        """From now on, wait for a tensor's datagrams only for the time by which they may be reordered."""
        self._close_at(mine, number, now + self._limits.reorder_s)

    def _close_at(self, mine: SessionTensors, number: int, when: float, *, later: bool = False) -> None:
        """Close a tensor, or ask for more of it, at `when`; unless `later`, only if nothing does so before."""
        tensor = mine.tensors.get(number)
        if tensor is not None and (later or when < tensor.closes_at):
            tensor.closes_at = when
            self._timers.call_off(tensor.timer)
            tensor.timer = self._timers.add(when, (mine.session, number))

    def _close(self, mine: SessionTensors, number: int, now: float) -> list[Effect]:
        """Expect nothing more of a tensor: decide it if that is still to be done, and report its losses."""
        tensor = mine.tensors.get(number)
        if tensor is None or tensor.state is TensorState.CLOSED:
            return []
        effects = self._decide(mine, number, now) if tensor.state is TensorState.COLLECTING else []
        if tensor.state is TensorState.DROPPED:
            return effects
        report = self._report(mine, number, tensor, now)
        return [*effects, Deliver(mine.session, report, now), *self._finish_if_done(mine, number)]

    def _report(self, mine: SessionTensors, number: int, tensor: Tensor, now: float) -> Report:
        tensor.move(TensorEvent.CLOSE)
        tensor.report = report = report_on(number, tensor, now)
        mine.loss += LOSS_MEMORY * (1 - min(report.received / report.sent, 1.0) - mine.loss)
        self._timers.call_off(tensor.timer)
        return report

    def give_up(self, session: int, numbers: Iterable[int]) -> list[Effect]:
        """Drop those of a session's tensors that have no answer yet; the edge no longer awaits one.

        It gives up on tensors in their order, so it awaits no answer to older ones either, though that was not heard.
        """
        effects: list[Effect] = []
        mine = self._sessions[session]
        newest = max((number for number in numbers if mine.is_unanswered(number)), default=-1)
        for number in sorted(number for number in mine.tensors if number <= newest):
            if not mine.is_unanswered(number):
                continue
            if mine.tensors[number].state is not TensorState.COLLECTING:
                effects.append(GivenUp(session, number))
            self._drop(mine, number, TensorEvent.ABANDON)
        return effects

    def _finish_if_done(self, mine: SessionTensors, number: int) -> list[Effect]:
        tensor = mine.tensors[number]
        if tensor.state is not TensorState.FINISHED or tensor.result is None:
            return []
        record = mine.record(number)
        self._forget(mine, number, tensor.result.outcome)
        return [record]

    def _drop(self, mine: SessionTensors, number: int, event: TensorEvent) -> None:
        mine.tensors[number].move(event)
        self._forget(mine, number, event.value)

    def _forget(self, mine: SessionTensors, number: int, fate: str) -> None:
        self._timers.call_off(mine.tensors.pop(number).timer)
        self.fates[fate] += 1
        mine.window.finish(number)


def _of_one_form(
    tensor: int, bodies: Bytes, forms: Mapping[int, Form]
) -> tuple[tuple[Form | None, int | None], Counter[Drop], npt.NDArray[np.bool_]]:
    """Return the form of a tensor's first bodies (m, bytes), why some are refused, and which (m,) are good.

    The first one of a form that the session has decides. There is no form if no body is good. With the form comes the
    number of the frame's first tensor, if this is the second.
    """
    numbers, again = form_and_again(read_headers(bodies))
    known = np.isin(numbers, [*forms]) & (again <= tensor)
    drops = Counter({Drop.BAD_PARAMETERS: int((~known).sum())})
    if not known.any():
        return (None, None), drops, known
    number, back = int(numbers[known][0]), int(again[known][0])
    good = (numbers == number) & (again == back)
    drops[Drop.CONFLICT] = int((known & ~good).sum())
    refused, judged = judge(bodies[good], forms[number].grid)
    good[good] = judged
    form = forms[number] if good.any() else None
    return (form, tensor - back if back else None), +(drops + refused), good
