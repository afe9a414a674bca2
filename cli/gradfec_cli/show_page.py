"""The page of `gradfec show`: the figure's panels one by one, with explanations for new readers.

One self-contained HTML file: it holds the pictures, each with an alternative text.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from functools import partial
from html import escape
from itertools import islice
from typing import NamedTuple

from matplotlib.figure import Figure

from gradfec_cli.explanation import Explanation, Ranking
from gradfec_cli.oracle import ORACLE
from gradfec_cli.show_figure import (
    CAME,
    DELIVERED,
    DROPPED,
    FATES,
    MISSING,
    RECOVERED,
    Panel,
    bare,
    delivered,
    draw_datagrams,
    draw_delivery,
    draw_fates,
    draw_features,
    draw_found,
    draw_importance,
    draw_photograph,
    fates,
    title,
    which_matter,
)

SIDE, DPI = 6.0, 110  # inches and dots of a panel's picture

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 84em; margin: 1em auto; padding: 0 1em;
        color: #1a1a1a; background: #fff; }}
section {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(22em, 1fr)); gap: 1.5em; }}
figure {{ margin: 0; }}
img {{ width: 100%; height: auto; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; padding: .2em 1em .2em 0; border-bottom: 1px solid #ccc; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


class Picture(NamedTuple):
    """A panel, a description of it for people who cannot see it, and what it means."""

    panel: Panel
    alternative: str
    caption: str


def page(explanation: Explanation, name: str, full: bool = False) -> str:
    """Return the page as HTML, with the panels of the figure."""
    body = [answers_table(explanation), "<h2>The photograph and its features</h2>", section(source(explanation))]
    if full and explanation.losses:
        body += ["<h2>The link</h2>", section([link(explanation)])]
    estimated = any(ranking.name != ORACLE for ranking in explanation.rankings)
    for ranking in explanation.rankings:
        pictures = by_ranking(explanation, ranking)
        only_importance = not full and estimated and ranking.name == ORACLE
        body += [f"<h2>{escape(which_matter(ranking))}</h2>", section(islice(pictures, 1 if only_importance else None))]
    return PAGE.format(title=escape(title(explanation, name).partition("\n")[0]), body="\n".join(body))


def called(ranking: Ranking) -> str:
    """Return a ranking's name for readers."""
    return "the network's own gradient" if ranking.name == ORACLE else f"the edge's estimate ({ranking.name})"


def answers_table(explanation: Explanation) -> str:
    """Return a table of all answers."""
    rows = [("all features, nothing lost", str(explanation.lossless))]
    losses = explanation.losses
    if losses:
        rows.append((f"all packets without protection, {losses}", explanation.verdict(losses.bare)))
    for ranking in explanation.rankings:
        by = f"{explanation.policy} by {called(ranking)}"
        rows.append((f"{by}, nothing lost", explanation.verdict(ranking.answer)))
        if ranking.delivery:
            rows.append((f"{by}, {losses}", explanation.verdict(ranking.delivery.answer)))
    lines = [f"<tr><td>{escape(what)}</td><td>{escape(answer)}</td></tr>" for what, answer in rows]
    note = (
        "<p>Sent bare: without protection. FEC_A_B: the least important A % of the packets are dropped, and parity "
        "over the other B % is sent in their place. The network gets 0 for what is missing.</p>"
    )
    return "\n".join(
        [
            "<table>",
            "<tr><th>what the network gets</th><th>its answer, with the probability</th></tr>",
            *lines,
            "</table>",
            note,
        ]
    )


def source(explanation: Explanation) -> Iterator[Picture]:
    """Yield the pictures of the photograph and its features."""
    height, width, channels = explanation.chi.shape
    yield Picture(
        partial(draw_photograph, explanation=explanation),
        f"The photograph, which the network calls {explanation.lossless}.",
        "The photograph, as the network gets it.",
    )
    yield Picture(
        partial(draw_features, explanation=explanation),
        f"{channels} small pictures in rows, the channels of the feature tensor, each a faint copy of the photograph.",
        f"What the edge has to send: {channels} channels of {height} x {width} features after the layer "
        f"{explanation.coding.cut.name}, one tile each. Each tile is cut into {explanation.grid.groups} strips of "
        f"{explanation.grid.rows} rows: a strip is a packet, {explanation.grid.count} in all.",
    )


