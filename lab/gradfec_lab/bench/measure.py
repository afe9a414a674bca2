"""What every benchmark shares: a description of the machine, and how to measure a time."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

CPUINFO = Path("/proc/cpuinfo")


def machine(*libraries: str) -> dict[str, Any]:
    """Describe this machine as it is now: processor, cores, load, system, Python, and versions of the libraries.

    A library that is not installed has the version None. The load is that of the last minute and of all processes; if
    it is not near 0, times are too long.
    """
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: installed_version(name) for name in libraries},
    }


def in_words(described: dict[str, Any]) -> str:
    """Write what `machine` returned in one line."""
    versions = ", ".join(f"{name} {found or 'not installed'}" for name, found in described["libraries"].items())
    return (
        f"{described['cores']} cores of {described['cpu']}, load {described['load']:g}, {described['system']}, "
        f"Python {described['python']}, {versions}"
    )


def cpu_model() -> str:
    """Return the processor's name from Linux, or else from Python."""
    lines: Iterable[str] = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def installed_version(library: str) -> str | None:
    """Return an installed distribution's version, or None."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def median_ms(function: Callable[[], object], runs: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Call a function once to warm up and then `runs` times; return the median time in milliseconds.

    With `time.process_time` as the clock, it is the CPU time of all threads together, which hardly depends on other
    processes.
    """
    function()
    times = []
    for _ in range(runs):
        start = clock()
        function()
        times.append(1000 * (clock() - start))
    return float(np.median(times))
