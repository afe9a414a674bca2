"""The contract of worker pools, and what inference does with pools that break it.

This file adds pools of other kinds to the registry. No product file knows them.
"""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.cloud.small import SOON_S, Deliveries, decided, infer, stations, sure, sure_of, undecodable

from gradfec_cloud.workers import WORKERS
from gradfec_cloud.workers.pool import (
    BackEndName,
    Batch,
    Crew,
    GiveBack,
    Loaders,
    OpenWorkers,
    Outputs,
    Station,
    Workers,
    WorkersKind,
)
from gradfec_host.logs import Log


def kind(opens: OpenWorkers) -> WorkersKind:
    """Return a toy kind of pool."""
    return WorkersKind("toy", (), lambda given, log: opens)


def opener(name: str) -> OpenWorkers:
    return WORKERS[name].open({}, Log("toy"))


CHI = np.arange(12, dtype=np.float32).reshape(3, 2, 2, 1)
CHI.flags.writeable = False  # features may be shared


class Multiply:
    """A back-end that fails on negative features."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.warm = False

    def warm_up(self) -> None:
        self.warm = True

    def __call__(self, tensors: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        chi = np.stack(tensors)
        if chi.min() < 0:
            raise ArithmeticError("negative")
        return np.float32(self.factor * self.warm) * chi.reshape(len(chi), -1)


class Sure:
    def warm_up(self) -> None:
        pass

    def __call__(self, chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return sure_of(chi)


class OtherProcesses:
    """A toy pool: each of two processes gets a batch through a pipe, and a thread waits for what comes back."""

    room = 2
    crew = Crew(2, 2)

    def __init__(self, loaders: Loaders, give_back: GiveBack, more_room: Callable[[], None]) -> None:
        self._give_back = give_back
        self._idle: list[Connection] = []
        self._threads: list[threading.Thread] = []
        self._processes = []
        context = multiprocessing.get_context("spawn")
        for _ in range(self.room):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=[theirs, dict(loaders)], daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._idle.append(ours)
        assert [worker.recv() for worker in self._idle] == ["ready"] * self.room

    def start(self, batch: Batch) -> None:
        thread = threading.Thread(target=self._run, args=[self._idle.pop(), batch])
        self._threads.append(thread)
        thread.start()

    def _run(self, worker: Connection, batch: Batch) -> None:
        worker.send(batch)
        outputs = worker.recv()
        self._idle.append(worker)
        self._give_back(batch.lease, outputs)

    def give_up(self, lease: int) -> None:
        pass

    def close(self) -> None:
        for thread in self._threads:
            thread.join(SOON_S)
        for worker in self._idle:
            worker.close()
        for process in self._processes:
            process.join(SOON_S)
            assert process.exitcode == 0


def serve(pipe: Connection, loaders: dict[BackEndName, Callable[[], Station]]) -> None:
    """Run batches until the pipe is closed: what a worker process does."""
    back_ends = {name: load() for name, load in loaders.items()}
    for back_end in back_ends.values():
        back_end.warm_up()
    pipe.send("ready")
    while True:
        try:
            batch = pipe.recv()
        except EOFError:
            return
        outputs: Outputs | Exception
        try:
            outputs = back_ends[batch.back_end](batch.tensors)
        except Exception as error:
            outputs = error
        pipe.send(outputs)


# --- what a pool promises ---


class Pool:
    """An open pool, and what it gave back."""

    def __init__(self, name: str, loaders: Loaders) -> None:
        self.back: list[tuple[int, Outputs | Exception]] = []
        self._came = threading.Semaphore(0)
        self._grew = threading.Event()
        self.workers = opener(name)(loaders, self._give_back, self._grew.set)
        while not self.workers.room:
            assert self._grew.wait(SOON_S)
            self._grew.clear()

    def _give_back(self, lease: int, outputs: Outputs | Exception) -> None:
        self.back.append((lease, outputs))
        self._came.release()

    def run(self, *batches: tuple[BackEndName, npt.NDArray[np.float32]]) -> list[Outputs | Exception]:
        """Lease batches, as many at a time as there is room for; return what came of each."""
        first, at_work = len(self.back) + 1, 0
        for lease, (name, features) in enumerate(batches, first):
            if at_work == self.workers.room:
                assert self._came.acquire(timeout=SOON_S)
                at_work -= 1
            self.workers.start(Batch(lease, name, features, SOON_S))
            at_work += 1
        for _ in range(at_work):
            assert self._came.acquire(timeout=SOON_S)
        came = dict(self.back)
        assert sorted(came) == [*range(1, len(self.back) + 1)]
        return [came[first + index] for index in range(len(batches))]


ELSEWHERE = {"ray"}  # test_on_ray.py has a cluster for it
DOUBLE, TRIPLE = BackEndName("double", "cut"), BackEndName("triple", "cut")
POOLS = [*(name for name in WORKERS if name not in ELSEWHERE), "toy"]


@contextmanager
def opened(name: str) -> Iterator[Pool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WORKERS, "toy", kind(OtherProcesses))
        made = Pool(name, {DOUBLE: partial(Multiply, 2), TRIPLE: partial(Multiply, 3)})
        yield made
        made.workers.close()


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with opened(request.param) as made:
        yield made


def test_a_batch_comes_back_once_with_a_row_for_each_tensor_in_its_order(pool: Pool) -> None:
    (outputs,) = pool.run((DOUBLE, CHI))
    np.testing.assert_array_equal(outputs, 2 * CHI.reshape(3, 4))
    assert isinstance(outputs, np.ndarray) and outputs.dtype == np.float32


def test_each_batch_passes_through_its_own_back_end_however_many_there_are(pool: Pool) -> None:
    assert pool.workers.room >= 1
    names = [DOUBLE, TRIPLE, TRIPLE, DOUBLE, TRIPLE]
    came = pool.run(*((name, CHI[number % 3 :]) for number, name in enumerate(names)))
    for number, outputs in enumerate(came):
        factor = 2 if names[number] == DOUBLE else 3
        np.testing.assert_array_equal(outputs, factor * CHI[number % 3 :].reshape(-1, 4))


def test_an_error_comes_back_as_such_and_the_pool_goes_on(pool: Pool) -> None:
    failed, unknown, good = pool.run((DOUBLE, CHI - 1), (BackEndName("no", "such"), CHI), (DOUBLE, CHI))
    assert isinstance(failed, ArithmeticError)
    assert isinstance(unknown, Exception)
    np.testing.assert_array_equal(good, 2 * CHI.reshape(3, 4))


def test_a_lease_that_has_come_back_or_never_began_can_be_given_up(pool: Pool) -> None:
    pool.run((DOUBLE, CHI))
    came = len(pool.back)
    pool.workers.give_up(came)
    pool.workers.give_up(came + 99)
    pool.run((TRIPLE, CHI))
    assert len(pool.back) == came + 1


@pytest.mark.parametrize("name", POOLS)
def test_a_closed_pool_leaves_no_process_and_no_thread_behind(name: str) -> None:
    threads, processes = {*threading.enumerate()}, {*multiprocessing.active_children()}
    with opened(name) as made:
        made.run((DOUBLE, CHI), (TRIPLE, CHI))
    assert {*threading.enumerate()} <= threads
    assert {*multiprocessing.active_children()} <= processes


# --- what inference makes of a pool ---


class Faulty:
    """A pool that runs batches as the local one does, but for what `fault` does with the answers."""

    room = 2
    crew = Crew(2, 2)

    def __init__(
        self,
        fault: Callable[[Faulty, int, Outputs], None],
        loaders: Loaders,
        give_back: GiveBack,
        more_room: Callable[[], None],
    ) -> None:
        self._fault, self.back = fault, give_back
        self.kept: list[tuple[int, Outputs]] = []
        self._back_ends = {name: load() for name, load in loaders.items()}

    def start(self, batch: Batch) -> None:
        self._fault(self, batch.lease, self._back_ends[batch.back_end](batch.tensors))

    def give_up(self, lease: int) -> None:
        pass

    def close(self) -> None:
        pass


def loses_every_second(pool: Faulty, lease: int, outputs: Outputs) -> None:
    if lease % 2:
        pool.back(lease, outputs)


def answers_twice(pool: Faulty, lease: int, outputs: Outputs) -> None:
    pool.back(lease, outputs)
    pool.back(lease, RuntimeError("again"))


def answers_the_one_before(pool: Faulty, lease: int, outputs: Outputs) -> None:
    pool.kept.append((lease, outputs))
    if len(pool.kept) > 1:
        pool.back(*pool.kept.pop(0))


def answers_for_too_few(pool: Faulty, lease: int, outputs: Outputs) -> None:
    pool.back(lease, outputs[1:])


def answers_nothing_at_all(pool: Faulty, lease: int, outputs: Outputs) -> None:
    pool.back(lease, None)  # type: ignore[arg-type]


def raises(pool: Faulty, lease: int, outputs: Outputs) -> None:
    raise RuntimeError("no worker is left")


def answers_and_raises(pool: Faulty, lease: int, outputs: Outputs) -> None:
    pool.back(lease, outputs)
    raise RuntimeError("no worker is left")


def answers_on_many_threads(pool: Faulty, lease: int, outputs: Outputs) -> None:
    for _ in range(3):
        threading.Thread(target=pool.back, args=[lease, outputs]).start()


FAULTS = [
    loses_every_second,
    answers_twice,
    answers_the_one_before,
    answers_for_too_few,
    answers_nothing_at_all,
    raises,
    answers_and_raises,
    answers_on_many_threads,
]
ANSWERS = {answers_twice, answers_and_raises, answers_on_many_threads}  # in spite of its fault it answers each batch


def pools() -> dict[str, Any]:
    of_product = {name: made for name, made in WORKERS.items() if name not in ELSEWHERE}
    faulty = {fault.__name__: kind(partial(Faulty, fault)) for fault in FAULTS}
    return {**of_product, "toy": kind(OtherProcesses), **faulty}


@pytest.mark.parametrize("name", pools())
def test_every_tensor_has_one_fate_and_every_lease_one_end_whatever_the_pool_does(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WORKERS, name, pools()[name])
    dice = random.Random(name)
    delivered = Deliveries()
    gives_back = name not in {fault.__name__ for fault in FAULTS if fault not in ANSWERS}
    lease_s = SOON_S if gives_back else 0.2
    inference = infer(partial(opener(name), stations(Sure)), delivered, lease_s=lease_s, max_batch=3)
    submitted, returned = [], []
    for number in range(40):
        session = dice.randrange(4)
        submitted.append(undecodable(number) if dice.random() < 0.1 else decided(number, session=session))
        inference.submit(submitted[-1])
        match dice.randrange(8):
            case 0:
                returned += inference.give_up(submitted[-1].session, number)
            case 1:
                returned += inference.forget(session)
    came = delivered.take(len(submitted) - len(returned))
    inference.close()

    fates = Counter([one.decided.tensor for one in came] + [one.tensor for one in returned])
    assert fates == Counter(range(40)), "a tensor without exactly one fate"
    for one in came:
        assert (one.error is None) == (one.answer == sure(one.decided.tensor))
    leases = inference.leases
    assert leases["opened"] == leases["returned"] + leases["failed"] + leases["given_up"]
    assert leases["open"] == 0
    if gives_back:
        assert leases["opened"] == leases["returned"]
        assert all(one.error is None or one.found is None for one in came)


@pytest.mark.parametrize(
    ("fault", "counted"),
    [
        (loses_every_second, {"returned": 1, "given_up": 1, "ignored": 0}),
        (answers_twice, {"returned": 2, "given_up": 0, "ignored": 2}),
        (answers_the_one_before, {"returned": 0, "given_up": 2, "ignored": 1}),
        (raises, {"failed": 2, "given_up": 0, "ignored": 0}),
    ],
)
def test_faults_of_a_pool_are_counted(
    fault: Callable[[Faulty, int, Outputs], None], counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WORKERS, "toy", kind(partial(Faulty, fault)))
    delivered = Deliveries()
    inference = infer(partial(opener("toy"), stations(Sure)), delivered, lease_s=0.5)
    for number in range(2):  # one after the other: two leases
        inference.submit(decided(number))
        delivered.take(1)
    inference.close()
    leases = inference.leases
    assert leases["opened"] == 2
    assert leases == {**leases, **counted}


def test_a_pool_without_room_is_not_started_and_its_tensors_can_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(Faulty):
        room = 0

    monkeypatch.setitem(WORKERS, "toy", kind(partial(Full, answers_twice)))
    delivered = Deliveries()
    inference = infer(partial(opener("toy"), stations(Sure)), delivered)
    one = decided(3)
    inference.submit(one)
    assert inference.give_up(1, 3) == [one]
    assert inference.leases["opened"] == 0
    monkeypatch.setattr("gradfec_cloud.inference.CLOSE_S", 0.1)
    inference.close()
    assert delivered.take(0) == []


def test_a_pool_works_on_as_many_batches_at_once_as_it_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[Workers, int, Outputs]] = []
    came = threading.Semaphore(0)

    def waits(pool: Faulty, lease: int, outputs: Outputs) -> None:
        started.append((pool, lease, outputs))
        came.release()

    monkeypatch.setitem(WORKERS, "toy", kind(partial(Faulty, waits)))
    delivered = Deliveries()
    inference = infer(partial(opener("toy"), stations(Sure)), delivered, max_batch=1)
    for number in range(3):
        inference.submit(decided(number))
    for _ in range(2):
        assert came.acquire(timeout=SOON_S)
    assert not came.acquire(timeout=0.05)
    assert inference.leases["open"] == 2
    for index in (1, 0):  # in any order
        pool, lease, outputs = started[index]
        assert isinstance(pool, Faulty)
        pool.back(lease, outputs)
    assert [one.decided.tensor for one in delivered.take(2)] == [1, 0]
    assert came.acquire(timeout=SOON_S)
    pool, lease, outputs = started[2]
    assert isinstance(pool, Faulty)
    pool.back(lease, outputs)
    inference.close()
    assert delivered.take(1)[0].answer == sure(2)
