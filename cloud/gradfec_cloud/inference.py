"""Inference: decided tensors in, answers out.

    submit -> fair queue -> batch of one model and cut -> lease to the workers: decode, network -> head -> deliver

One thread takes batches and starts the workers on them. With local workers it also does their work. It takes a batch
only when the workers have room for it, so that until then tensors can be given up at no cost.

Each tensor that is submitted has one fate: it is delivered with its answer or with an error, or it is returned by
`give_up` or `forget`. A whole picture, which needs no decoding, takes its turn among the sessions' tensors.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gradfec_cloud.turns import Turns
from gradfec_cloud.workers.leases import Ending, Leases
from gradfec_cloud.workers.pool import Batch, Crew, GiveBack, Outputs, Workers, back_end_name
from gradfec_common.decode import Found
from gradfec_common.heads import Answer
from gradfec_common.networks import Cut
from gradfec_common.session.events import Decided
from gradfec_common.wire import MAX_ANSWER_BYTES, is_answer

MAX_BATCH = 8
LEASE_S = 30.0  # longer than a network takes on any machine, and longer than an edge waits
WHOLE_PICTURES = -1  # their place among the sessions: they wait for each other, and not the edges for them
CLOSE_S = 10.0  # how long what is at work may take at the end


@dataclass
class Inferred:
    """What became of a decided tensor. Filled in step by step, and complete when it is delivered."""

    decided: Decided
    answer: Answer | None = None
    recovered: int = 0
    missing: int = 0
    stages_ms: dict[str, float] = field(default_factory=dict)
    found: Found | None = None  # None if it was not decoded
    error: Exception | None = None  # the reason, if there is no answer
    submitted_at: float = field(default_factory=time.perf_counter)

    @property
    def cut(self) -> Cut:
        """Where the network goes on."""
        return self.decided.cut


@dataclass
class Whole:
    """What became of a network's input that was asked for by `ask`, complete when it is done."""

    cut: Cut
    features: NDArray[np.float32]  # (H, W, C)
    answer: Answer | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    error: Exception | None = None  # the reason, if there is no answer
    submitted_at: float = field(default_factory=time.perf_counter)
    done: Future[Whole] = field(default_factory=Future)


Job = Inferred | Whole


@dataclass(frozen=True)
class _Leased:
    """A batch that the workers have."""

    batch: list[Job]
    at: float


