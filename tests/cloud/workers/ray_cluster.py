"""A real Ray cluster on this machine: each of its machines is a raylet of its own, and each worker a process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STORE_BYTES = 80 * 2**20
SOON_S = 60.0


@contextmanager
def cluster(machines: int, cpus: int = 2) -> Iterator[Any]:
    """Run a head without room for workers, and some machines with room for `cpus`."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_enable_metrics_collection", "0")
    os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    try:
        for _ in range(machines):
            running.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES)
        yield running
    finally:
        running.shutdown()
