"""What a run is worth: which frames have the right answer in time, how late answers come, and what was sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradfec_lab.bench.rivals.footage import LEAD_IN, Footage
from gradfec_lab.bench.rivals.rival import Flow

Row = dict[str, Any]
LIMITS_MS = (300, 1000)
Z = 1.959964  # of a 95 % interval


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's score (JASA 22, 1927); it holds near 0 and 1, too."""
    share, spread = hits / count, Z * Z / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def score(flow: Flow, footage: Footage, classes: Mapping[str, int] | None) -> Row:
    """Return the row of a run, over the frames after the lead-in: all that were taken, answered or not.

    `classes` are the photographs' true classes; with them, the row has a top-1.
    """
    taken = range(LEAD_IN, len(footage.frames))
    there = {number: flow.answers[number] for number in taken if number in flow.answers}
    row: Row = {"plan": flow.plan, "frames": len(taken), "answered": len(there)}
    for limit in LIMITS_MS:
        in_time = {number: answer.class_index for number, answer in there.items() if answer.latency_ms <= limit}
        hits = sum(bool(footage.truth[number] == index) for number, index in in_time.items())
        row |= share(f"within_{limit}_ms", hits, len(taken))
        if classes is not None:
            hits = sum(classes[footage.sources[number]] == index for number, index in in_time.items())
            row |= share(f"top1_within_{limit}_ms", hits, len(taken))
    latencies = [answer.latency_ms for answer in there.values()]
    for q in (50, 95):
        row[f"p{q}_ms"] = round(float(np.percentile(latencies, q)), 1) if latencies else None
    row["kbit_s"] = round(8 * flow.up_bytes / footage.seconds / 1000, 1)
    return row


def share(name: str, hits: int, count: int) -> Row:
    """Return a share and its interval as members of a row."""
    low, high = wilson(hits, count)
    return {name: round(hits / count, 6), f"{name}_low": round(low, 6), f"{name}_high": round(high, 6)}
