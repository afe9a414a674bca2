"""Inference: batches across edges, one answer a tensor, and failures that stay with the tensors they concern."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from tests.cloud.small import (
    GRID,
    SOON_S,
    SPLIT,
    Deliveries,
    answer,
    decided,
    infer,
    locally,
    stations,
    sure,
    sure_of,
    undecodable,
)

from gradfec_cloud.inference import MAX_BATCH, Inference
from gradfec_cloud.workers.local import LocalWorkers
from gradfec_common.conceal import make_concealment
from gradfec_common.heads import Answer, Classes
from gradfec_common.networks import Cut
from gradfec_common.wire import MAX_ANSWER_BYTES


class BackEnd:
    """Knows the class from the tensor's first element; holds each batch until it is let go."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.started, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.failing = False

    def warm_up(self) -> None:
        pass

    def __call__(self, chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.batches.append(len(chi))
        self.started.release()
        assert self.go.acquire(timeout=SOON_S)
        if self.failing:
            raise RuntimeError("out of memory")
        return sure_of(chi)


@pytest.fixture
def back_end() -> BackEnd:
    return BackEnd()


@pytest.fixture
def delivered() -> Deliveries:
    return Deliveries()


@pytest.fixture
def inference(back_end: BackEnd, delivered: Deliveries) -> Iterator[Inference]:
    started = infer(locally(lambda: back_end), delivered)
    yield started
    back_end.go.release(1000)
    started.close()


def test_a_decided_tensor_is_decoded_and_answered(
    inference: Inference, back_end: BackEnd, delivered: Deliveries
) -> None:
    tensor = decided(7, lost=28)
    back_end.go.release()
    inference.submit(tensor)
    one = delivered.next()
    assert one.decided is tensor
    assert one.answer == sure(7)
    assert (one.recovered, one.missing, one.error) == (28, 0, None)
    assert list(one.stages_ms) == ["collect", "queue", "decode", "back_end"]
    assert one.stages_ms["collect"] == 250.0


def test_packets_that_a_plan_dropped_reach_the_back_end_filled(delivered: Deliveries) -> None:
    class Keeper(BackEnd):
        def __call__(self, chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            self.chi = chi
            return np.zeros((len(chi), 1000), np.float32)

    keeper = Keeper()
    means = np.linspace(1, 2, SPLIT.shape[2], dtype=np.float32)
    conceal = make_concealment("mean", SPLIT, {"means": means})
    inference = infer(locally(lambda: keeper, conceal=conceal), delivered)
    inference.submit(decided(7))
    assert delivered.next().error is None
    inference.close()
    dropped = keeper.chi[0, -1, -1, GRID.count // 2 // GRID.groups :]  # the plan keeps the first half of the channels
    np.testing.assert_array_equal(dropped, means[-len(dropped) :])
    assert keeper.chi[0, -1, -1, 0] == 7


def test_waiting_tensors_are_answered_together_up_to_a_limit_each_with_its_own_answer(
    inference: Inference, back_end: BackEnd, delivered: Deliveries
) -> None:
    inference.submit(decided(0))
    assert back_end.started.acquire(timeout=SOON_S)  # the first is at work; the others wait
    for number in range(1, MAX_BATCH + 3):
        inference.submit(decided(number))
    back_end.go.release(3)
    got = delivered.take(MAX_BATCH + 3)
    assert back_end.batches == [1, MAX_BATCH, 2]
    assert [one.answer for one in got] == [sure(number) for number in range(MAX_BATCH + 3)]


def test_many_sessions_with_one_key_do_not_hold_up_an_edge_with_another(
    inference: Inference, back_end: BackEnd, delivered: Deliveries
) -> None:
    inference.submit(replace(decided(0), key=b"many"))
    assert back_end.started.acquire(timeout=SOON_S)
    for number in range(1, 2 * MAX_BATCH):
        inference.submit(replace(decided(number, session=number), key=b"many"))
    inference.submit(replace(decided(99, session=99), key=b"one"))
    back_end.go.release(9)
    served = [one.decided.tensor for one in delivered.take(2 * MAX_BATCH + 1)]
    assert 99 in served[: MAX_BATCH + 1]


def test_each_tensor_passes_through_the_back_end_of_its_own_model_and_cut(delivered: Deliveries) -> None:
    cuts = [SPLIT, replace(SPLIT.network, name="two").cut(SPLIT.name)]
    batches: list[tuple[int, list[int]]] = []
    gate = threading.Semaphore(0)

    class Named(BackEnd):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def __call__(self, chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            assert gate.acquire(timeout=SOON_S)
            batches.append((self.number, chi[:, 0, 0, 0].round().astype(int).tolist()))
            return sure_of(chi)

    loaders = [stations(partial(Named, number), cut) for number, cut in enumerate(cuts)]
    inference = infer(partial(LocalWorkers, loaders[0] | loaders[1]), delivered)
    for number in range(6):
        inference.submit(decided(number, session=number, cut=cuts[number % 2]))
    gate.release(6)
    assert {one.answer for one in delivered.take(6)} == {sure(number) for number in range(6)}
    inference.close()
    assert sorted(number for _, numbers in batches for number in numbers) == [*range(6)]
    assert all(number % 2 == kind for kind, numbers in batches for number in numbers)
    assert len(batches) < 6


def test_an_error_of_the_back_end_costs_the_batch_and_not_the_service(
    inference: Inference, back_end: BackEnd, delivered: Deliveries
) -> None:
    back_end.failing = True
    back_end.go.release()
    inference.submit(decided(3))
    failed = delivered.next()
    assert isinstance(failed.error, RuntimeError)
    assert failed.answer is None
    back_end.failing = False
    back_end.go.release()
    inference.submit(decided(4))
    assert delivered.next().answer == sure(4)
    leases = inference.leases
    assert (leases["opened"], leases["failed"], leases["returned"]) == (2, 1, 1)


def test_a_tensor_that_cannot_be_decoded_costs_no_other_of_its_batch(
    inference: Inference, back_end: BackEnd, delivered: Deliveries
) -> None:
    inference.submit(decided(0))
    assert back_end.started.acquire(timeout=SOON_S)
    for one in (decided(1), undecodable(2), decided(3)):
        inference.submit(one)
    back_end.go.release(2)
    answers = {one.decided.tensor: one for one in delivered.take(4)}
    assert answers[2].error is not None
    assert [answers[number].answer for number in (0, 1, 3)] == [sure(0), sure(1), sure(3)]
    assert back_end.batches == [1, 2]


def test_a_tensor_on_which_the_network_overflows_has_no_answer_and_costs_no_other(
    inference: Inference, back_end: BackEnd, delivered: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = BackEnd.__call__
    overflowing = lambda self, chi: np.where(chi[:, :1, 0, 0].round() == 5, np.nan, answer(self, chi))  # noqa: E731
    monkeypatch.setattr(BackEnd, "__call__", overflowing)
    back_end.go.release(3)
    for number in (4, 5, 6):
        inference.submit(decided(number))
    said = {one.decided.tensor: one for one in delivered.take(3)}
    assert "overflows" in str(said[5].error)
    assert [said[n].answer for n in (4, 6)] == [sure(4), sure(6)] and not (said[4].error or said[6].error)


@pytest.mark.parametrize("said", [b"a" * (MAX_ANSWER_BYTES + 1), float("nan"), object()], ids=["long", "nan", "object"])
def test_an_answer_that_no_message_can_carry_costs_no_other(
    said: object, back_end: BackEnd, delivered: Deliveries
) -> None:
    class Odd(Classes):
        def packed(self) -> object:
            return said

    def odd(cut: Cut, output: npt.NDArray[np.float32]) -> Answer:
        return Odd(()) if answer(cut, output) == sure(5) else answer(cut, output)

    inference = Inference(locally(lambda: back_end), odd, delivered)
    back_end.go.release(3)
    for number in (4, 5, 6):
        inference.submit(decided(number))
    came = {one.decided.tensor: one for one in delivered.take(3)}
    inference.close()
    assert isinstance(came[5].error, ValueError) and came[5].answer is None
    assert [came[n].answer for n in (4, 6)] == [sure(4), sure(6)]


def test_a_waiting_tensor_can_be_given_up_and_one_at_work_cannot(
    inference: Inference, back_end: BackEnd, delivered: Deliveries
) -> None:
    tensors = [decided(number) for number in range(3)]
    for tensor in tensors:
        inference.submit(tensor)
        if tensor is tensors[0]:
            assert back_end.started.acquire(timeout=SOON_S)
    assert inference.give_up(1, 0) == []
    assert inference.give_up(1, 1) == [tensors[1]]
    assert inference.forget(1) == [tensors[2]]
    back_end.go.release()
    assert delivered.take(1)[0].decided is tensors[0]


def test_closing_waits_for_the_batch_at_work(inference: Inference, back_end: BackEnd, delivered: Deliveries) -> None:
    inference.submit(decided(5))
    back_end.go.release()
    inference.close()
    assert delivered.take(1)[0].answer == sure(5)


def test_a_back_end_that_hangs_costs_its_batch_and_what_it_says_later_is_ignored(
    back_end: BackEnd, delivered: Deliveries
) -> None:
    inference = infer(locally(lambda: back_end), delivered, lease_s=0.5)
    inference.submit(decided(1))
    assert isinstance(delivered.take(1)[0].error, TimeoutError)
    inference.submit(decided(2))
    back_end.go.release(2)
    assert delivered.take(1)[0].answer == sure(2)
    inference.close()
    leases = {"opened": 2, "returned": 1, "failed": 0, "given_up": 1, "ignored": 1, "open": 0}
    assert inference.leases == leases


def whole(number: int) -> npt.NDArray[np.float32]:
    """Return features that are `sure_of` a class."""
    return np.full(SPLIT.shape, number, np.float32)


def test_a_whole_picture_is_answered_without_decoding_and_not_delivered(
    inference: Inference, back_end: BackEnd, delivered: Deliveries
) -> None:
    done = inference.ask(SPLIT, whole(7))
    back_end.go.release()
    assert done.result(SOON_S).answer == sure(7)
    assert [*done.result().stages_ms] == ["queue", "back_end"]
    inference.submit(decided(3))
    back_end.go.release()
    (one,) = delivered.take(1)
    assert one.answer == sure(3)


def test_whole_pictures_wait_for_each_other_and_edges_do_not_wait_for_them(
    back_end: BackEnd, delivered: Deliveries
) -> None:
    inference = infer(locally(lambda: back_end), delivered, max_batch=1)
    first, *rest = [inference.ask(SPLIT, whole(number)) for number in range(4)]
    assert back_end.started.acquire(timeout=SOON_S)
    inference.submit(decided(9))
    back_end.go.release(2)
    assert first.result(SOON_S).answer == sure(0)
    back_end.go.release()
    assert delivered.next().answer == sure(9)
    assert not rest[-1].done()
    back_end.go.release(10)
    assert [one.result(SOON_S).answer for one in rest] == [sure(1), sure(2), sure(3)]
    inference.close()


def test_a_network_that_fails_on_a_whole_picture_says_so(inference: Inference, back_end: BackEnd) -> None:
    back_end.failing = True
    done = inference.ask(SPLIT, whole(7))
    back_end.go.release()
    assert isinstance(done.result(SOON_S).error, RuntimeError)


def test_an_edge_that_leaves_or_gives_up_takes_no_whole_picture_with_it(
    inference: Inference, back_end: BackEnd
) -> None:
    first = inference.ask(SPLIT, whole(1))
    assert back_end.started.acquire(timeout=SOON_S)
    done = inference.ask(SPLIT, whole(2))
    assert inference.give_up(1, 2) == inference.forget(1) == []
    back_end.go.release(2)
    assert [one.result(SOON_S).answer for one in (first, done)] == [sure(1), sure(2)]
