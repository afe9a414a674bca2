"""Worker pools, which run back-ends. Each is one small file here and one line in WORKERS; `pool` has the interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from gradfec_cloud.workers.local import LOCAL
from gradfec_cloud.workers.pool import WorkersKind
from gradfec_cloud.workers.ray import RAY

Command = TypeVar("Command", bound=Callable[..., Any])

WORKERS: dict[str, WorkersKind] = {kind.name: kind for kind in (LOCAL, RAY)}  # by name; read whenever a pool is opened


def worker_options(command: Command) -> Command:
    """Give `gradfec-cloud` the options of all pools."""
    for kind in reversed(WORKERS.values()):
        for option in reversed(kind.options):
            command = option(command)
    return command
