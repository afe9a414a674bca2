"""The inference thread: batches across edges, every tensor answered once, failures confined to their batch."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from gradfec_cloud.inference import MAX_BATCH, NICENESS, Answer, Inference, let_network_first
from gradfec_common.networks import named_cut
from gradfec_common.plan import parse_scheme
from gradfec_common.reassembly import Reassembly
from gradfec_common.session.events import Decided
from gradfec_common.transmit import encode_tensor, packet_grid
from gradfec_common.wire import read_symbols

SPLIT = named_cut("pool1_pool")
GRID = packet_grid(SPLIT, 14)  # 256 packets
SOON_S = 60.0  # a safety net


class BackEnd:
    """Knows the class from the tensor's first element; holds each batch until it is let go."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.started, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.failing = False

    def __call__(self, chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.batches.append(len(chi))
        self.started.release()
        assert self.go.acquire(timeout=SOON_S)
        if self.failing:
            raise RuntimeError("out of memory")
        probabilities = np.zeros((len(chi), 1000), np.float32)
        probabilities[np.arange(len(chi)), chi[:, 0, 0, 0].round().astype(int)] = 1
        return probabilities


def top1(scores: npt.NDArray[np.float32]) -> list[tuple[int, str, float]]:
    best = int(scores.argmax())
    return [(best, f"class {best}", float(scores[best]))]


def decided(number: int, lost: int = 0) -> Decided:
    """Return a tensor that is `number` but for one 0 at its end, and whose first `lost` datagrams are lost."""
    chi = np.full(SPLIT.shape, number, np.float32)
    chi[-1, -1, -1] = 0
    scores = np.arange(GRID.count, 0, -1).astype(np.float32)
    encoded = encode_tensor(chi, parse_scheme("FEC_50_50").plan(scores), GRID, SPLIT)
    headers, symbols = read_symbols(encoded.bodies(number)[lost:])
    arrived = Reassembly(headers[0], GRID)
    arrived.add(headers, symbols)
    return Decided(1, number, arrived, arrived.complete, 0.25)


@pytest.fixture
def back_end() -> BackEnd:
    return BackEnd()


@pytest.fixture
def answers() -> queue.Queue[Answer]:
    return queue.Queue()


@pytest.fixture
def inference(back_end: BackEnd, answers: queue.Queue[Answer]) -> Iterator[Inference]:
    def deliver(batch: list[Answer]) -> None:
        for answer in batch:
            answers.put(answer)

    worker = Inference(back_end, top1, 0.0, deliver)
    yield worker
    back_end.go.release(1000)
    worker.close()


def test_a_decided_tensor_is_decoded_filled_and_answered(
    inference: Inference, back_end: BackEnd, answers: queue.Queue[Answer]
) -> None:
    tensor = decided(7, lost=28)
    back_end.go.release()
    inference.submit(tensor)
    answer = answers.get(timeout=SOON_S)
    assert answer.decided is tensor
    assert answer.top5 == [[7, "class 7", 1.0]]
    assert (answer.recovered, answer.missing, answer.error) == (28, 0, None)
    assert list(answer.stages_ms) == ["collect", "queue", "decode", "back_end"]
    assert answer.stages_ms["collect"] == 250.0


def test_what_a_plan_dropped_reaches_the_back_end_filled(answers: queue.Queue[Answer]) -> None:
    class Keeper(BackEnd):
        def __call__(self, chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            self.chi = chi
            return np.zeros((len(chi), 1000), np.float32)

    keeper = Keeper()
    fill = np.linspace(1, 2, SPLIT.shape[2], dtype=np.float32)
    worker = Inference(keeper, top1, fill, lambda batch: answers.put(batch[0]))
    worker.submit(decided(7))
    assert answers.get(timeout=SOON_S).error is None
    worker.close()
    dropped = keeper.chi[0, -1, -1, GRID.count // 2 // GRID.groups :]  # the plan keeps the first half of the channels
    np.testing.assert_array_equal(dropped, fill[-len(dropped) :])
    assert keeper.chi[0, -1, -1, 0] == 7


def test_tensors_that_wait_are_answered_together_up_to_a_limit_each_with_its_own_answer(
    inference: Inference, back_end: BackEnd, answers: queue.Queue[Answer]
) -> None:
    inference.submit(decided(0))
    assert back_end.started.acquire(timeout=SOON_S)  # the first is at work; the others wait
    for number in range(1, MAX_BATCH + 3):
        inference.submit(decided(number))
    back_end.go.release(3)
    got = [answers.get(timeout=SOON_S) for _ in range(MAX_BATCH + 3)]
    assert back_end.batches == [1, MAX_BATCH, 2]
    assert [answer.top5[0][0] for answer in got] == [answer.decided.tensor for answer in got] == [*range(MAX_BATCH + 3)]


def test_what_goes_wrong_costs_the_batch_and_not_the_service(
    inference: Inference, back_end: BackEnd, answers: queue.Queue[Answer]
) -> None:
    back_end.failing = True
    back_end.go.release()
    inference.submit(decided(3))
    failed = answers.get(timeout=SOON_S)
    assert isinstance(failed.error, RuntimeError)
    assert failed.top5 == []
    back_end.failing = False
    back_end.go.release()
    inference.submit(decided(4))
    assert answers.get(timeout=SOON_S).top5[0][0] == 4


def test_a_tensor_on_which_the_network_overflows_has_no_answer_and_costs_no_other(
    inference: Inference, back_end: BackEnd, answers: queue.Queue[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = BackEnd.__call__
    overflowing = lambda self, chi: np.where(chi[:, :1, 0, 0].round() == 5, np.nan, answer(self, chi))  # noqa: E731
    monkeypatch.setattr(BackEnd, "__call__", overflowing)
    back_end.go.release(3)
    for number in (4, 5, 6):
        inference.submit(decided(number))
    said = {answer.decided.tensor: answer for answer in (answers.get(timeout=SOON_S) for _ in range(3))}
    assert "overflows" in str(said[5].error)
    assert [said[n].top5[0][0] for n in (4, 6)] == [4, 6] and not (said[4].error or said[6].error)


def test_closing_waits_for_the_batch_at_hand(
    inference: Inference, back_end: BackEnd, answers: queue.Queue[Answer]
) -> None:
    inference.submit(decided(5))
    back_end.go.release()
    inference.close()
    assert answers.get_nowait().top5[0][0] == 5


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is the whole process's")
def test_the_back_ends_threads_let_the_event_loops_go_first():
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    theirs = []

    def load():
        let_network_first()
        started = threading.Thread(
            target=lambda: theirs.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        )
        started.start()
        started.join()

    loader = threading.Thread(target=load)
    loader.start()
    loader.join()
    assert theirs == [min(mine + NICENESS, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == mine