class Inference:
    """Lets workers decode tensors and run the network on them."""

    def __init__(
        self,
        open_workers: Callable[[GiveBack, Callable[[], None]], Workers],
        answer: Callable[[Cut, NDArray[np.float32]], Answer],
        deliver: Callable[[list[Inferred]], None],
        *,
        max_batch: int = MAX_BATCH,
        lease_s: float = LEASE_S,
    ) -> None:
        """Open the workers, which may take seconds. `answer` and `deliver` are called on any thread.

        `answer` turns the network's output for one tensor into an answer; any exception means that there is none.
        """
        self._answer_of, self._deliver = answer, deliver
        self._max_batch, self._lease_s = max_batch, lease_s
        self._waiting: Turns[Job] = Turns()
        self._leases: Leases[_Leased] = Leases(lease_s, self._on_given_up)
        self._fills: Counter[str] = Counter()
        self._counting = threading.Lock()  # of `_fills`
        self._workers = open_workers(self._on_given_back, self._leases.look_again)
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()

    @property
    def leases(self) -> dict[str, int]:
        """Leases by what became of them, and those that are open."""
        return self._leases.counts

    @property
    def fills_given_up(self) -> dict[str, int]:
        """Tensors whose concealment was given up, by the reason."""
        with self._counting:
            return dict(self._fills)

    @property
    def crew(self) -> Crew:
        """How many workers there are, and what it took to keep them."""
        return self._workers.crew

    @property
    def why_not_ready(self) -> str:
        """Why no tensor can be answered now, or nothing."""
        return "" if self._workers.room else "no worker is there"

    def submit(self, decided: Decided) -> None:
        """Queue a tensor. The protocol core limits how many wait."""
        self._waiting.put(decided.session, Inferred(decided), back_end_name(decided.cut), decided.key or None)

    def ask(self, cut: Cut, features: NDArray[np.float32]) -> Future[Whole]:
        """Queue a network's input (H, W, C) at the cut that it is. The caller limits how many wait."""
        whole = Whole(cut, features)
        self._waiting.put(WHOLE_PICTURES, whole, back_end_name(cut))
        return whole.done

    def forget(self, session: int) -> list[Decided]:
        """Remove and return the waiting tensors of a session that has ended."""
        return [one.decided for one in self._waiting.forget(session) if isinstance(one, Inferred)]

    def give_up(self, session: int, tensor: int) -> list[Decided]:
        """Remove and return a tensor that is not wanted any more, if it still waits."""
        given_up = self._waiting.give_up(
            session, lambda one: isinstance(one, Inferred) and one.decided.tensor == tensor
        )
        return [one.decided for one in given_up if isinstance(one, Inferred)]

    def close(self) -> None:
        """Work on queued tensors for a while, and then stop."""
        end = time.monotonic() + CLOSE_S
        self._waiting.close()
        self._thread.join(CLOSE_S)
        self._leases.close(end - time.monotonic())
        self._workers.close()

    # --- on the thread that takes batches ---

    def _work(self) -> None:
        while True:
            self._leases.wait_for_room(lambda: self._workers.room)
            batch = self._waiting.take(self._max_batch)
            if not batch:
                return
            self._lease(batch)

    def _lease(self, batch: list[Job]) -> None:
        """Let the workers work on a batch."""
        now = time.perf_counter()
        for one in batch:
            collect = {"collect": 1000 * one.decided.waited_s} if isinstance(one, Inferred) else {}
            one.stages_ms = {**collect, "queue": 1000 * (now - one.submitted_at)}
        tensors = [one.decided.arrived if isinstance(one, Inferred) else one.features for one in batch]
        queued_s = now - min(one.submitted_at for one in batch)
        try:
            number = self._leases.begin(_Leased(batch, now))
        except RuntimeError as error:
            self._fail(batch, error)
            return
        try:
            self._workers.start(Batch(number, back_end_name(batch[0].cut), tensors, self._lease_s, queued_s))
        except Exception as error:
            self._on_given_back(number, error)

    # --- on any thread ---

    def _on_given_back(self, number: int, outputs: Outputs | Exception) -> None:
        ending = Ending.FAILED if isinstance(outputs, Exception) else Ending.RETURNED
        leased = self._leases.end(number, ending)
        if leased is None:
            return
        if isinstance(outputs, Exception):
            self._fail(leased.batch, outputs)
        else:
            self._answer(leased, outputs)

    def _on_given_up(self, number: int, leased: _Leased) -> None:
        self._fail(leased.batch, TimeoutError(f"the workers have not answered within {self._lease_s:g} s"))
        with contextlib.suppress(Exception):  # a pool that is out of order must not keep the other leases
            self._workers.give_up(number)

    def _answer(self, leased: _Leased, outputs: Outputs) -> None:
        lease_ms = 1000 * (time.perf_counter() - leased.at)
        try:
            pairs = [*zip(leased.batch, outputs, strict=True)]
        except Exception as error:  # too few rows, or none at all
            self._fail(leased.batch, error)
            return
        back_end_ms = lease_ms - sum(done.decode_ms or 0.0 for done in outputs)
        for one, done in pairs:
            one.error = done.error
            decode = {}
            if isinstance(one, Inferred) and done.decode_ms is not None:
                one.recovered, one.missing, one.found = done.recovered, done.missing, done.found
                decode = {"decode": done.decode_ms}
            if done.output is not None:
                self._note_answer(one, done.output)
            stages_ms = {**one.stages_ms, **decode, "back_end": back_end_ms}
            one.stages_ms = {stage: round(ms, 3) for stage, ms in stages_ms.items()}
        with self._counting:
            self._fills.update(done.fill_given_up for done in outputs if done.fill_given_up)
        self._finish(leased.batch)

    def _note_answer(self, one: Job, output: NDArray[np.float32]) -> None:
        try:
            one.answer = sendable(self._answer_of(one.cut, output))
        except Exception as error:
            one.error = error

    def _fail(self, batch: list[Job], error: Exception) -> None:
        for one in batch:
            one.error = error
        self._finish(batch)

    def _finish(self, batch: list[Job]) -> None:
        self._waiting.done(batch)
        for one in batch:
            if isinstance(one, Whole) and one.done.set_running_or_notify_cancel():
                one.done.set_result(one)
        if tensors := [one for one in batch if isinstance(one, Inferred)]:
            self._deliver(tensors)


def sendable(answer: Answer) -> Answer:
    """Return an answer if it fits a result message; otherwise raise ValueError."""
    if not is_answer(answer.packed()):
        raise ValueError(f"the head's answer is not plain data of at most {MAX_ANSWER_BYTES} bytes")
    return answer
