"""A plan for people: a table, a sentence and a figure for each link, and JSON."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gradfec_common.splits import Conditions, Expected, Wanted, Way, ranked
from gradfec_lab.sweep.report import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEADER = ["", "split", "codec", "edge\nms", "link\nms", "cloud\nms", "in all\nms", "kB", "agreement", "but"]
LEAST = {"latency": "the fastest", "energy": "the least time at the edge", "bytes": "the fewest bytes"}
DEADLINE_S = 0.5  # of a cloud by default
CLIPPED = 6  # times the chosen latency: longer bars are cut off
ROOM = 1.12  # times the longest bar, for its number
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8C8C8C"  # Okabe and Ito's
SLOW = "////"  # the hatch of a way that is too slow
PARTS = {"edge": BLUE, "link": ORANGE, "cloud": GREEN}


def ms(seconds: float) -> str:
    """Write seconds as milliseconds."""
    return f"{1000 * seconds:,.0f}" if seconds >= 0.01 else f"{1000 * seconds:.1f}"


def link_in_words(link: Conditions) -> str:
    """Write a link's rate, loss and round trip, each with its unit."""
    rate = f"{link.bits_per_s / 1e6:g} Mbit/s" if link.bits_per_s >= 1e6 else f"{link.bits_per_s / 1e3:g} kbit/s"
    return f"{rate}, {100 * link.loss:g} % lost, {1000 * link.round_trip_s:g} ms there and back"


def grid(rows: Sequence[Expected], link: Conditions, wanted: Wanted, most: int | None) -> Grid:
    """Return the table, the best first, of at most `most` rows."""
    lines = []
    for place, one in enumerate(rows[:most]):
        notes = ["differs"] if one.agreement < wanted.min_agreement else []
        notes += [] if one.in_time(wanted.interval_s) else ["too slow"]
        way = one.way
        parts = [*map(ms, (way.edge_s, one.link_s, way.cloud_s, one.latency_s))]
        kept = f"{one.bytes / 1000:.1f}", f"{one.agreement:.1%}", ", ".join(notes)
        lines.append(["" if place else "->", way.cut, way.coded, *parts, *kept])
    return Grid(link_in_words(link), HEADER, lines, names=3)


def sentence(rows: Sequence[Expected], wanted: Wanted, photographs: int) -> str:
    """Return the choice, why it is best, and what it needs."""
    best, enough = rows[0], [one for one in rows if one.agreement >= wanted.min_agreement]
    way = best.way
    said = (
        f"{way.name}: {ms(best.latency_s)} ms (edge {ms(way.edge_s)}, link {ms(best.link_s)}, cloud "
        f"{ms(way.cloud_s)}), {best.bytes / 1000:.1f} kB, {best.agreement:.0%} of the answers to "
        f"{photographs} photographs as uncut"
    )
    if enough:
        said += f"; {LEAST[wanted.goal]} of the {len(enough)} of {len(rows)} that keep {wanted.min_agreement:.0%}"
    else:
        said += f"; none keeps {wanted.min_agreement:.0%} over this link, and this one keeps most"
    if wanted.interval_s is not None and not best.in_time(wanted.interval_s):
        times = {"the edge": way.edge_s, "the link": best.sending_s, "the cloud": way.cloud_s}
        slowest = max(times, key=times.__getitem__)
        said += (
            f"; but {slowest} needs {ms(times[slowest])} ms a frame: {1 / wanted.interval_s:.3g} frames/s do not pass, "
            f"{1 / times[slowest]:.2g} do"
        )
    if best.sending_s > DEADLINE_S:
        said += f"; the cloud must wait for a whole frame, with --deadline-ms {100 * math.ceil(12 * best.sending_s)}"
    return said


