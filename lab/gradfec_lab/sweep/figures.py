"""The sweeps' figures, as PNG: the paper's Figures 5 and 6, answers by quantiser, and by bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from itertools import cycle
from string import digits
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from gradfec_lab.sweep.report import Row

# Okabe and Ito's colours, which colour-blind people can tell apart
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#8C8C8C",
)  # fmt: skip
OF_ESTIMATOR = {
    "gradcam": BLACK,
    "gradcam-label": GREY,
    "proxy": BLUE,
    "energy": RED,
    "order": GREEN,
    "proxy-paper": SKY,
    "deviation": RED,
    "static": GREEN,
    "activation": ORANGE,
    "random": PINK,
}
OF_FILL = {
    "zero": BLACK,
    "mean": GREY,
    "neighbour": ORANGE,
    "inpaint": PINK,
    "caltec": GREEN,
    "altec": SKY,
    "gaussian": BLUE,
    "silrtc": RED,
    "halrtc": RED,
}
OF_CODEC = (BLUE, RED, GREEN, ORANGE, PINK, SKY, BLACK)
MARKERS = "osD^vPX*"  # to tell lines apart without colour
ORACLES = {"gradcam", "gradcam-label"}
PANEL = (4.6, 3.6)  # inches
BAND = 0.15  # opacity of an interval
ORDER_TITLES = {"least": "least important first", "most": "most important first"}


def importance_figure(rows: list[Row]) -> bytes:
    """Draw Figure 5: agreement against the dropped share; a panel an order and fill, a line an estimator."""
    orders, fills = distinct(rows, "order"), distinct(rows, "fill")
    figure, panels = make_panels(len(fills), len(orders))
    estimators = distinct(rows, "estimator")
    for i, fill in enumerate(fills):
        for j, order in enumerate(orders):
            axes = panels[i][j]
            for number, estimator in enumerate(estimators):
                own = [r for r in rows if (r["fill"], r["order"], r["estimator"]) == (fill, order, estimator)]
                colour = OF_ESTIMATOR.get(estimator, GREY)
                draw_line(axes, own, "drop", estimator, colour, number, dashed=estimator in ORACLES)
            axes.set_title(f"{ORDER_TITLES[order]}, {fill} fill", fontsize="medium")
            label_axes(axes, "packets dropped", j == 0, i == len(fills) - 1)
    return finish(figure, panels, len(estimators))


def protection_figure(rows: list[Row]) -> bytes:
    """Draw Figure 6: agreement against loss, a line for each policy.

    A column of panels is a burst length; the rows vary everything else.
    """
    varied = ("codec", "packets", "code", "importance", "fill")
    across = distinct(rows, "burst")
    down = [*dict.fromkeys(tuple(row[name] for name in varied) for row in rows)]
    policies = distinct(rows, "policy")
    colours = policy_colours(policies)
    figure, panels = make_panels(len(down), len(across))
    for i, kind in enumerate(down):
        of_kind = [row for row in rows if tuple(row[name] for name in varied) == kind]
        codec, packets, code, estimator, fill = kind
        for j, burst in enumerate(across):
            axes = panels[i][j]
            for number, policy in enumerate(policies):
                own = [row for row in of_kind if (row["burst"], row["policy"]) == (burst, policy)]
                draw_line(axes, own, "loss", policy, colours[policy], number, dashed=policy == "none")
            words = "independent losses" if burst == "iid" else f"bursts of {burst}"
            groups = "one code word" if code == "leopard" else f"groups of {code}"
            axes.set_title(
                f"{words}, {groups}\n{codec}, packets a datagram: {packets}, {estimator}, {fill} fill",
                fontsize="medium",
            )
            label_axes(axes, "datagrams lost", j == 0, i == len(down) - 1)
    return finish(figure, panels, len(policies))


def quantise_figure(rows: list[Row]) -> bytes:
    """Draw agreement, and top-1 if there are labels, against bits an element; a line for each kind of levels."""
    figure, panels = make_panels(1, 1)
    axes = panels[0][0]
    measures = [(name, label) for name, label in (("agreement", "agreement"), ("top1", "top-1")) if name in rows[0]]
    kinds = [*dict.fromkeys(kind_of(row["quantiser"]) for row in rows)]
    for number, (kind, colour) in enumerate(zip(kinds, cycle((BLUE, RED, GREEN, ORANGE, PINK)))):
        own = [row for row in rows if kind_of(row["quantiser"]) == kind]
        for name, label in measures:
            draw_line(axes, own, "bits", f"{kind}, {label}", colour, number, dashed=name == "top1", measure=name)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("bits an element")
    axes.set_ylabel("answers")
    return finish(figure, panels, 2)


def rate_figure(rows: list[Row]) -> bytes:
    """Draw agreement, and top-1 if there are labels, against bytes a frame; a panel for each, a line for each codec."""
    measures = [(name, label) for name, label in (("agreement", "agreement"), ("top1", "top-1")) if name in rows[0]]
    figure, panels = make_panels(1, len(measures))
    codecs = distinct(rows, "codec")
    for axes, (name, label) in zip(panels[0], measures, strict=True):
        for number, (codec, colour) in enumerate(zip(codecs, cycle(OF_CODEC))):
            own = [row for row in rows if row["codec"] == codec]
            draw_line(axes, own, "bytes", short(codec), colour, number, measure=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda size, position: f"{size / 1000:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("kB a frame")
        axes.set_ylabel(label)
    return finish(figure, panels, len(codecs))


def kept_figure(rows: list[Row]) -> bytes:
    """Draw agreement against the share of the bytes that is kept; a line an estimator."""
    figure, panels = make_panels(1, 1)
    (axes,) = panels[0]
    estimators = distinct(rows, "estimator")
    for number, estimator in enumerate(estimators):
        own = [row for row in rows if row["estimator"] == estimator]
        colour = OF_ESTIMATOR.get(estimator, GREY)
        draw_line(axes, own, "kept", estimator, colour, number, dashed=estimator in ORACLES)
    label_axes(axes, "share of the bytes that is kept", first=True, last=True)
    return finish(figure, panels, len(estimators))


def equal_bytes_figure(rows: list[Row], across: list[int]) -> bytes:
    """Draw agreement against loss, a line for each codec.

    A column of panels is a number of bytes, of those in `across`, and a row a kind of losses. A codec with bytes of its
    own is dashed, in every panel.
    """
    codecs, bursts = distinct(rows, "codec"), distinct(rows, "burst")
    sizes = {codec: distinct([row for row in rows if row["codec"] == codec], "bytes") for codec in codecs}
    figure, panels = make_panels(len(bursts), len(across))
    for i, burst in enumerate(bursts):
        for j, size in enumerate(across):
            axes = panels[i][j]
            for number, (codec, colour) in enumerate(zip(codecs, cycle(OF_CODEC))):
                reference = not {*sizes[codec]} & {*across}
                own_size = sizes[codec][0] if reference else size
                key = (codec, burst, own_size)
                own = [row for row in rows if (row["codec"], row["burst"], row["bytes"]) == key]
                label = f"{short(codec)}, {own_size:,} bytes" if reference else short(codec)
                draw_line(axes, own, "loss", label, colour, number, dashed=reference)
            words = "independent losses" if burst == "iid" else f"bursts of {burst}"
            axes.set_title(f"{size:,} bytes a frame, {words}", fontsize="medium")
            label_axes(axes, "datagrams lost", j == 0, i == len(bursts) - 1)
    return finish(figure, panels, len(codecs))


def concealment_figure(rows: list[Row]) -> bytes:
    """Draw agreement against loss, a line for each concealment; a row of panels a policy, a column a burst length."""
    policies, bursts, fills = (distinct(rows, name) for name in ("policy", "burst", "fill"))
    figure, panels = make_panels(len(policies), len(bursts))
    for i, policy in enumerate(policies):
        for j, burst in enumerate(bursts):
            axes = panels[i][j]
            for number, fill in enumerate(fills):
                own = [row for row in rows if (row["policy"], row["burst"], row["fill"]) == (policy, burst, fill)]
                draw_line(axes, own, "loss", fill, OF_FILL.get(fill, GREY), number, dashed=fill == "zero")
            words = "independent losses" if burst == "iid" else f"bursts of {burst}"
            axes.set_title(f"{policy}, {words}", fontsize="medium")
            label_axes(axes, "datagrams lost", j == 0, i == len(policies) - 1)
            axes.set_xlim(0, max(row["loss"] for row in rows))
    return finish(figure, panels, len(fills))


def short(codec: str) -> str:
    """Return a codec's name without the folders of a file."""
    return codec.rpartition("/")[2]


