"""A worker: an actor, in a process of its own, on any machine of the cluster."""

from __future__ import annotations

import os
import pickle
import platform
import threading
from collections.abc import Mapping
from typing import Any

from gradfec_cloud.workers.pool import BackEndName, Outputs
from gradfec_cloud.workers.ray.parcel import Shelf, unpack
from gradfec_host.console import version

WATCH = "watch"  # the concurrency group of the call that lasts as long as the worker


class Worker:
    """Loads all back-ends, and runs batches, one after the other."""

    def __init__(self, made_by: str, loaders: bytes, digests: tuple[str, ...], arrays: Mapping[str, Any]) -> None:
        """Fetch what this machine lacks of `arrays`, references by digest; RuntimeError for another version's."""
        import ray

        if made_by != version():
            raise RuntimeError(f"the gateway has gradfec {made_by}, and {platform.node()} has {version()}: update one")
        loaded = unpack(loaders, digests, lambda digest: ray.get(arrays[digest]), Shelf())
        self._stations = {name: load() for name, load in loaded.items()}
        for station in self._stations.values():
            station.warm_up()

    def hello(self) -> str:
        """Return where it is."""
        return f"{platform.node()}, process {os.getpid()}"

    def watch(self) -> None:
        """Never return: this call fails when the worker dies."""
        threading.Event().wait()

    def run(self, back_end: BackEndName, *tensors: bytes) -> bytes:
        """Work on the pickled tensors of a batch, in parts; return the pickled outputs or error."""
        outputs: Outputs | Exception
        try:
            outputs = self._stations[back_end](pickle.loads(b"".join(tensors)))
        except Exception as error:
            outputs = error
        try:
            return pickle.dumps(outputs, 5)
        except Exception:  # an error that holds something that cannot travel
            return pickle.dumps(RuntimeError(repr(outputs)), 5)
