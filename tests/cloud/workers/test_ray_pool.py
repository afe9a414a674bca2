"""The pool of Ray actors and its bridge, with a toy in the place of Ray: see fake_ray."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click import BadParameter
from tests.cloud.small import SOON_S, Deliveries, decided, infer, stations, sure
from tests.cloud.workers import test_contract as contract
from tests.cloud.workers.test_contract import DOUBLE, TRIPLE, Multiply, Pool, Sure

from gradfec_cloud.workers.pool import Batch, Outputs
from gradfec_cloud.workers.ray import ClusterType, dispatch
from gradfec_cloud.workers.ray import pool as pool_module
from gradfec_cloud.workers.ray.pool import RayOptions, RayWorkers
from gradfec_common.errors import GradfecError
from gradfec_host.logs import Log

FAKE = Path(__file__).with_name("fake_ray")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def fake_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = [str(FAKE), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    monkeypatch.setattr(pool_module, "AGAIN_S", 0.05)


class Lines(Log):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__("test")
        self.said: list[str] = []

    def _say(self, level: int, message: str, event: str, fields: object) -> None:
        self.said.append(message)


class Asked:
    """A station that does what a batch says: it dies, waits for a file, or answers with where it is."""

    def warm_up(self) -> None:
        pass

    def __call__(self, tensors: object) -> list[int]:
        (what,) = tensors  # type: ignore[misc]
        if what == "die":
            raise SystemExit
        if isinstance(what, Path):  # the first of all that come waits until the file is gone
            try:
                what.touch(exist_ok=False)
            except FileExistsError:
                return [os.getpid()]
            while what.exists():
                time.sleep(0.01)
        return [os.getpid()]


class Watched:
    """An open pool of workers that do as they are asked."""

    def __init__(self, least: int = 2, station: Callable[[], object] = Asked, **options: object) -> None:
        self.log = Lines()
        self.back: dict[int, list[Outputs | Exception]] = {}
        self._changed = threading.Condition()
        given = RayOptions(str(options.pop("address", "somewhere")), least, least, **options)  # type: ignore[arg-type]
        self.workers = RayWorkers(given, self.log, {DOUBLE: station}, self._give_back, self._look)  # type: ignore[dict-item]

    def _give_back(self, lease: int, outputs: Outputs | Exception) -> None:
        with self._changed:
            self.back.setdefault(lease, []).append(outputs)
            self._changed.notify_all()

    def _look(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def until(self, so: Callable[[], object]) -> None:
        with self._changed:
            end = time.monotonic() + SOON_S
            while not so():  # of what nobody tells, such as the log
                assert time.monotonic() < end, self.log.said
                self._changed.wait(0.02)

    def start(self, lease: int, what: object = "answer") -> None:
        self.workers.start(Batch(lease, DOUBLE, [what], SOON_S))  # type: ignore[list-item]

    def ask(self, lease: int, what: object = "answer") -> Outputs | Exception:
        self.start(lease, what)
        self.until(lambda: lease in self.back)
        return self.back[lease][0]

    def kill_bridge(self) -> None:
        bridge = self.workers._bridge
        assert bridge is not None
        os.kill(bridge._process.pid, signal.SIGKILL)


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    made.until(lambda: made.workers.crew.ready == 2)
    yield made
    made.workers.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(FAKE), str(ROOT), os.environ.get("PYTHONPATH", "")]))
        given = partial(RayWorkers, RayOptions("somewhere", 2, 2), Lines())
        patch.setattr(contract, "opener", lambda name: given)
        made = Pool("ray", {DOUBLE: partial(Multiply, 2), TRIPLE: partial(Multiply, 3)})
        yield made
        made.workers.close()


test_order = contract.test_a_batch_comes_back_once_with_a_row_for_each_tensor_in_its_order
test_names = contract.test_each_batch_passes_through_its_own_back_end_however_many_there_are
test_errors = contract.test_an_error_comes_back_as_such_and_the_pool_goes_on
test_give_up = contract.test_a_lease_that_has_come_back_or_never_began_can_be_given_up


def test_a_worker_that_dies_is_restarted_and_its_other_batches_are_answered(watched: Watched) -> None:
    watched.start(1, "die")
    for lease in range(2, 6):
        assert isinstance(watched.ask(lease), list)
    watched.until(lambda: 1 in watched.back)  # three workers have died on it
    (error,) = watched.back[1]
    assert isinstance(error, GradfecError) and "3 workers were lost" in str(error)
    watched.until(lambda: watched.workers.crew.ready == 2)
    assert (
        watched.workers.crew.lost["died"] == 3
    )  # on a busy machine, one may be taken for hung, and its batch come twice
    assert sum("was lost: it exited" in line for line in watched.log.said) == 3


def test_a_worker_that_hangs_costs_no_batch_and_works_again_when_it_is_back(watched: Watched, tmp_path: Path) -> None:
    for lease in range(1, 5):
        watched.ask(lease)
    block = tmp_path / "block"
    assert isinstance(watched.ask(5, block), list)  # by the other
    assert watched.workers.crew.ready == 1
    assert watched.workers.crew.released["hung"] >= 1
    block.unlink()
    watched.until(lambda: len(watched.back[5]) == 2 and watched.workers.crew.ready == 2)


def test_a_worker_that_hangs_for_good_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "KILL_S", 0.2)
    watched = Watched()
    watched.until(lambda: watched.workers.crew.ready == 2)
    for lease in range(1, 5):
        watched.ask(lease)
    watched.ask(5, tmp_path / "block")
    watched.until(lambda: "died" in watched.workers.crew.lost and watched.workers.crew.ready == 2)
    (tmp_path / "block").unlink()
    watched.workers.close()


def test_batches_outlive_the_bridge(watched: Watched, tmp_path: Path) -> None:
    block = tmp_path / "block"
    watched.start(1, block)
    watched.until(block.exists)
    watched.kill_bridge()
    watched.until(lambda: 1 in watched.back)  # by a worker that the next bridge has started
    assert isinstance(watched.back[1][0], list)
    watched.until(lambda: watched.workers.crew.ready == 2)
    assert watched.workers.crew.lost == {"gone": 2}
    assert any("the Ray cluster is gone (exit code -9)" in line for line in watched.log.said)
    block.unlink()


def test_without_a_cluster_the_cloud_is_not_ready_and_says_once_why() -> None:
    watched = Watched(address="nowhere")
    watched.until(lambda: len(watched.log.said) > 0)
    first = watched.workers._thread
    time.sleep(0.5)  # it tries again meanwhile
    assert first.is_alive() and watched.workers.room == 0
    (said,) = watched.log.said
    assert "cannot join the Ray cluster at nowhere (ConnectionError: there is no cluster at nowhere)" in said
    watched.workers.close()


def test_with_a_fallback_this_process_works_until_there_is_a_cluster() -> None:
    watched = Watched(address="nowhere", fallback=True)
    assert watched.workers.room == 1
    assert watched.ask(1) == watched.ask(2) == [os.getpid()]
    assert watched.workers.crew.fallback
    watched.workers.close()


def test_with_a_fallback_what_the_cluster_had_is_done_here_when_it_is_gone(tmp_path: Path) -> None:
    watched = Watched(fallback=True)
    watched.until(lambda: watched.workers.crew.ready == 2)
    assert watched.ask(1) != [os.getpid()]
    watched.start(2, tmp_path / "block")
    watched.until((tmp_path / "block").exists)
    watched.kill_bridge()
    watched.until(lambda: watched.back.get(2) == [[os.getpid()]])
    watched.until(lambda: watched.workers.crew.ready == 2)
    assert watched.ask(3) != [os.getpid()]
    watched.workers.close()


class Cannot(Asked):
    def warm_up(self) -> None:
        raise GradfecError("no memory for it")


def test_a_worker_that_cannot_start_says_why() -> None:
    watched = Watched(1, Cannot)
    watched.until(lambda: any("no memory for it" in line for line in watched.log.said))
    assert watched.workers.room == 0
    watched.workers.close()


def test_inference_begins_with_the_first_worker_and_stops_without_leaving_a_thread() -> None:
    threads = {*threading.enumerate()}
    delivered = Deliveries()
    given = partial(RayWorkers, RayOptions("somewhere", 2, 2), Lines())
    inference = infer(partial(given, stations(Sure)), delivered, max_batch=3)
    assert inference.why_not_ready == "no worker is there"
    for number in range(20):
        inference.submit(decided(number, lost=28))
    came = delivered.take(20)
    assert {one.decided.tensor: one.answer for one in came} == {number: sure(number) for number in range(20)}
    assert all((one.recovered, one.missing) == (28, 0) for one in came)
    assert [*came[0].stages_ms] == ["collect", "queue", "decode", "back_end"]
    assert inference.why_not_ready == ""
    inference.close()
    assert {*threading.enumerate()} <= threads


def test_an_array_of_a_model_is_on_a_machine_once(tmp_path: Path) -> None:
    large = np.arange(100_000, dtype=np.float32)
    watched = Watched(3, partial(Holds, large))
    watched.until(lambda: watched.workers.crew.ready == 3)
    (kept,) = [path for path in (tmp_path / "workers").iterdir() if not path.name.startswith(".")]
    assert kept.read_bytes() == large.tobytes()
    assert watched.ask(1) == [float(large.sum())]
    watched.workers.close()


class Holds:
    """A station with an array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def warm_up(self) -> None:
        pass

    def __call__(self, tensors: object) -> list[float]:
        return [float(self.array.sum())]


@pytest.mark.parametrize("address", ["", "head", "head:", "head:0", "http://head:6379"])
def test_a_clusters_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(BadParameter):
        ClusterType().convert(address, None, None)
    assert ClusterType().convert("auto", None, None) == "auto"
    assert ClusterType().convert("head:6379", None, None) == "head:6379"


def test_a_bridge_that_does_not_end_is_ended_with_all_that_it_has_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process that Ray starts for the bridge holds its standard error, whose reader would wait for its end."""
    pid = tmp_path / "pid"
    monkeypatch.setattr(pool_module, "BRIDGE", ["sh", "-c", f"trap '' TERM; sleep 600 & echo $! > {pid}; wait"])
    monkeypatch.setattr(pool_module, "CLOSE_S", 1.0)
    bridge = pool_module._Bridge("setup")  # type: ignore[arg-type]
    while not (pid.exists() and pid.read_text().strip()):
        time.sleep(0.02)
    bridge.close()
    assert not any(thread.is_alive() for thread in bridge._threads), "what holds its standard error goes on"