def kind_of(quantiser: str) -> str:
    """Return a quantiser's name without its bits."""
    return quantiser.rstrip(digits)


def distinct(rows: Iterable[Row], name: str) -> list[Any]:
    """Return the distinct values of a field, in order."""
    return [*dict.fromkeys(row[name] for row in rows)]


def policy_colours(policies: list[str]) -> dict[str, Any]:
    """Colour policies from light to dark, in order; `none` is black."""
    shade: Callable[[float], Any] = colormaps["viridis_r"]
    others = [policy for policy in policies if policy != "none"]
    colours = {policy: shade(0.12 + 0.8 * i / max(len(others) - 1, 1)) for i, policy in enumerate(others)}
    return {"none": BLACK, **colours}


def make_panels(down: int, across: int) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with (down, across) panels on the same scale."""
    figure = Figure(figsize=(PANEL[0] * across, PANEL[1] * down + 0.6), layout="constrained", dpi=150)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    return figure, [[*line] for line in grid]


def draw_line(
    axes: Axes,
    rows: list[Row],
    x: str,
    label: str,
    colour: Any,
    number: int,
    dashed: bool = False,
    measure: str = "agreement",
) -> None:
    """Draw a measure against `x` as a line, with its interval shaded."""
    rows = sorted(rows, key=lambda row: row[x])
    xs = [row[x] for row in rows]
    axes.fill_between(
        xs, [row[f"{measure}_low"] for row in rows], [row[f"{measure}_high"] for row in rows],
        color=colour, alpha=BAND, linewidth=0,
    )  # fmt: skip
    axes.plot(
        xs, [row[measure] for row in rows], color=colour, label=label, linestyle="--" if dashed else "-",
        linewidth=1.6, marker=MARKERS[number % len(MARKERS)], markersize=4,
    )  # fmt: skip


def label_axes(axes: Axes, x: str, first: bool, last: bool) -> None:
    """Set axes from 0 to 100 %, with labels at the figure's left and bottom."""
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    if first:
        axes.set_ylabel("agreement with lossless")
    if last:
        axes.set_xlabel(x)


def finish(figure: Figure, panels: list[list[Axes]], columns: int) -> bytes:
    """Add grid, percent axis and legend; return the PNG."""
    for axes in (axes for line in panels for axes in line):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0][0].get_legend_handles_labels()
    columns = min(columns, 3 * len(panels[0]))  # as many as fit
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # the same rows give the same bytes
    return buffer.getvalue()
