"""Worker pools, which run back-ends. Each is one small file here and one line in WORKERS; `pool` has the interface."""

from __future__ import annotations

from gradfec_cloud.workers.local import LocalWorkers
from gradfec_cloud.workers.pool import OpenWorkers

WORKERS: dict[str, OpenWorkers] = {"local": LocalWorkers}  # by name; read whenever a pool is opened
