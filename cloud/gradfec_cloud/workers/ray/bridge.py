"""The bridge between a gateway and Ray: a process of its own, because Ray ends its process when the cluster is gone.

    python -m gradfec_cloud.workers.ray.bridge FD

The file descriptor is a socket. `messages` has what both say on it, the gateway `Setup` at first.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from gradfec_cloud.workers.ray.messages import Connected, Died, Order, Ready, Returned, Setup, Work
from gradfec_cloud.workers.ray.worker import WATCH, Worker
from gradfec_host.console import version

PART_BYTES = 90_000  # Ray sends smaller arguments with the call, and puts larger ones into its object store


@dataclass
class _Actor:
    handle: Any
    life: int = 0  # how often it was restarted


class Bridge:
    """Starts actors, calls them, and says what becomes of them."""

    def __init__(self, gateway: Connection, setup: Setup) -> None:
        """Connect to the cluster; ConnectionError and others of Ray's if that fails."""
        self._gateway, self._setup = gateway, setup
        self._saying, self._changing = threading.Lock(), threading.Lock()
        self._actors: dict[int, _Actor] = {}
        self._orders = ThreadPoolExecutor(1, "orders")  # Ray may take long to start an actor
        context = ray.init(address=setup.address, namespace="gradfec", log_to_driver=False, logging_level="error")
        self._arrays = {digest: ray.put(array) for digest, array in setup.parcel.arrays.items()}
        size = {"num_cpus": setup.cpus, "num_gpus": setup.gpus}
        self._actor = ray.remote(**size, concurrency_groups={WATCH: 1}, max_restarts=-1, scheduling_strategy="SPREAD")(
            Worker
        )
        self._say(Connected(str(context.address_info["gcs_address"]), len(ray.nodes())))

    def serve(self) -> None:
        """Do what the gateway says until it closes the connection."""
        while True:
            try:
                message = self._gateway.recv()
            except (EOFError, OSError):
                return
            if isinstance(message, Work):
                self._run(message)
            else:
                self._orders.submit(self._obey, message)

    def _obey(self, order: Order) -> None:
        parcel = self._setup.parcel
        if order.what == "start":
            try:
                handle = self._actor.remote(version(), parcel.loaders, parcel.digests, self._arrays)
            except Exception as error:
                self._say(Died(order.worker, _in_a_line(error), False))
                return
            with self._changing:
                self._actors[order.worker] = _Actor(handle)
            self._greet(order.worker)
            return
        with self._changing:
            actor = self._actors.pop(order.worker, None) if order.what == "stop" else self._actors.get(order.worker)
        if actor is not None:
            ray.kill(actor.handle, no_restart=order.what == "stop")

    def _greet(self, worker: int) -> None:
        """Wait until a worker is there, and say so; then watch over it."""
        actor = self._actors.get(worker)
        if actor is None:
            return
        life = actor.life

        def there(where: str) -> None:
            self._say(Ready(worker, where))
            watching = actor.handle.watch.options(concurrency_group=WATCH).remote()
            _when_done(watching, lambda _: None, lambda error: self._fail(worker, life, error))

        calling = actor.handle.hello.options(max_task_retries=-1).remote()
        _when_done(calling, there, lambda error: self._fail(worker, life, error))

    def _run(self, work: Work) -> None:
        actor = self._actors.get(work.worker)
        if actor is None:
            return
        life = actor.life

        def failed(error: Exception) -> None:
            if isinstance(error, RayTaskError):
                said = pickle.dumps(RuntimeError(_in_a_line(error)))
                self._say(Returned(work.worker, work.lease, said))
            else:
                self._fail(work.worker, life, error)

        parts = [work.tensors[start : start + PART_BYTES] for start in range(0, len(work.tensors), PART_BYTES)]
        _when_done(
            actor.handle.run.remote(work.back_end, *parts),
            lambda outputs: self._say(Returned(work.worker, work.lease, outputs)),
            failed,
        )

    def _fail(self, worker: int, life: int, error: Exception) -> None:
        """Say that a worker has died, once for each of its lives."""
        with self._changing:
            actor = self._actors.get(worker)
            if actor is None or actor.life != life:
                return
            actor.life += 1
            again = not isinstance(error, ActorDiedError | RayTaskError)
            if not again:
                del self._actors[worker]
        self._say(Died(worker, _in_a_line(error), again))
        if again:
            self._greet(worker)

    def _say(self, message: object) -> None:
        with self._saying:
            try:
                self._gateway.send(message)
            except OSError:  # the gateway has ended
                os._exit(0)


def _when_done(ref: Any, well: Callable[[Any], None], badly: Callable[[Exception], None]) -> None:
    """Call one of two functions when a call of an actor is over, from another thread."""

    def done(future: Future[Any]) -> None:
        try:
            found = future.result()
        except RayError as error:
            badly(error)
        else:
            well(found)

    ref.future().add_done_callback(done)


def _in_a_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if isinstance(error, ActorDiedError | RayTaskError) else " ".join(lines))[:300]


def main(descriptor: int) -> None:
    """Serve a gateway; end when it does."""
    gateway = Connection(descriptor)
    bridge = Bridge(gateway, gateway.recv())
    bridge.serve()
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
