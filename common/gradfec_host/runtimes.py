"""The runtimes for the two halves of a network: LiteRT, or TensorFlow through Keras. Either one is enough.

Imported networks always run on ONNX Runtime.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from gradfec_common.errors import UsageError

AUTO, LITERT, TENSORFLOW = "auto", "litert", "tensorflow"
NO_RUNTIME = "none"  # nothing to run
ONNX = "onnx"
RUNTIMES = {LITERT: "ai_edge_litert", TENSORFLOW: "tensorflow"}  # their packages, the one that starts faster first


def cores() -> int:
    """Return how many cores this process may use: those it is bound to, and at most $OMP_NUM_THREADS."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = os.environ.get("OMP_NUM_THREADS", "")  # set by people, and by Ray for its workers
    return max(min(here, int(most)), 1) if most.isdecimal() else here


def installed() -> list[str]:
    """Return the installed runtimes; `auto` means the first of them."""
    return [runtime for runtime, package in RUNTIMES.items() if find_spec(package)]


def choose_runtime(name: str = AUTO) -> str:
    """Return the runtime `name`, or for `auto` the first that is installed; UsageError if it is not installed."""
    found = installed()
    if name == AUTO and found:
        return found[0]
    if name not in found:
        wanted = LITERT if name == AUTO else name
        there = f"installed: {', '.join(found)}" if found else "no other runtime is installed either"
        raise UsageError(f"{wanted} is not installed: pip install 'gradfec[{wanted}]'; {there}")
    return name
