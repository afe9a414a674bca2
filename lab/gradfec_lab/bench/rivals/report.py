"""The comparison as a table and as a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from gradfec_host.writing import writing
from gradfec_lab.bench.rivals.score import LIMITS_MS, Row

SUFFIXES = (".png", ".svg", ".pdf")
INCHES_A_LINK, HEIGHT_INCHES = 2.0, 3.6
COLOURS = ("#0072B2", "#D55E00", "#E69F00", "#009E73", "#56B4E9", "#CC79A7", "#8C8C8C")  # Okabe and Ito's
LATE = 0.35  # opacity of what comes within the longer limit


def table(rows: list[Row]) -> Table:
    """Lay the rows out, those of a link together."""
    laid = Table(box=SIMPLE_HEAD)
    for heading in ("link", "rival"):
        laid.add_column(heading, no_wrap=True)
    for heading in ("right within 300 ms", "within 1 s", "p50, ms", "p95, ms", "kbit/s"):
        laid.add_column(heading, justify="right", no_wrap=True)
    with_labels = any(f"top1_within_{LIMITS_MS[-1]}_ms" in row for row in rows)
    if with_labels:
        laid.add_column("top-1 within 1 s", justify="right", no_wrap=True)
    laid.add_column("sent as", overflow="fold")
    for row, before in zip(rows, [None, *rows], strict=False):
        first = before is None or before["link"] != row["link"]
        if first and before is not None:
            laid.add_section()
        labels = [percents(row, f"top1_within_{LIMITS_MS[-1]}_ms")] if with_labels else []
        shares = [percents(row, f"within_{limit}_ms") for limit in LIMITS_MS]
        times = ["" if row.get(name) is None else f"{row[name]:,.0f}" for name in ("p50_ms", "p95_ms", "kbit_s")]
        laid.add_row(row["link"] if first else "", row["rival"], *shares, *times, *labels, in_words(row))
    return laid


def in_words(row: Row) -> str:
    """Return how a rival sent, or why there are no numbers."""
    return f"not measured: {row['not_measured']}" if "not_measured" in row else str(row["plan"])


def percents(row: Row, name: str) -> str:
    """Write a share with its interval: 95 (89–98); nothing without one."""
    if name not in row:
        return ""
    value, low, high = (100 * row[name + end] for end in ("", "_low", "_high"))
    return f"{value:.0f} ({low:.0f}–{high:.0f})"


def figure(rows: list[Row], path: Path) -> None:
    """Draw the shares, a group of bars a link: dark within 300 ms, pale within 1 s; GradfecError if it has no place."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    links, rivals = ([*dict.fromkeys(row[name] for row in rows)] for name in ("link", "rival"))
    drawn = Figure(figsize=(max(INCHES_A_LINK * len(links), 5), HEIGHT_INCHES), layout="constrained", dpi=150)
    axes = drawn.subplots()
    width = 0.85 / len(rivals)
    soon, late = (f"within_{limit}_ms" for limit in LIMITS_MS)
    for number, rival in enumerate(rivals):
        own = [row for row in rows if row["rival"] == rival and soon in row]
        at = np.array([links.index(row["link"]) + (number - (len(rivals) - 1) / 2) * width for row in own])
        colour = COLOURS[number % len(COLOURS)]
        for name, opacity, label in ((late, LATE, None), (soon, 1.0, rival)):
            shares, lows, highs = (np.array([row[name + end] for row in own]) for end in ("", "_low", "_high"))
            # rounding must not make a length negative
            reach = np.maximum([shares - lows, highs - shares], 0)
            style = {"elinewidth": 0.6, "ecolor": "#555555"}
            axes.bar(at, shares, width, color=colour, alpha=opacity, label=label, yerr=reach, error_kw=style)
    axes.set_xticks(range(len(links)), links)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("frames answered as by the uncut model\n(dark: within 300 ms, pale: within 1 s)")
    axes.spines[["top", "right"]].set_visible(False)
    drawn.legend(loc="outside lower center", ncols=min(len(rivals), 7), frameon=False)
    with writing(path):
        drawn.savefig(path)
