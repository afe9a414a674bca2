"""The pool of Ray actors on a real cluster, of one machine: the contract of pools, and a worker that is killed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.cloud.workers import test_contract as contract
from tests.cloud.workers.stub import coding, loaders
from tests.cloud.workers.test_contract import CHI, DOUBLE, TRIPLE, Multiply, Pool
from tests.cloud.workers.test_ray_pool import Holds, Lines, Watched

from gradfec_cloud.workers.pool import Done, back_end_name
from gradfec_cloud.workers.ray.pool import RayOptions, RayWorkers
from gradfec_common.protect import UNKNOWN_LINK
from gradfec_common.reassembly import Reassembly

pytest.importorskip("ray")

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("GRADFEC_HOME", str(tmp_path_factory.mktemp("home")))
        cluster = Cluster(True, head_node_args={"num_cpus": 4, "object_store_memory": 80 * 2**20})
        yield str(cluster.address)
        cluster.shutdown()


@pytest.fixture(scope="module")
def log() -> Lines:
    return Lines()


@pytest.fixture(scope="module")
def pool(address: str, log: Lines) -> Iterator[Pool]:
    stations = {DOUBLE: partial(Multiply, 2), TRIPLE: partial(Multiply, 3), **loaders(0.0)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contract, "opener", lambda name: partial(RayWorkers, RayOptions(address, 2, 2), log))
        made = Pool("ray", stations)
        yield made
        made.workers.close()


test_order = contract.test_a_batch_comes_back_once_with_a_row_for_each_tensor_in_its_order
test_names = contract.test_each_batch_passes_through_its_own_back_end_however_many_there_are
test_errors = contract.test_an_error_comes_back_as_such_and_the_pool_goes_on
test_give_up = contract.test_a_lease_that_has_come_back_or_never_began_can_be_given_up


def test_a_frame_is_decoded_by_the_worker(pool: Pool) -> None:
    coded = coding()
    features = CHI.repeat(coded.cut.elements)[: coded.cut.elements].reshape(coded.cut.shape)
    encoded = coded.encode(features, CHI.repeat(coded.grid.count)[: coded.grid.count], None, UNKNOWN_LINK, map)
    bodies = encoded.bodies(7)
    arrived = Reassembly(bodies[-1].tobytes(), coded.grid)
    arrived.add(bodies[2:])
    (outputs,) = pool.run((back_end_name(coded.cut), [arrived]))
    assert isinstance(outputs, list)
    (done,) = outputs
    assert isinstance(done, Done) and done.error is None and done.output is not None
    assert done.output.shape == (1000,) and done.recovered + done.missing > 0 and done.found is not None


def test_a_worker_that_is_killed_costs_no_batch_and_is_restarted_by_ray(pool: Pool, log: Lines) -> None:
    pool.run(*[(DOUBLE, CHI)] * 4)
    ready = [line for line in log.said if "is ready" in line]
    os.kill(int(re.findall(r"process (\d+)", ready[-1])[0]), signal.SIGKILL)
    for outputs in pool.run(*[(TRIPLE, CHI)] * 8):
        np.testing.assert_array_equal(outputs, 3 * CHI.reshape(3, 4))
    while pool.workers.crew.ready < 2:
        assert pool._grew.wait(contract.SOON_S)
        pool._grew.clear()
    assert pool.workers.crew.lost["died"] >= 1
    assert len([line for line in log.said if "is ready" in line]) > len(ready)


def test_arrays_of_a_model_come_with_the_workers(address: str, tmp_path: Path) -> None:
    large = np.arange(100_000, dtype=np.float32)
    watched = Watched(2, partial(Holds, large), address=address)
    watched.until(lambda: watched.workers.crew.ready == 2)
    assert watched.ask(1) == [float(large.sum())]
    kept = [path for path in (Path(os.environ["GRADFEC_HOME"]) / "workers").iterdir() if path.name[0] != "."]
    assert large.tobytes() in [path.read_bytes() for path in kept]
    watched.workers.close()
