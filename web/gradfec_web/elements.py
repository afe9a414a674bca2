"""HTML elements with plain text: data from the link never becomes markup."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement


class Text(TextElement):
    """An element of any tag that holds text."""

    def __init__(self, tag: str, text: str = "", classes: str = "") -> None:
        super().__init__(tag=tag, text=text)
        self.classes(classes)

    def put(self, text: str) -> None:
        """Change the text; the browser is told only if it differs."""
        if text != self.text:
            self.set_text(text)


def put(element: ui.element, name: str, value: object) -> None:
    """Change an attribute; the browser is told only if it differs."""
    if element.props.get(name) != value:
        element.props[name] = value


def box(tag: str, classes: str = "") -> ui.element:
    """Make an element for other elements."""
    return ui.element(tag).classes(classes)


@contextmanager
def card(heading: str, classes: str = "") -> Iterator[None]:
    """Make a card with a heading."""
    with box("section", f"card {classes}"):
        Text("h3", heading)
        yield


def image(classes: str) -> ui.element:
    """Make an image without a source yet."""
    element = box("img", classes)
    element.set_visibility(False)
    return element


def show_image(element: ui.element, source: str, words: str) -> None:
    """Show an image with its alternative text; without a source, hide it."""
    put(element, "src", source)
    put(element, "alt", words)
    element.set_visibility(bool(source))


def take_place(element: ui.element, *, visible: bool) -> None:
    """Show an element, or hide it and leave its place free, so that nothing else moves."""
    element.classes(**({"remove": "unseen"} if visible else {"add": "unseen"}))
