"""The charts of an edge's last minutes, as options for Apache ECharts. Colours come from the style sheet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from gradfec_web.history import BUCKET_S, KEPT_S, Figures
from gradfec_web.words import number, percent, span, with_unit

Options = dict[str, Any]
REST = "network and waiting"  # the part of the latency that belongs to no stage
Point = tuple[float, Figures]  # Unix time, and the figures at that time
Values = dict[str, float | None]  # at one time, by series


@dataclass(frozen=True)
class Chart:
    """A chart of the live page: which figures it draws over time, in which unit and colours."""

    title: str
    unit: str
    values: Callable[[Figures], Values]
    write: Callable[[float | None], str]  # formats a value
    colours: tuple[str, ...]  # variables of the style sheet, in turn
    stacked: bool = False
    suffix: str = ""  # after a value


def latency_by_stage(of: Figures) -> Values:
    """Split the latency into its stages and the rest."""
    if of.latency_ms is None:
        return {}
    rest = max(of.latency_ms - sum(of.stages_ms.values()), 0.0)
    return {**{name.replace("_", " "): ms for name, ms in of.stages_ms.items()}, REST: rest}


CHARTS = (
    Chart("Frame rate", "a second", lambda of: {"frames": of.fps}, lambda v: number(v, 1), ("--c1",)),
    Chart(
        "Latency by stage",
        "ms",
        latency_by_stage,
        lambda v: with_unit(v, "ms"),
        ("--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8", "--c9"),
        stacked=True,
        suffix=" ms",
    ),
    Chart(
        "Loss",
        "% of the datagrams that the cloud has reported on",
        lambda of: {"lost": None if of.loss is None else 100 * of.loss},
        lambda v: percent(None if v is None else v / 100),
        ("--lost",),
        suffix=" %",
    ),
    Chart(
        "Burst length",
        "datagrams lost in a row, on average",
        lambda of: {"in a row": of.burst},
        lambda v: number(v, 1),
        ("--c4",),
    ),
    Chart(
        "Recovered and missing",
        "packets a frame",
        lambda of: {"recovered": of.recovered, "missing": of.missing},
        number,
        ("--recovered", "--unrecovered"),
        stacked=True,
    ),
)


# As `words.number` writes it.
WRITE = "value.toLocaleString('en', {maximumFractionDigits: %d}).replaceAll(',', '\N{NARROW NO-BREAK SPACE}')"


def colours(chart: Chart, past: Sequence[Point]) -> dict[str, str]:
    """Return the colour of each series, a variable of the style sheet."""
    names = dict.fromkeys(name for _, figures in past for name in chart.values(figures))
    turns = cycle(chart.colours)
    return {name: "--rest" if name == REST else next(turns) for name in names}


def options(chart: Chart, past: Sequence[Point], now: float) -> Options:
    """Return the chart's options for ECharts."""
    points = [(at, values) for at, figures in past if _known(values := chart.values(figures))]
    return {
        "animation": False,
        "grid": {"left": 44, "right": 12, "top": 12, "bottom": 24},
        "tooltip": {
            "trigger": "axis",
            "confine": True,
            "backgroundColor": "var(--card)",
            "borderColor": "var(--line)",
            "textStyle": {"color": "var(--ink)", "fontSize": 12},
            ":valueFormatter": f"value => {WRITE % 1} + '{chart.suffix}'",
        },
        "xAxis": {
            "type": "time",
            "min": 1000 * (now - KEPT_S),
            "max": 1000 * now,
            "axisLine": {"lineStyle": {"color": "var(--line)"}},
            "axisLabel": {"color": "var(--muted)", "hideOverlap": True, "formatter": "{HH}:{mm}"},
            "axisTick": {"show": False},
            "minInterval": 60_000,
        },
        "yAxis": {
            "type": "value",
            "min": 0,
            "splitNumber": 3,
            "splitLine": {"lineStyle": {"color": "var(--line)"}},
            "axisLabel": {"color": "var(--muted)", ":formatter": f"value => {WRITE % 3}"},
        },
        "series": [
            _series(name, colour, points, chart.stacked) for name, colour in colours(chart, past).items() if points
        ],
    }


def _series(name: str, colour: str, points: Iterable[tuple[float, Values]], stacked: bool) -> Options:
    return {
        "type": "line",
        "name": name,
        "data": [[1000 * at, round(values.get(name) or 0.0, 2)] for at, values in points],
        "showSymbol": False,
        "stack": "all" if stacked else None,
        "lineStyle": {"width": 0 if stacked else 2, "color": f"var({colour})"},
        "itemStyle": {"color": f"var({colour})"},
        "areaStyle": {"color": f"var({colour})", "opacity": 0.75 if stacked else 0.12},
        "emphasis": {"disabled": True},
    }


def _known(values: Values) -> bool:
    return any(value is not None for value in values.values())


def in_words(chart: Chart, past: Sequence[Point]) -> str:
    """Describe a chart in words, for people who cannot see it."""
    points = [chart.values(figures) for _, figures in past]
    lines = []
    for name in dict.fromkeys(name for values in points for name in values):
        known = [value for values in points if (value := values.get(name)) is not None]
        if known:
            now, low, high = (chart.write(value) for value in (known[-1], min(known), max(known)))
            lines.append(f"{name} {now} now, {low} to {high}")
    return f"{chart.title}, {chart.unit}, over {span(len(past) * BUCKET_S)}: " + ("; ".join(lines) or "nothing yet")
