"""The figure of `gradfec show` (the paper, Figure 4): a tile is a channel, and a strip in it a packet.

Its first row has the photograph and its features. The others have, for each ranking, which features matter, what is
sent and what arrives.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle

from gradfec_cli.explanation import Answer, Delivery, Explanation, Image, Ranking
from gradfec_cli.loss_models import Mask
from gradfec_cli.oracle import ORACLE
from gradfec_common.heads import agreement
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import Plan
from gradfec_common.transmit import send_order
from gradfec_host.writing import writing
from gradfec_web import words

DROPPED, PROTECTED, BARE = range(3)
FATES = ("dropped by plan", "protected", "sent bare")  # as on the live page
# Okabe and Ito's blue and orange, which colour-blind people can tell apart; dropped packets are grey.
FATE_COLOURS = ("#d0d0d0", "#0072b2", "#e69f00")
PANEL, SIDE, TOP, BETWEEN, BOTTOM = 5.2, 0.2, 1.3, 1.1, 0.85  # inches; a panel is square
READING = (
    "A tile is a channel of the features, and a strip in it a packet. Packets that the plan drops are never sent: "
    "parity takes their place."
)
DPI = 160  # 16 x 16 tiles of 56 x 56 in a panel: nearly a pixel an element
CAME, RECOVERED, MISSING = 1, 2, 3  # for packets that were sent; DROPPED is the same as in a plan
DELIVERED = ("dropped by plan", "arrived", "recovered", "missing")  # as in a frame's record
DELIVERED_COLOURS = ("#d0d0d0", "#0072b2", "#009e73", "#d55e00")
BOX_COLOUR = "#d55e00"
DATAGRAMS = ("data arrived", "parity arrived", "lost")
DATAGRAM_COLOURS = ("#0072b2", "#56b4e9", "#d55e00")
GAP = 3  # elements between two tiles, if they are large
MAX_NAME = 40  # characters of a file's name in the title

Floats = npt.NDArray[np.float32]
Panel = Callable[[Axes], None]


def draw(explanation: Explanation, name: str, full: bool = False) -> Figure:
    """Draw the panels in rows."""
    drawn = panels(explanation, full)
    columns, rows = max(map(len, drawn)), len(drawn)
    width = SIDE + columns * (PANEL + SIDE)
    height = TOP + rows * PANEL + (rows - 1) * BETWEEN + BOTTOM
    figure = Figure((width, height), dpi=DPI)
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        SIDE / width, BOTTOM / height, 1 - SIDE / width, 1 - TOP / height, SIDE / PANEL, BETWEEN / PANEL
    )
    figure.suptitle(title(explanation, name), fontsize=16, y=1 - 0.2 / height, parse_math=False)
    figure.text(0.5, 0.15 / height, READING, ha="center", fontsize=11)
    for row, panels_of_row in zip(axes, drawn, strict=True):
        for axis, panel in zip_longest(row, panels_of_row):
            if panel is None:
                figure.delaxes(axis)
            else:
                bare(axis)
                panel(axis)
    return figure


def panels(explanation: Explanation, full: bool) -> list[list[Panel]]:
    """Return the functions that draw the panels, row by row.

    In full, the first row ends with the link, and the oracle has a row like the estimators. Otherwise the first row
    ends with the oracle's importance.
    """
    oracle = [one for one in explanation.rankings if one.name == ORACLE]
    estimated = [one for one in explanation.rankings if one.name != ORACLE]
    first: list[Panel] = [partial(draw_photograph, explanation=explanation)]
    first.append(partial(draw_features, explanation=explanation))
    if full and explanation.losses:
        first.append(partial(draw_datagrams, explanation=explanation))
    if not full and oracle and estimated:
        first += [partial(draw_importance, ranking=one, explanation=explanation) for one in oracle]
    if explanation.lossless.said.boxes() is not None:
        first.append(partial(draw_found, ranking=explanation.rankings[-1], explanation=explanation))
    shown = explanation.rankings if full or not estimated else estimated
    return [first, *(by_ranking(ranking, explanation) for ranking in shown)]


def by_ranking(ranking: Ranking, explanation: Explanation) -> list[Panel]:
    """Return the functions that draw a ranking's panels: importance, plan, delivery."""
    drawers = [draw_importance, draw_fates, *([draw_delivery] if ranking.delivery else [])]
    return [partial(draw, ranking=ranking, explanation=explanation) for draw in drawers]


def which_matter(ranking: Ranking) -> str:
    """Say what a ranking shows, and whose it is."""
    return f"{words.MATTER}, {words.BY_GRADIENT if ranking.name == ORACLE else f'{words.BY_EDGE} ({ranking.name})'}"