def packed(rows: Sequence[Expected], link: Conditions, wanted: Wanted, photographs: int) -> dict[str, Any]:
    """Return the plan for one link as JSON has it."""
    listed = [
        {
            "cut": one.way.cut,
            "codec": one.way.codec,
            "quality": one.way.quality,
            "edge_ms": round(1000 * one.way.edge_s, 3),
            "link_ms": round(1000 * one.link_s, 3),
            "cloud_ms": round(1000 * one.way.cloud_s, 3),
            "latency_ms": round(1000 * one.latency_s, 3),
            "bytes": round(one.bytes),
            "agreement": round(one.agreement, 4),
            "in_time": one.in_time(wanted.interval_s),
        }
        for one in rows
    ]
    return {
        "link": link._asdict(),
        **asdict(wanted),
        "choice": listed[0],
        "why": sentence(rows, wanted, photographs),
        "ways": listed,
    }


def figure(title: str, ways: Sequence[Way], links: Sequence[Conditions], wanted: Wanted) -> bytes:
    """Return the drawing as a PNG."""
    buffer = io.BytesIO()
    drawing(title, ways, links, wanted).savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def drawing(title: str, ways: Sequence[Way], links: Sequence[Conditions], wanted: Wanted) -> Figure:
    """Draw the best way at each cut: its latency, and beside it its agreement; a row of panels a link."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    cuts = [*dict.fromkeys(way.cut for way in ways)]
    drawn = Figure(figsize=(9, (0.24 * len(cuts) + 1.1) * len(links)), layout="constrained", dpi=150)
    panels = drawn.subplots(len(links), 2, sharey="row", squeeze=False, width_ratios=(3, 1))
    for (times, kept), link in zip(panels, links, strict=True):
        rows = ranked(ways, link, wanted)
        best = [next(one for one in rows if one.way.cut == cut) for cut in cuts]
        _draw_times(times, best, rows[0], wanted.interval_s)
        times.set_title(f"{title}: {link_in_words(link)}", fontsize=9, loc="left")
        _draw_agreement(kept, best, wanted.min_agreement)
        for axes in (times, kept):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(axis="x", labelsize=7)
    panels[-1][0].set_xlabel("ms a frame", fontsize=8)
    panels[-1][1].set_xlabel("answers as uncut", fontsize=8)
    handles = [Patch(color=colour, label=name) for name, colour in PARTS.items()]
    if wanted.interval_s is not None:
        slow = f"too slow for {1 / wanted.interval_s:.3g} frames/s"
        handles.append(Patch(facecolor=GREY, edgecolor="white", linewidth=0, hatch=SLOW, label=slow))
    panels[0][0].legend(handles=handles, fontsize=7, frameon=False, loc="lower right")
    return drawn


def _draw_times(axes: Axes, best: Sequence[Expected], chosen: Expected, interval_s: float | None) -> None:
    """Draw a bar for each way, of its times one after the other, with the sum beside it; hatched if it is too slow."""
    hatches = ["" if one.in_time(interval_s) else SLOW for one in best]
    at = range(len(best))
    parts = [[1000 * seconds for seconds in (one.way.edge_s, one.link_s, one.way.cloud_s)] for one in best]
    left = [0.0] * len(best)
    for colour, widths in zip(PARTS.values(), zip(*parts, strict=True), strict=True):
        bars = axes.barh(at, widths, left=left, color=colour, height=0.7)
        for bar, hatch in zip(bars, hatches, strict=True):
            bar.set(hatch=hatch, edgecolor="white", linewidth=0)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    end = min(CLIPPED * 1000 * chosen.latency_s, ROOM * max(left))
    for place, total in enumerate(left):
        if total > end:
            axes.text(end, place, f"{total:,.0f} ms ▸ ", va="center", ha="right", fontsize=7, color="white")
        else:
            axes.text(total, place, f" {total:,.0f} ms", va="center", fontsize=7)
    axes.set_yticks(at, [f"{one.way.cut}, {one.way.coded}" for one in best], fontsize=7)
    axes.get_yticklabels()[best.index(chosen)].set_fontweight("bold")
    axes.invert_yaxis()
    axes.set_xlim(0, end)


def _draw_agreement(axes: Axes, best: Sequence[Expected], least: float) -> None:
    from matplotlib.ticker import PercentFormatter

    colours = [GREEN if one.agreement >= least else RED for one in best]
    axes.scatter([one.agreement for one in best], range(len(best)), c=colours, s=18, zorder=3)
    axes.axvline(least, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xlim(-0.03, 1.03)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
