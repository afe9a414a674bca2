"""What the edge shows on a terminal while it works: a line for each camera."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from gradfec_edge.health import LinkState
from gradfec_edge.journal import Story
from gradfec_host.live import plain_table, rest, words
from gradfec_host.recent import Recent, milliseconds, percent

OUTCOMES = ("complete", "partial", "timeout")
NUMBERS = ("frames/s", *OUTCOMES, "loss", "median")
TITLES = ("camera", "link", *NUMBERS, "last answer")


class CameraStatus:
    """One camera's last frames."""

    def __init__(self, name: str) -> None:
        """Begin without frames."""
        self.name = name
        self.outcomes: Counter[str] = Counter()
        self.recent = Recent()
        self.last = ""

    def ended(self, story: Story) -> None:
        """Count a frame."""
        self.outcomes[story.outcome] += 1
        recovered = story.packets["recovered"]
        latency_ms = story.latency_ms if story.result else None
        self.recent.add(time.monotonic(), story.datagrams, recovered, latency_ms, story.bytes)
        self.last = answer_of(story)


def answer_of(story: Story) -> str:
    """Return a frame's source and the first line of its answer."""
    lines = story.answer.lines()
    answer = f"{lines[0][0]} {lines[0][1]:.2f}" if lines else "no answer"
    return f"{story.frame.source}: {answer}"


def status_table(cameras: Sequence[tuple[CameraStatus, LinkState]], lines: int) -> Table:
    """Draw a line for each camera and the state of its link, at most `lines` in all."""
    table = plain_table(TITLES, NUMBERS, "camera", "last answer")
    now = time.monotonic()
    room = max(lines - 2, 1)
    for camera, link in cameras[:room]:
        recent = camera.recent
        table.add_row(
            words(camera.name),
            link.value,
            f"{recent.frames_per_s(now):.1f}",
            *(str(camera.outcomes[outcome]) for outcome in OUTCOMES),
            percent(recent.loss(now)),
            milliseconds(recent.latency_ms(now)),
            words(camera.last),
        )
    for line in rest(len(cameras), room):
        table.add_row(line)
    return table
