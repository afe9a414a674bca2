"""The parts of the page: each makes its elements once, and then shows an edge's past in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from nicegui import ui

from gradfec_common.cells import Cell
from gradfec_web import charts, paint, words
from gradfec_web.elements import Text, box, card, image, put, show_image, take_place
from gradfec_web.history import PARTIAL, RECENT_S, TIMEOUT, EdgePast, Figures, History
from gradfec_web.verdict import Tone, verdict
from gradfec_web.view import Frame, Picture, Settings, Status

ONE, A_ONE = {"edge": "Camera", "cloud": "Edge"}, {"edge": "a camera", "cloud": "an edge"}
OUTCOME_TONES = {"complete": Tone.GOOD.value, PARTIAL: Tone.FAIR.value, TIMEOUT: Tone.BAD.value}
SHOWN_FRAMES = 12
ROWS_A_PAGE = 12
RIGHT = {"align": "right"}
WORDS = {"align": "left", "classes": "words"}  # can wrap
WIDE_ONLY = {"headerClasses": "wide", "classes": "wide"}  # too wide for a phone
WIDE_WORDS = {"align": "left", "headerClasses": "wide", "classes": "wide words"}


class EdgeTable:
    """All edges, one row each, to select from."""

    def __init__(self, choose: Callable[[str], None], role: str) -> None:
        """Call `choose` with the key of the selected edge. The edge's own page calls edges cameras."""
        self._role = role
        columns = [
            WORDS | {"name": "name", "label": ONE[role], "field": "name"},
            WIDE_WORDS | {"name": "state", "label": "State", "field": "state"},
            WORDS | {"name": "answer", "label": "Last answer", "field": "answer"},
            RIGHT | WIDE_ONLY | {"name": "fps", "label": "Frames/s", "field": "fps"},
            RIGHT | WIDE_ONLY | {"name": "latency", "label": "Latency", "field": "latency"},
            RIGHT | {"name": "loss", "label": "Loss", "field": "loss"},
            RIGHT | WIDE_ONLY | {"name": "missing", "label": "Missing", "field": "missing"},
        ]
        with box("section", "card edges") as self._section:
            with box("div", "line"):
                Text("h2", f"{ONE[role]}s")
                self._connected = Text("p", "", "claim note")
                self._search = ui.input(placeholder="find").props(
                    f'dense borderless clearable aria-label="Find {A_ONE[role]}"'
                )
            self._table = ui.table(columns=columns, rows=[], row_key="key", pagination=ROWS_A_PAGE).props("flat dense")
            self._table.bind_filter_from(self._search, "value")
            self._table.add_slot(
                "body-cell-name",
                '<q-td :props="props"><button type="button" class="pick" :aria-pressed="props.row.chosen" '
                ':class="props.row.tone" @click="$parent.$emit(\'pick\', props.row.key)">'
                '<span class="dot" aria-hidden="true"></span><bdi>{{ props.row.name }}</bdi></button></q-td>',
            )
            self._table.add_slot(
                "body-cell-state", '<q-td :props="props"><span class="claim">{{ props.value }}</span></q-td>'
            )
            self._table.on("pick", lambda event: choose(str(event.args)))

    def show(self, history: History, chosen: EdgePast | None, now: float) -> None:
        """Show all edges, the connected ones first."""
        self._section.set_visibility(len(history.edges) > (1 if self._role == "edge" else 0))
        pasts = sorted(history.edges.values(), key=lambda past: (not past.edge.connected, past.key))
        self._connected.put(f"{len(history.connected())} connected")
        self._search.set_visibility(len(pasts) > ROWS_A_PAGE)
        put(self._table, "hide-pagination", len(pasts) <= ROWS_A_PAGE)
        put(self._table, "rows", [self._row(past, past is chosen, now) for past in pasts])

    def _row(self, past: EdgePast, chosen: bool, now: float) -> dict[str, object]:
        recent = past.recent(now)
        last = past.frames[-1] if past.frames else None
        return {
            "key": past.key,
            "name": past.key,
            "tone": verdict(past.edge, recent).tone.value if past.edge.connected else "gone",
            "chosen": chosen,
            "state": words.state(past.edge, now, self._role),
            "answer": words.sure_answer(last.answer, last.outcome) if last else "no frame yet",
            "fps": words.number(recent.fps, 1),
            "latency": words.with_unit(recent.latency_ms, "ms"),
            "loss": words.percent(recent.loss),
            "missing": words.number(recent.missing),
        }


