"""Decoding and inference, in a thread of their own: decided tensors in, answers out, in batches across edges.

A tensor's blocks are decoded in further threads, one for each core: zfec releases the GIL.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_cloud.backend import BackEnd
from gradfec_cloud.turns import Turns
from gradfec_common.fill import Fill
from gradfec_common.reassembly import DecodedTensor, Found, decode_tensor
from gradfec_common.session.events import Decided
from gradfec_host.runtimes import cores

MAX_BATCH = 8
NICENESS = 5  # of the back-end's threads, above that of the event loop's


def let_network_first() -> None:
    """Let this thread, and those that it starts, have less of a busy machine than the event loop's thread.

    Under a flood the datagrams that nobody wants are then told from the others and dropped, instead of the kernel
    dropping what comes: it knows no difference. Nothing happens where priorities are a process's: not Linux.
    """
    if sys.platform == "linux":
        this = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox that knows no such call
            os.setpriority(os.PRIO_PROCESS, this, os.getpriority(os.PRIO_PROCESS, this) + NICENESS)


@dataclass
class Answer:
    """What the back-end says of a tensor; `error` says why there is no answer."""

    decided: Decided
    top5: list[list[Any]] = field(default_factory=list)  # [class index, label, score], best first
    recovered: int = 0
    missing: int = 0
    stages_ms: dict[str, float] = field(default_factory=dict)
    found: Found | None = None  # None where it was not decoded
    error: Exception | None = None


class Inference:
    """A worker thread around the back-end."""

    def __init__(
        self,
        back_end: BackEnd,
        top5: Callable[[npt.NDArray[np.float32]], list[tuple[int, str, float]]],
        fill: Fill,
        deliver: Callable[[list[Answer]], None],
        batch: int = MAX_BATCH,
    ) -> None:
        """Fill gaps with `fill`; call `deliver` on the worker's thread with the answers of each batch.

        `batch`: how many tensors at most the back-end gets together.
        """
        self._batch = batch
        self._back_end, self._top5, self._fill, self._deliver = back_end, top5, fill, deliver
        self._decoders = ThreadPoolExecutor(cores(), "decoder")
        self._waiting: Turns[tuple[Decided, float]] = Turns()
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()

    def submit(self, decided: Decided) -> None:
        """Queue a tensor; the protocol core bounds how many wait."""
        self._waiting.put(decided.session, (decided, time.perf_counter()))

    def forget(self, session: int) -> list[Decided]:
        """Return a session's tensors that have not had their turn; there will be no answers for them."""
        return [decided for decided, _ in self._waiting.forget(session)]

    def give_up(self, session: int, tensor: int) -> list[Decided]:
        """Return a tensor that nobody awaits any more, if it has not had its turn: there will be no answer for it."""
        gone = self._waiting.give_up(session, lambda waiting: waiting[0].tensor == tensor)
        return [decided for decided, _ in gone]

    def close(self) -> None:
        """Stop after what waits."""
        self._waiting.close()
        self._thread.join(timeout=10)
        self._decoders.shutdown(wait=False)

    def _work(self) -> None:
        while batch := self._waiting.take(self._batch):
            answers = [Answer(decided) for decided, _ in batch]
            try:
                self._infer(answers, [since for _, since in batch])
            except Exception as error:  # whatever went wrong costs these tensors, never the service
                for answer in answers:
                    answer.error = error
            self._deliver(answers)

    def _infer(self, answers: list[Answer], since: list[float]) -> None:
        tensors: list[DecodedTensor] = []
        for answer, queued_at in zip(answers, since, strict=True):
            start = time.perf_counter()
            tensor = decode_tensor(answer.decided.arrived, self._fill, self._decoders.map)
            answer.recovered, answer.missing, answer.found = tensor.recovered, tensor.missing, tensor.found
            answer.stages_ms = {
                "collect": 1000 * answer.decided.waited_s,
                "queue": 1000 * (start - queued_at),
                "decode": 1000 * (time.perf_counter() - start),
            }
            tensors.append(tensor)
        start = time.perf_counter()
        probabilities = self._back_end(np.stack([tensor.chi for tensor in tensors]))  # n x (H, W, C) -> (n, H, W, C)
        took = time.perf_counter() - start
        for answer, scores in zip(answers, probabilities, strict=True):
            if not np.isfinite(scores).all():
                answer.error = ValueError("the network overflows on its features")  # of which an edge may say anything
                continue
            answer.top5 = [[index, label, score] for index, label, score in self._top5(scores)]
            answer.stages_ms["back_end"] = 1000 * took
            answer.stages_ms = {stage: round(ms, 3) for stage, ms in answer.stages_ms.items()}