def bare(axis: Axes) -> None:
    """Remove a panel's ticks."""
    axis.set_xticks([])
    axis.set_yticks([])


def save(figure: Figure, out: Path) -> None:
    """Write the figure in the format of the file name's suffix; GradfecError if that fails."""
    drawn = io.BytesIO()  # drawing directly into a file on a full disk fails in strange ways
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file name may have letters that the font lacks
        figure.savefig(drawn, format=out.suffix[1:].lower())
    write(drawn.getvalue(), out)


def write(content: bytes, out: Path) -> None:
    """Write a file; GradfecError if that fails."""
    with writing(out):
        out.write_bytes(content)


def title(explanation: Explanation, name: str) -> str:
    """Return the figure's title: the file, the lossless answer, and the explained class if it is another.

    With a link, a second line has the answer without protection.
    """
    name = name.encode("utf-8", "replace").decode()  # a name that is not UTF-8 has lone surrogates
    text = f"{name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + '…'}: lossless answer {explanation.lossless}"
    if not agreement(explanation.lossless.said, explanation.explained.said):
        text += f", importance for {explanation.explained}"
    if explanation.losses:
        text += f"\nwithout protection, {explanation.losses}: {explanation.verdict(explanation.losses.bare)}"
    return text


def draw_photograph(axis: Axes, explanation: Explanation) -> None:
    """Draw the image, and what the network finds in it if nothing is lost."""
    height, width, _ = explanation.image.shape
    axis.imshow(explanation.image)
    axis.set_title(f"The photograph, as the network sees it: {height} x {width}")
    draw_boxes(axis, explanation.image, explanation.lossless)


def draw_found(axis: Axes, ranking: Ranking, explanation: Explanation) -> None:
    """Draw what the network finds in the image from what the cloud has in the end."""
    answer, when = (ranking.delivery.answer, "after the losses") if ranking.delivery else (ranking.answer, "as planned")
    axis.imshow(explanation.image)
    axis.set_title(f"What it finds {when}\n{explanation.verdict(answer)}")
    draw_boxes(axis, explanation.image, answer)


def draw_boxes(axis: Axes, image: Image, answer: Answer) -> None:
    """Draw the boxes of an answer over an image, each with its label and score, the best on top."""
    height, width, _ = image.shape
    for name, score, (left, top, right, bottom) in reversed(answer.said.boxes() or []):
        x, y = left * width, top * height
        size = (right - left) * width, (bottom - top) * height
        axis.add_patch(Rectangle((x, y), *size, fill=False, edgecolor=BOX_COLOUR, linewidth=2))
        label = f"{words.label(name)} {score:.2f}"
        room = {"facecolor": BOX_COLOUR, "edgecolor": "none", "pad": 1.5}
        axis.text(x, y, label, color="white", fontsize=9, va="bottom", bbox=room, clip_on=True, parse_math=False)


def draw_features(axis: Axes, explanation: Explanation) -> None:
    """Draw the channels; of max(chi, 0) if the back-end sees nothing below zero, else white is zero.

    The largest 0.5 % share one colour, because a few values are far larger.
    """
    signed = not explanation.coding.cut.rectified
    features = explanation.chi if signed else np.maximum(explanation.chi, 0)
    top = float(np.percentile(abs(features), 99.5)) or 1.0
    colours, bottom = ("RdBu_r", -top) if signed else ("viridis", 0.0)
    picture = axis.imshow(mosaic(features), cmap=colours, vmin=bottom, vmax=top)
    axis.set_title(f"Its features, from the layers on the edge: {features.shape[2]} channels")
    colour_bar(axis, picture, extend="both" if signed else "max")


def draw_importance(axis: Axes, ranking: Ranking, explanation: Explanation) -> None:
    """Draw each packet in the colour of its rank; the scores are too skewed, only a few would be visible."""
    grid = explanation.grid
    picture = axis.imshow(mosaic(per_packet(ranks(ranking.scores), grid)), cmap="inferno", vmin=0, vmax=1)
    axis.set_title(which_matter(ranking))
    colour_bar(axis, picture).set_ticks([0, 0.5, 1], labels=["least important", "median", "most important"])


def draw_fates(axis: Axes, ranking: Ranking, explanation: Explanation) -> None:
    """Draw what the plan does with each packet, with counts in the legend."""
    tiles = mosaic(per_packet(fates(ranking.plan), explanation.grid))
    axis.set_title(f"What {explanation.policy} sends of them\nnothing lost: {explanation.verdict(ranking.answer)}")
    draw_kinds(axis, tiles, FATES, FATE_COLOURS, fates(ranking.plan))


