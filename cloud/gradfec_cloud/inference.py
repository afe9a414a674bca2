"""Inference: decided tensors in, answers out.

    submit -> fair queue -> batch of one model and cut -> decode -> lease to the workers -> head -> deliver

One thread takes batches, decodes them and starts the workers on them. With local workers it runs the network too. It
takes a batch only when the workers have room for it, so that until then tensors can be given up at no cost.

Each tensor that is submitted has one fate: it is delivered with its answer or with an error, or it is returned by
`give_up` or `forget`. A whole picture, which needs no decoding, takes its turn among the sessions' tensors.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gradfec_cloud.decoding import Decoder
from gradfec_cloud.turns import Turns
from gradfec_cloud.workers.leases import Ending, Leases
from gradfec_cloud.workers.pool import Batch, GiveBack, Outputs, Workers, back_end_name
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
    """Decodes tensors and lets workers run the network on them."""

    def __init__(
        self,
        open_workers: Callable[[GiveBack], Workers],
        decoder: Decoder,
        answer: Callable[[Cut, NDArray[np.float32]], Answer],
        deliver: Callable[[list[Inferred]], None],
        *,
        max_batch: int = MAX_BATCH,
        lease_s: float = LEASE_S,
    ) -> None:
        """Open the workers, which may take seconds. `answer` and `deliver` are called on any thread.

        `answer` turns the network's output for one tensor into an answer; any exception means that there is none.
        """
        self._decoder, self._answer_of, self._deliver = decoder, answer, deliver
        self._max_batch, self._lease_s = max_batch, lease_s
        self._waiting: Turns[Job] = Turns()
        self._leases: Leases[_Leased] = Leases(lease_s, self._on_given_up)
        self._workers = open_workers(self._on_given_back)
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()

    @property
    def leases(self) -> dict[str, int]:
        """Leases by what became of them, and those that are open."""
        return self._leases.counts

    @property
    def fills_given_up(self) -> dict[str, int]:
        """Tensors whose concealment was given up, by the reason."""
        return dict(self._decoder.given_up)

    def submit(self, decided: Decided) -> None:
        """Queue a tensor. The protocol core limits how many wait."""
        self._waiting.put(decided.session, Inferred(decided), back_end_name(decided.cut))

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
        self._decoder.close()

    # --- on the thread that takes batches ---

    def _work(self) -> None:
        while True:
            self._leases.wait_for_room(lambda: self._workers.room)
            batch = self._waiting.take(self._max_batch)
            if not batch:
                return
            decoded = [(one, features) for one in batch if (features := self._decode(one)) is not None]
            if failed := [one for one in batch if one.error]:
                self._finish(failed)
            if decoded:
                self._lease([one for one, _ in decoded], [features for _, features in decoded])

    def _decode(self, one: Job) -> NDArray[np.float32] | None:
        """Return a tensor's features (H, W, C), or None and note the error."""
        start = time.perf_counter()
        if isinstance(one, Whole):
            one.stages_ms = {"queue": 1000 * (start - one.submitted_at)}
            return one.features
        try:
            tensor = self._decoder.decode(one.decided)
        except Exception as error:
            one.error = error
            return None
        one.recovered, one.missing, one.found = tensor.recovered, tensor.missing, tensor.found
        one.stages_ms = {
            "collect": 1000 * one.decided.waited_s,
            "queue": 1000 * (start - one.submitted_at),
            "decode": 1000 * (time.perf_counter() - start),
        }
        return tensor.tensor

    def _lease(self, batch: list[Job], features: list[NDArray[np.float32]]) -> None:
        """Let the workers run the network on features (H, W, C), one for each tensor of the batch."""
        try:
            number = self._leases.begin(_Leased(batch, time.perf_counter()))
        except RuntimeError as error:
            self._fail(batch, error)
            return
        try:
            # n x (H, W, C) -> (n, H, W, C), without a copy where there is one
            stacked = np.stack(features) if len(features) > 1 else features[0][np.newaxis]
            self._workers.start(Batch(number, back_end_name(batch[0].cut), stacked, self._lease_s))
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
        back_end_ms = 1000 * (time.perf_counter() - leased.at)
        try:
            pairs = [*zip(leased.batch, outputs, strict=True)]
        except Exception as error:  # too few rows, or none at all
            self._fail(leased.batch, error)
            return
        for one, output in pairs:
            try:
                one.answer = sendable(self._answer_of(one.cut, output))
            except Exception as error:
                one.error = error
            one.stages_ms = {stage: round(ms, 3) for stage, ms in {**one.stages_ms, "back_end": back_end_ms}.items()}
        self._finish(leased.batch)

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
