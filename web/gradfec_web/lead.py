"""The top of the page: the picture, the answer, how sure the network is, and whether the link works well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nicegui import ui

from gradfec_web import paint, words
from gradfec_web.elements import Text, box, image, put, show_image, take_place
from gradfec_web.history import EdgePast, Figures
from gradfec_web.panels import OUTCOME_TONES
from gradfec_web.policies import explained
from gradfec_web.verdict import verdict
from gradfec_web.view import Frame, Picture

OTHERS = 4  # answers that are shown besides the best one
RATIOS = (0.4, 2.5)  # of a photograph's width to its height, as the page shows it


class Lead:
    """The newest photograph and its answer, one sentence, and what a frame costs. It always takes the same room."""

    def __init__(self, role: str) -> None:
        self._role = role
        with box("section", "card lead").props('aria-label="Newest answer"'):
            self._photograph = Photograph(role)
            with box("div", "said"):
                self._outcome = Text("p", "", "outcome")
                with box("div", "best"):
                    self._first = Text("p", "", "first")
                    with box("p", "sure"):
                        self._sure = Text("span", "", "score")
                        Text("span", words.SURE, "meaning")
                    with box("div", "bar").props("aria-hidden=true"):
                        self._bar = box("div")
                with box("ol", "others"):
                    self._lines = [self._line() for _ in range(OTHERS)]
                self._verdict = Text("p", "", "verdict")
                with box("dl", "cost"):
                    self._bytes = self._figure("a frame, " + words.COUNTED.get(role, ""))
                    self._rate = self._figure("on the link" if role == "edge" else "from the link")
                    self._expected = self._figure(words.EXPECTED) if role == "edge" else None
                self._policy = Text("p", "", "note policy") if role == "edge" else None
                self._why = Text("p", "", "note why") if role == "edge" else None

    def _figure(self, meaning: str) -> Text:
        with box("div"):
            Text("dt", meaning)
            return Text("dd", words.NONE)

    def _line(self) -> tuple[ui.element, Text, Text]:
        with box("li") as item:
            return item, Text("bdi"), Text("span", classes="score")

    def show(self, past: EdgePast, recent: Figures, now: float) -> None:
        """Show the newest photograph with its answer, or the newest answer if there is no photograph."""
        picture, frame = past.seen(), past.frames[-1] if past.frames else None
        self._photograph.show(picture)
        self._show_answer(past, picture or frame)
        found = verdict(past.edge, recent)
        waiting = frame is None and past.edge.connected and not past.edge.said
        self._verdict.put(words.NO_FRAME.get(self._role, "") if waiting else found.text)
        self._verdict.classes(replace=f"verdict {found.tone.value}")
        self._bytes.put(words.kilobytes(recent.frame_bytes))
        self._rate.put(words.rate(recent.kbit_s))
        if self._expected and self._policy and self._why:
            self._expected.put(words.percent(recent.expected, 0))
            self._policy.put(explained(past.edge.protect) or past.edge.protect)
            why = past.why(now)
            self._why.put(words.WHY + why if why else "")

    def _show_answer(self, past: EdgePast, shown: Picture | Frame | None) -> None:
        answer = shown.answer if shown else []
        outcome = _outcome(past, shown) if shown else ""
        self._first.put(words.answer(answer, outcome) if shown else words.NONE)
        best = answer[0][1] if answer else None
        self._sure.put(words.percent(best, 0))
        self._bar.style(f"width: {100 * min(max(best or 0.0, 0.0), 1.0):.0f}%")
        self._outcome.put(
            f"Frame {shown.number} · {words.OUTCOMES.get(outcome, outcome)}".rstrip("· ") if shown else ""
        )
        self._outcome.classes(replace=f"outcome {OUTCOME_TONES.get(outcome, '')}")
        for place, (item, label, score) in enumerate(self._lines, start=1):
            take_place(item, visible=place < len(answer))
            if place < len(answer):
                name, share = answer[place]
                label.put(words.label(name))
                score.put(words.percent(share))


class Photograph:
    """What the camera saw; over it what was found, and, if the visitor wants, how much each band of rows matters."""

    def __init__(self, role: str) -> None:
        self._shown: Picture | None = None
        self._banded, self._boxed = False, True
        with box("figure", "photograph"):
            with box("div", "frame"):
                self._none = Text("p", words.NO_PICTURE.get(role, ""), "note")
                with box("div", "over") as self._over:
                    self._photograph = image("shot")
                    self._veil = image("veil")
                    self._found = image("found")
            with box("figcaption"):
                self._boxes = self._switch_of("Boxes", self._turn_boxes)
                self._switch = self._switch_of("Importance", self._turn)
                self._note = Text("span", words.BANDS, "note")
        self._draw()

    def show(self, picture: Picture | None) -> None:
        """Show a picture with a photograph, or that there is none."""
        if picture is not self._shown:
            self._shown = picture
            self._draw()

    def _switch_of(self, name: str, turn: Callable[[], None]) -> Text:
        switch = Text("button", name, "switch").props("type=button role=switch")
        switch.on("click", turn)
        return switch

    def _turn(self) -> None:
        self._banded = not self._banded
        self._draw()

    def _turn_boxes(self) -> None:
        self._boxed = not self._boxed
        self._draw()

    def _draw(self) -> None:
        picture = self._shown
        banded = picture is not None and picture.ranked and picture.groups > 1  # one group spans the whole photograph
        self._none.set_visibility(picture is None)
        self._switch.set_visibility(banded)
        self._note.set_visibility(banded)
        put(self._switch, "aria-checked", "true" if banded and self._banded else "false")
        self._boxes.set_visibility(picture is not None and picture.boxes is not None)
        put(self._boxes, "aria-checked", "true" if self._boxed else "false")
        if picture is None:
            for each in (self._photograph, self._veil, self._found):
                show_image(each, "", "")
            return
        ratio = min(max(picture.ratio, RATIOS[0]), RATIOS[1])
        self._over.style(f"--ratio: {ratio:.4f}")
        source = f"data:image/jpeg;base64,{picture.photograph}"
        show_image(self._photograph, source, f"What the camera saw in frame {picture.number}")
        veil = band = ""
        if banded and self._banded:
            veil = paint.draw_veil(picture)
            best = int(np.argmax(paint.band_importance(picture))) + 1
            band = f"Darker bands matter less; band {best} of {picture.groups} from the top matters most"
        show_image(self._veil, veil, band)
        boxes = picture.boxes if self._boxed else None
        show_image(self._found, paint.draw_boxes(picture, ratio) if boxes else "", words.boxes(boxes or []))


def _outcome(past: EdgePast, shown: Picture | Frame) -> str:
    """Return the outcome of the frame that is shown; empty if it is no longer known."""
    key = (shown.session, shown.number)
    return next((frame.outcome for frame in past.frames if (frame.session, frame.number) == key), "")
