"""The page in one browser: its parts, and the edge that it shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from fastapi import Request
from nicegui import ui

from gradfec_web import words
from gradfec_web.elements import Text, box, put
from gradfec_web.history import OVERDUE_S, EdgePast, History
from gradfec_web.lead import Lead
from gradfec_web.panels import Charts, Details, EdgeTable, LastFrames, Packets, Tiles
from gradfec_web.verdict import Live, Tone, live
from gradfec_web.view import Status, Workers

REFRESH_S = 0.5
THEME_COOKIE = "gradfec_theme"
THEMES: dict[str, bool | None] = {"system": None, "light": False, "dark": True}
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="8" height="8" rx="1.5" fill="#16233d"/>'
    '<path d="M1.5 2h5M1.5 4h3" stroke="#7fb2f0"/><path d="M5 4h1.5" stroke="#f59b23"/>'
    '<path d="M1.5 6h5" stroke="#10b08c"/></svg>'
)


def add_page(history: History) -> None:
    """Serve the page at /; ?edge=NAME selects an edge."""
    ui.add_css(Path(__file__).with_name("style.css"), shared=True)
    ui.add_head_html(f"<script>{Path(__file__).with_name('heard.js').read_text()}</script>", shared=True)

    @ui.page("/", title="gradfec", favicon=ICON, language="en-GB", dark=None)
    def index(request: Request, edge: str | None = None) -> None:
        View(history, edge, request.cookies.get(THEME_COOKIE, ""))


class View:
    """The page in one browser."""

    def __init__(self, history: History, edge: str | None, theme: str) -> None:
        """Build the page, and update it as long as the browser is connected."""
        self._history, self._edge = history, edge
        self._role = "?"
        self._title = ""
        with box("header", "top").props(f"data-overdue={OVERDUE_S}") as self._top:
            Text("h1", "gradfec")
            self._name = Text("bdi", "", "name")
            self._live = Text("span", "", "live")
            box("span", "heard")  # heard.js writes it
            _add_theme_switch(theme)
        self._body = box("div", "body")
        self.refresh()
        ui.timer(REFRESH_S, self.refresh)

    def refresh(self) -> None:
        """Show the newest data."""
        now, status = time.time(), self._history.status
        role = status.role if status else ""
        if role != self._role:
            self._role = role
            self._body.clear()
            with self._body:
                self._build(role)
        if words.title(status) != self._title:
            self._title = words.title(status)
            ui.page_title(self._title)
        if status:
            put(self._top, "data-age", f"{max(now - status.at, 0):.1f}")
            put(self._top, "data-beat", str(status.at))
            self._name.put(f"{status.role} · {status.title}")
            self._insecure.set_visibility(status.insecure)
            self._show(status, now)
        else:
            self._say_live(Live("waiting for the daemon", Tone.QUIET))

    def _say_live(self, live: Live) -> None:
        self._live.put(live.text)
        self._live.classes(replace=f"live {live.tone.value}")
        self._top.classes(**({"add": "lost"} if live.lost else {"remove": "lost"}))

    def _build(self, role: str) -> None:
        if not role:
            Text("p", words.WAITING, "card empty")
            return
        self._insecure = Text("p", words.INSECURE, "card insecure").props("role=alert")
        Text("p", words.INTRODUCTION.get(role, ""), "introduction")
        self._workers = Text("p").props("role=status")
        self._edges = EdgeTable(self._choose, role)
        with box("section", "card empty") as self._no_edge:
            Text("h2", "No edge yet")
            self._why_none = Text("p")
            self._command = Text("code")
            self._key = Text("p", words.NO_EDGE_KEY, "note")
        with box("section", "edge") as self._section:
            with box("div", "line"):
                self._edge_name = Text("h2").props('dir="auto"')
                self._state = Text("p", "", "state claim")
            self._warnings = Text("p", "", "card warning").props("role=alert")
            with box("div", "panels"):
                self._lead = Lead(role)
                self._tiles = Tiles(role)
                with box("div", "panels") as self._of_frames:
                    self._charts = Charts()
                    self._packets = Packets(role)
                    self._frames = LastFrames(role)
        self._details = Details()

    def _choose(self, key: str) -> None:
        self._edge = key
        ui.navigate.history.replace(f"/?edge={quote(key, safe='')}")  # so that it survives a reload
        self.refresh()

    def _show(self, status: Status, now: float) -> None:
        past = self._history.find(self._edge)
        self._edges.show(self._history, past, now)
        self._no_edge.set_visibility(past is None)
        self._section.set_visibility(past is not None)
        self._details.show(status, past.edge.settings if past else {})
        self._show_workers(status.workers)
        self._say_live(live(past, now, self._role))
        if past:
            self._show_edge(past, now)
        else:
            address = words.cloud_for_edges(status.title)
            self._why_none.put(words.NOT_READY.format(status.not_ready) if status.not_ready else words.NO_EDGE)
            self._command.put(f"gradfec-edge --camera /dev/video0 --cloud {address}" + " --insecure" * status.insecure)
            self._key.set_visibility(not status.insecure)

    def _show_workers(self, workers: Workers | None) -> None:
        self._workers.set_visibility(workers is not None)
        if workers:
            self._workers.put(words.workers(workers))
            self._workers.classes(replace="claim note" if workers.ready >= workers.wanted else "claim card warning")

    def _show_edge(self, past: EdgePast, now: float) -> None:
        self._edge_name.put(past.key)
        at = f" · {past.edge.address}" if past.edge.address else ""
        self._state.put(words.state(past.edge, now, self._role) + at)
        self._section.classes(**({"remove": "gone"} if past.edge.connected else {"add": "gone"}))
        self._warnings.put(words.sentences(past.edge.warnings))
        self._warnings.set_visibility(bool(past.edge.warnings))
        recent = past.recent(now)
        self._lead.show(past, recent, now)
        self._tiles.show(recent)
        self._of_frames.set_visibility(bool(past.frames))
        self._charts.show(past)
        self._packets.show(past)
        self._frames.show(past, now)


def _add_theme_switch(theme: str) -> None:
    """Make three buttons: system, light, dark; the browser keeps the choice in a cookie."""
    dark = ui.dark_mode(THEMES.get(theme))
    buttons: dict[str, Text] = {}

    def choose(name: str) -> Callable[[], None]:
        def chosen() -> None:
            dark.set_value(THEMES[name])
            ui.run_javascript(f"document.cookie = '{THEME_COOKIE}={name}; path=/; max-age=31536000; samesite=lax'")
            mark(name)

        return chosen

    def mark(name: str) -> None:
        for other, button in buttons.items():
            button.props["aria-pressed"] = "true" if other == name else "false"

    with box("div", "themes").props('role=group aria-label="Colours"'):
        for name in THEMES:
            buttons[name] = Text("button", name).props("type=button").on("click", choose(name))
    mark(theme if theme in THEMES else "system")