class Tiles:
    """The current numbers."""

    def __init__(self, role: str) -> None:
        with box("dl", "card tiles"):
            self._fps, self._frames = self._tile("Frames a second", "")
            self._latency, _ = self._tile("Latency", words.LATENCY.get(role, ""))
            self._loss, _ = self._tile(
                "Loss", "of the datagrams that the cloud has reported on; each carries packets or parity"
            )
            self._burst, _ = self._tile("Burst", "datagrams lost in a row, on average")
            self._recovered, _ = self._tile("Recovered", "packets a frame: lost, computed back from parity")
            self._missing, _ = self._tile("Missing", "packets a frame: sent, and lost for good")

    def _tile(self, name: str, meaning: str) -> tuple[Text, Text]:
        with box("div", "tile"):
            Text("dt", name)
            return Text("dd", words.NONE, "value"), Text("dd", meaning, "meaning")

    def show(self, recent: Figures) -> None:
        """Show the figures of the last seconds."""
        self._fps.put(words.number(recent.fps, 1))
        without = f"{recent.unanswered} of the last {recent.frames} without an answer"
        self._frames.put(without if recent.frames else f"none in the last {words.span(RECENT_S)}")
        self._latency.put(words.with_unit(recent.latency_ms, "ms"))
        self._loss.put(words.percent(recent.loss))
        self._burst.put(words.number(recent.burst, 1))
        self._recovered.put(words.number(recent.recovered))
        self._missing.put(words.number(recent.missing))


class Packets:
    """What became of each packet of a tensor, next to how much each matters."""

    def __init__(self, role: str) -> None:
        self._no_importance = words.NO_IMPORTANCE.get(role, "")
        self._shown: tuple[Picture, Cell | None] | None = None
        self._only: Cell | None = None
        with box("section", "card packets"):
            self._heading = Text("h3", "The packets of a frame")
            self._what = Text("p", words.PACKETS, "note")
            with box("div", "maps"):
                with box("figure", "fates"):
                    Text("figcaption", "What became of each", "caption")
                    with box("div", "square"):
                        self._cells = image("map")
                    Text("p", words.PARITY, "note")
                with box("figure", "ranks"):
                    Text("figcaption", f"{words.MATTER}, {words.BY_EDGE}", "caption")
                    with box("div", "square"):
                        self._unranked = Text("p", self._no_importance, "note")
                        self._importance = image("map")
                    with box("p", "scale note") as self._scale:
                        least, most = words.RANKS
                        Text("span", least)
                        box("span", "colours").style(f"background: {paint.SCALE}")
                        Text("span", most)
                    self._meaning = Text("p", words.IMPORTANCE, "note")
                with box("table", "legend"):
                    Text("caption", "What the colours mean; press one to see only its packets", "caption")
                    with box("thead"), box("tr"):
                        for heading in ("Fate", "Packets", "Share", "Meaning"):
                            Text("th", heading).props("scope=col")
                    with box("tbody"):
                        self._rows = {cell: self._row(cell) for cell in words.FATES}

    def _row(self, cell: Cell) -> tuple[ui.element, Text, Text, Text]:
        name, meaning = words.FATES[cell]
        with box("tr") as row:
            with box("th").props("scope=row"):
                button = Text("button", name, f"fate {cell.name.lower()}").props("type=button aria-pressed=false")
                button.on("click", lambda: self._single_out(cell))
            count, share = Text("td", "0", "figure"), Text("td", "", "figure")
            Text("td", meaning, "meaning")
        return row, button, count, share

    def _single_out(self, cell: Cell) -> None:
        self._only = None if self._only == cell else cell
        for other, (_, button, _, _) in self._rows.items():
            put(button, "aria-pressed", "true" if other == self._only else "false")
        if self._shown:
            self._draw(self._shown[0])

    def show(self, past: EdgePast) -> None:
        """Show the newest picture."""
        if past.picture and (past.picture, self._only) != self._shown:
            self._draw(past.picture)

    def _draw(self, picture: Picture) -> None:
        self._shown = picture, self._only
        counts = np.bincount(paint.cells_of(picture).ravel(), minlength=len(Cell))
        total = picture.channels * picture.groups
        self._what.put(words.PIECES if picture.of_file else words.PACKETS)
        self._heading.put(f"The {words.number(total)} packets of frame {picture.number}")
        for cell, (row, _, count, share) in self._rows.items():
            count.put(words.number(counts[cell]))
            share.put(words.percent(counts[cell] / total, 0))
            row.classes(**({"remove": "none"} if counts[cell] else {"add": "none"}))
        seen = ", ".join(f"{counts[cell]} {words.FATES[cell][0]}" for cell in words.FATES if counts[cell])
        grid = f"{picture.channels} channels of {picture.groups} packets each: "
        show_image(self._cells, paint.draw_cells(picture, self._only), grid + seen)
        drawn = paint.draw_importance(picture) if picture.ranked else ""
        show_image(self._importance, drawn, "The importance of the same packets in the same places" if drawn else "")
        self._unranked.put(words.NO_FEATURES if picture.of_file else self._no_importance)
        self._unranked.set_visibility(not drawn)
        for explanation in (self._scale, self._meaning):
            take_place(explanation, visible=not picture.of_file)


