"""Daemons that are watched while they run: an edge's answers as they come, anybody's memory."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gradfec_cli.daemons import Daemon
from gradfec_lab.bench.cloud_scale import resident_mb

START_S = 60.0


def until(holds: Callable[[], object], what: str, patience_s: float = START_S) -> float:
    """Wait until something holds; return the seconds that it took, or stop with what was waited for."""
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > patience_s:
            sys.exit(f"waited {patience_s:.0f} s for {what}")
        time.sleep(0.02)
    return time.monotonic() - start


class Edge:
    """An edge that sends frames for ever, and when each record of it came."""

    def __init__(self, name: str, *options: str) -> None:
        """Start it."""
        self.daemon = Daemon("gradfec-edge", ["--name", name, *options, "--results", "-", "--json"])
        self.came: list[tuple[float, dict[str, Any]]] = []
        self.totals: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def answered(self) -> list[float]:
        """When each answer came."""
        return [when for when, record in list(self.came) if record["outcome"] != "timeout"]

    def rate_between(self, start: float, end: float) -> float:
        """Return answers a second in a span of time."""
        return sum(start <= when < end for when in self.answered) / (end - start)

    def stop(self) -> dict[str, Any]:
        """Ask it to stop; return its totals."""
        self.daemon.stop()
        self._thread.join(timeout=10)
        return self.totals

    def _read(self) -> None:
        for line in self.daemon.lines():
            parsed = json.loads(line)
            if "frame" in parsed:
                self.came.append((time.monotonic(), parsed))
            else:
                self.totals = parsed


class Growth(NamedTuple):
    """What became of a process's memory: medians of the halves of `minutes`, and the slope of a straight line."""

    minutes: float
    early_mb: float
    late_mb: float
    mb_a_minute: float

    @property
    def share(self) -> float:
        """How much more memory it used in the second half."""
        return self.late_mb / self.early_mb - 1


class Memory:
    """A process's resident memory over time."""

    def __init__(self, process: Daemon, every_s: float = 1.0) -> None:
        """Watch until `close`."""
        self.samples: list[tuple[float, float]] = []  # time, MB
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(process, every_s), daemon=True)
        self._thread.start()

    def growth(self, warm_up_s: float) -> Growth | None:
        """Compare the halves of a process's life after a warm-up; None where it has not lived for twice as long."""
        if not self.samples or self.samples[-1][0] - self.samples[0][0] < 2 * warm_up_s:
            return None
        mb = np.array([mb for when, mb in self.samples if when >= self.samples[0][0] + warm_up_s])
        minutes = (self.samples[-1][0] - self.samples[0][0] - warm_up_s) / 60
        early, late = np.array_split(mb, 2)
        slope = self.slope_mb_a_minute(self.samples[0][0] + warm_up_s)
        return Growth(
            round(minutes, 1), round(float(np.median(early)), 1), round(float(np.median(late)), 1), round(slope, 3)
        )

    def slope_mb_a_minute(self, since: float) -> float:
        """Return the slope of a straight line through the samples from a time on."""
        later = np.array([sample for sample in self.samples if sample[0] >= since])
        return float(np.polyfit(later[:, 0], later[:, 1], 1)[0] * 60) if len(later) > 2 else 0.0

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        self._thread.join()

    def _watch(self, process: Daemon, every_s: float) -> None:
        while not self._closed.wait(every_s):
            if process.process.poll() is None:
                self.samples.append((time.monotonic(), resident_mb(process)))
