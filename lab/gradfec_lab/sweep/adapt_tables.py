"""The tables of `gradfec sweep adapt`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradfec_lab.sweep.report import Grid


def step_table(step: Mapping[str, Any], averaged: int) -> Grid:
    """Return the frames that it takes to follow a step of the loss, from means of `averaged` frames."""
    agreement, size = step["agreement"], step["bytes"]
    line = [
        f"{100 * agreement['without']:.1f}",
        f"{100 * agreement['during']:.1f}",
        str(step["frames_until_right"]),
        f"{size['without']:,.0f}",
        f"{size['during']:,.0f}",
        str(step["frames_until_cheap"]),
    ]
    header = [
        *("agreement at 2 %", "at 25 %", "frames until within 2 points"),
        *("bytes at 2 %", "at 25 %", "frames until back within a tenth"),
    ]
    title = f"From 2 to 25 % lost, and back; means of {step['drives']} drives and {averaged} frames"
    return Grid(title, header, [line], 0)


def regret_table(regrets: Sequence[Mapping[str, Any]], most_bytes: int) -> Grid:
    """Return `auto` beside the best fixed plan, a row for each link."""
    lines = []
    for row in regrets:
        fixed = ["-"] * 4
        if "fixed" in row:
            regret = row["fixed_agreement"] - row["agreement"]
            agreement, size = f"{100 * row['fixed_agreement']:.1f}", f"{row['fixed_bytes']:,.0f}"
            fixed = [row["fixed"], agreement, size, f"{100 * regret:+.1f}"]
        lines.append([row["link"], f"{100 * row['agreement']:.1f}", f"{row['bytes']:,.0f}", *fixed])
    header = ["link", "auto, %", "bytes", "the best fixed plan", "%", "bytes", "regret, points"]
    title = f"Agreement with the uncut network over all frames, at most {most_bytes:,} bytes a frame"
    return Grid(title, header, lines)


def request_table(requests: Sequence[Mapping[str, Any]], most_bytes: int) -> Grid:
    """Return `auto` with and without requests for more, a row for each loss."""
    lines = []
    for row in requests:
        runs = f"in runs of {row['burst']:g}" if row["burst"] else "independent"
        cells = [
            cell
            for name in ("with", "without")
            for cell in (
                f"{100 * row[name]['agreement']:.1f}",
                f"{row[name]['bytes']:,.0f}",
                f"{row[name]['late_ms']:.0f}",
            )
        ]
        lines.append([f"{row['loss']:.0%}, {runs}", *cells])
    header = ["lost", "with requests, %", "bytes", "p95, ms", "without, %", "bytes", "p95, ms"]
    title = f"Requests for more, a round trip of 80 ms, a deadline of 500 ms, at most {most_bytes:,} bytes a frame"
    return Grid(title, header, lines)