class Charts:
    """The charts of the last minutes."""

    def __init__(self) -> None:
        self._at = 0.0
        self._shown: str | None = None
        with box("div", "charts"):
            self._charts = [self._chart(chart) for chart in charts.CHARTS]

    def _chart(self, chart: charts.Chart) -> tuple[ui.echart, Key | None]:
        with card(chart.title, "stacked" if chart.stacked else ""):
            Text("p", chart.unit, "note")
            drawn = ui.echart(charts.options(chart, [], 0), renderer="svg").props(
                f'role=img aria-label="{chart.title}"'
            )
            return drawn, Key() if chart.stacked else None

    def show(self, past: EdgePast) -> None:
        """Redraw the charts if there is a new point."""
        points = past.points()
        if not points or (points[-1][0], past.key) == (self._at, self._shown):
            return
        self._at, self._shown = points[-1][0], past.key
        for chart, (element, key) in zip(charts.CHARTS, self._charts, strict=True):
            put(element, "aria-label", charts.in_words(chart, points))
            element.options.clear()
            element.options.update(charts.options(chart, points, self._at))
            element.update()
            if key:
                key.show(charts.colours(chart, points))


class Key:
    """What the colours of a chart mean, all of it at once: a legend in the chart would have pages."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._names = box("p", "key note")

    def show(self, colours: dict[str, str]) -> None:
        """Show each name beside its colour."""
        if colours == self._shown:
            return
        self._shown = colours
        self._names.clear()
        with self._names:
            for name, colour in colours.items():
                Text("span", name).style(f"--colour: var({colour})")


class LastFrames:
    """The newest frames, one row each."""

    def __init__(self, role: str) -> None:
        columns = [
            {"name": "number", "label": "Frame", "field": "number", "align": "left"},
            RIGHT | WIDE_ONLY | {"name": "ago", "label": "Ago", "field": "ago"},
            *([WIDE_WORDS | {"name": "source", "label": "From", "field": "source"}] if role == "edge" else []),
            WORDS | {"name": "answer", "label": "Answer", "field": "answer"},
            {"name": "outcome", "label": "Outcome", "field": "outcome", "align": "left"},
            RIGHT | WIDE_ONLY | {"name": "lost", "label": "Lost", "field": "lost"},
            RIGHT | WIDE_ONLY | {"name": "bursts", "label": "Bursts", "field": "bursts"},
            RIGHT | WIDE_ONLY | {"name": "recovered", "label": "Recovered", "field": "recovered"},
            RIGHT | WIDE_ONLY | {"name": "missing", "label": "Missing", "field": "missing"},
            RIGHT | {"name": "latency", "label": "Latency", "field": "latency"},
        ]
        with card("Last frames", "frames"):
            self._table = ui.table(columns=columns, rows=[], row_key="key").props("flat dense hide-no-data")
            self._table.add_slot(
                "body-cell-outcome",
                '<q-td :props="props"><span class="chip" :class="props.row.tone">{{ props.value }}</span></q-td>',
            )

    def show(self, past: EdgePast, now: float) -> None:
        """Show the newest frames, newest first."""
        frames = list(past.frames)[: -SHOWN_FRAMES - 1 : -1]
        put(self._table, "rows", [self._row(frame, now) for frame in frames])

    def _row(self, frame: Frame, now: float) -> dict[str, object]:
        packets = frame.packets
        return {
            "key": f"{frame.session} {frame.number}",
            "number": frame.number,
            "ago": words.span(now - frame.at),
            "source": frame.source,
            "answer": words.sure_answer(frame.answer, frame.outcome),
            "outcome": frame.outcome,
            "tone": OUTCOME_TONES.get(frame.outcome, ""),
            "lost": words.number(frame.datagrams.get("lost")),
            "bursts": words.number(frame.bursts),
            "recovered": words.number(packets.get("recovered")),
            "missing": words.number(packets.get("missing")),
            "latency": words.NONE if frame.outcome == TIMEOUT else words.with_unit(frame.latency_ms, "ms"),
        }


class Details:
    """The settings, and the counts since the start; both unfold."""

    def __init__(self) -> None:
        self._settings, self._counters = Pairs("Settings"), Pairs("Counted since the start")

    def show(self, status: Status, camera: Settings) -> None:
        """Show a daemon's settings, those of a camera, and the counts."""
        self._settings.show(words.settings({**status.settings, **camera}))
        self._counters.show(
            {
                f"{family}: {name}".replace("_", " "): words.number(n)
                for family, counts in status.counters.items()
                for name, n in counts.items()
            }
        )


class Pairs:
    """A list of names and values that unfolds."""

    def __init__(self, heading: str) -> None:
        self._values: dict[str, Text] = {}
        with box("details", "card"):
            with box("summary"):
                Text("h2", heading)
            self._list = box("dl", "pairs")

    def show(self, pairs: Mapping[str, str]) -> None:
        """Show these pairs, in their order."""
        if list(pairs) != list(self._values):
            self._list.clear()
            with self._list:
                self._values = {name: self._pair(name) for name in pairs}
        for name, value in pairs.items():
            self._values[name].put(value)

    def _pair(self, name: str) -> Text:
        Text("dt", name)
        return Text("dd")