def found(explanation: Explanation, ranking: Ranking) -> Iterator[Picture]:
    """Yield the picture of what a detector finds with what arrives."""
    if explanation.lossless.said.boxes() is not None:
        answer = ranking.delivery.answer if ranking.delivery else ranking.answer
        yield Picture(
            partial(draw_found, ranking=ranking, explanation=explanation),
            f"The photograph, with what the network finds in it with what the cloud has in the end: {answer}.",
            f"What the network finds with what the cloud has in the end: {explanation.verdict(answer)}.",
        )


def link(explanation: Explanation) -> Picture:
    """Return the picture of what the link does."""
    losses = explanation.losses
    assert losses is not None  # noqa: S101
    lost, sent = int(losses.lost.sum()), len(losses.lost)
    return Picture(
        partial(draw_datagrams, explanation=explanation),
        f"{sent} small squares, a datagram each, in send order; {lost} of them, {lost / sent:.1%}, are lost.",
        "A square is a datagram. The edge sends them line by line, from the left, data before parity. The link loses "
        f"{lost} of {sent}: {losses}, drawn with seed {losses.link.seed}. Without protection, over the same "
        f"link, the answer is {explanation.verdict(losses.bare)}.",
    )


def by_ranking(explanation: Explanation, ranking: Ranking) -> Iterator[Picture]:
    """Yield the pictures of one ranking's packets: importance, plan and delivery."""
    plan = fates(ranking.plan)
    counts = ", ".join(f"{int((plan == number).sum())} {name}" for number, name in enumerate(FATES))
    yield Picture(
        partial(draw_importance, ranking=ranking, explanation=explanation),
        f"The tiles of the features again, each packet in the colour of its rank by {called(ranking)}.",
        "The same tiles as the features: bright packets matter most to the answer, dark ones least."
        + (" The gradient takes the whole network, which the edge does not have." if ranking.name == ORACLE else ""),
    )
    yield Picture(
        partial(draw_fates, ranking=ranking, explanation=explanation),
        f"The tiles again, coloured by what the plan of {called(ranking)} does with each packet: {counts}.",
        f"The plan, {explanation.policy}. Packets that it drops are never sent: parity takes their place. Without "
        f"losses, the answer is {explanation.verdict(ranking.answer)}.",
    )
    if ranking.delivery:
        what = delivered(ranking.plan, ranking.delivery)
        parts = ", ".join(
            f"{int((what == kind).sum())} {DELIVERED[kind]}" for kind in (DROPPED, CAME, RECOVERED, MISSING)
        )
        yield Picture(
            partial(draw_delivery, ranking=ranking, explanation=explanation),
            f"The tiles again, coloured by what became of each packet in the plan of {called(ranking)}: {parts}.",
            "What the cloud has in the end: packets that arrived, packets that parity recovered, "
            f"and zeros for the rest. The answer is {explanation.verdict(ranking.delivery.answer)}.",
        )
    yield from found(explanation, ranking)


def section(pictures: Iterator[Picture] | list[Picture]) -> str:
    """Return pictures side by side, as HTML."""
    return "\n".join(["<section>", *map(figure, pictures), "</section>"])


def figure(picture: Picture) -> str:
    """Return one picture with its caption, as HTML."""
    drawing = Figure((SIDE, SIDE), dpi=DPI)
    axis = drawing.subplots()
    bare(axis)
    picture.panel(axis)
    axis.set_title(axis.get_title(), wrap=True)
    drawn = io.BytesIO()
    drawing.savefig(drawn, format="png", bbox_inches="tight")
    data = base64.b64encode(drawn.getvalue()).decode()
    return (
        f'<figure><img alt="{escape(picture.alternative)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )
