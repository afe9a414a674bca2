"""Worker pools, which run back-ends. Each is one small file here and one line in WORKERS; `pool` has the interface."""

from __future__ import annotations

from gradfec_cloud.workers.local import LOCAL
from gradfec_cloud.workers.pool import WorkersKind
from gradfec_cloud.workers.ray import RAY

WORKERS: dict[str, WorkersKind] = {kind.name: kind for kind in (LOCAL, RAY)}  # by name; read whenever a pool is opened