def draw_delivery(axis: Axes, ranking: Ranking, explanation: Explanation) -> None:
    """Draw which packets the cloud has, after losses and after recovery by parity."""
    assert ranking.delivery is not None  # noqa: S101
    what = delivered(ranking.plan, ranking.delivery)
    axis.set_title(f"What the cloud has after the losses\n{explanation.verdict(ranking.delivery.answer)}")
    draw_kinds(axis, mosaic(per_packet(what, explanation.grid)), DELIVERED, DELIVERED_COLOURS, what)


def draw_datagrams(axis: Axes, explanation: Explanation) -> None:
    """Draw the datagrams in send order, line by line."""
    losses, plan = explanation.losses, explanation.rankings[0].plan
    assert losses is not None  # noqa: S101
    what = np.where(losses.lost, 2, ~is_data(plan)).astype(np.float32)
    across = int(np.ceil(np.sqrt(len(what))))
    lines = np.full(-(-len(what) // across) * across, np.nan, np.float32)
    lines[: len(what)] = what
    axis.set_title(f"What the link loses, datagram by datagram\n{losses}")
    draw_kinds(axis, lines.reshape(-1, across), DATAGRAMS, DATAGRAM_COLOURS, what)


def draw_kinds(axis: Axes, picture: Floats, names: Sequence[str], colours: Sequence[str], counted: Floats) -> None:
    """Draw a picture of numbered kinds, with the count of each in the legend."""
    axis.imshow(picture, cmap=ListedColormap([*colours]), vmin=0, vmax=len(names) - 1, interpolation="nearest")
    patches = [
        Patch(color=colour, label=f"{name}: {int((counted == number).sum())}")
        for number, (name, colour) in enumerate(zip(names, colours, strict=True))
    ]
    axis.legend(
        handles=patches,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=len(names),
        frameon=False,
        columnspacing=0.7,
        handlelength=1.0,
        handletextpad=0.4,
    )


def colour_bar(axis: Axes, picture: AxesImage, extend: str = "neither") -> Colorbar:
    """Put a slim colour bar below a panel without shrinking the panel."""
    figure = axis.get_figure(root=True)
    assert figure is not None  # noqa: S101
    below = axis.inset_axes((0.15, -0.045, 0.7, 0.018))
    return figure.colorbar(picture, cax=below, orientation="horizontal", extend=extend)


def ranks(scores: Floats) -> Floats:
    """Return each packet's rank (packets,) from 0, least important, to 1; equal scores share their mean rank."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = counts.cumsum() - (counts + 1) / 2
    return (mean_ranks[inverse] / max(len(scores) - 1, 1)).astype(np.float32)


def fates(plan: Plan) -> Floats:
    """Return what the plan does with each packet (packets,): DROPPED, PROTECTED or BARE."""
    fate = np.full(plan.total, DROPPED, np.float32)
    for n, stripe in plan.stripes:
        fate[stripe.packets] = PROTECTED if n > stripe.k else BARE
    return fate


def delivered(plan: Plan, delivery: Delivery) -> Floats:
    """Return what became of each packet (packets,): DROPPED, CAME, RECOVERED or MISSING."""
    what = np.full(plan.total, MISSING, np.float32)
    what[delivery.at_hand] = RECOVERED
    what[delivery.came] = CAME
    what[plan.dropped] = DROPPED
    return what


def is_data(plan: Plan) -> Mask:
    """Return which datagrams (sent,), in send order, carry packets; the others carry only parity."""
    by_group = np.concatenate([np.arange(shape.n) < shape.most_k for shape in plan.shapes])
    mask: Mask = by_group[send_order(plan.shapes)]
    return mask


def per_packet(values: Floats, grid: PacketGrid) -> Floats:
    """Spread one value a packet (packets,) over the packet's elements: (H, W, C)."""
    return grid.join(np.repeat(values[:, np.newaxis], grid.size, axis=1))  # (2048,) -> (2048, 392) -> (56, 56, 256)


def mosaic(elements: Floats) -> Floats:
    """Tile the channels of (H, W, C) row by row into a near-square picture; NaN in the gaps."""
    height, width, channels = elements.shape
    gap = min(GAP, width // 4)
    across = int(np.ceil(np.sqrt(channels)))
    down = -(-channels // across)
    tiles = np.full((down * across, height + gap, width + gap), np.nan, np.float32)
    tiles[:channels, :height, :width] = elements.transpose(2, 0, 1)  # (56, 56, 256) -> (256, 56, 56)
    # (16 * 16, 59, 59) -> (16, 16, 59, 59) -> (16, 59, 16, 59) -> (944, 944), less the last gap
    by_row = tiles.reshape(down, across, height + gap, width + gap).transpose(0, 2, 1, 3)
    whole = by_row.reshape(down * (height + gap), across * (width + gap))
    return whole[: len(whole) - gap, : whole.shape[1] - gap]
