"""Lines and a bar on one terminal."""

from __future__ import annotations

import io
import sys

import pyte
import pytest

from gradfec_lab.progress import bar, say


class Terminal(io.TextIOWrapper):
    """Standard error, where a person looks."""

    def isatty(self) -> bool:
        return True


def test_a_line_stands_whole_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal(bottom := io.BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stderr", terminal)
    with bar("training", 10) as advance:
        for epoch in (1, 2):
            advance(3)
            say(f"epoch {epoch}/12: loss 4.1654, held out 2")
    screen = pyte.Screen(80, 24)
    terminal.flush()
    pyte.ByteStream(screen).feed(bottom.getvalue().replace(b"\n", b"\r\n"))
    assert [line.rstrip() for line in screen.display if line.strip()] == [
        f"epoch {epoch}/12: loss 4.1654, held out 2" for epoch in (1, 2)
    ]
