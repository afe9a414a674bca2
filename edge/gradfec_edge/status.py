"""What the edge shows on a terminal while it works: a line for each camera, and notes below."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Group

from gradfec_edge.adaptation import in_words
from gradfec_edge.health import LinkState
from gradfec_edge.story import FALLBACK, Sent, Story
from gradfec_host.live import plain_table, rest, words
from gradfec_host.progress import Progress
from gradfec_host.recent import WINDOW_S, Recent, milliseconds, percent, sent_in_words

OUTCOMES = ("complete", "partial", "timeout")
NUMBERS = ("fps", "loss", "median")
TITLES = ("camera", "answer", "link", *NUMBERS, "source")
FEW = 12  # frames, whose answers fit on a screen
CUT = ("camera", "source")  # if there is too little room


class CameraStatus:
    """What the line of a camera shows: its last frames, and the answers to its first."""

    def __init__(self, name: str) -> None:
        """Begin without frames."""
        self.name = name
        self.outcomes: Counter[str] = Counter()
        self.recent, self.progress = Recent(), Progress()
        self.last = self.last_source = ""
        self._answers: list[str] = []  # of the first frames
        self._newest = -1, -math.inf, ""  # of all tensors that have ended: its number, when it ended, why it was so

    def ended(self, story: Story) -> None:
        """Count a frame whose story has ended, and remember its answer."""
        self.outcomes[story.outcome] += 1
        recovered = story.packets["recovered"]
        latency_ms = story.latency_ms if story.result else None
        now = time.monotonic()
        self.recent.add(now, story.datagrams, recovered, latency_ms, story.bytes)
        expected = story.plan.expected if story.plan else None
        self.progress.add(story.outcome, story.datagrams, latency_ms, story.bytes, expected)
        self.last, self.last_source = answer_of(story), story.frame.source
        if len(self._answers) <= FEW:
            self._answers.append(f"{self.last_source}: {self.last}")
        if story.as_sent and story.as_sent.tensor > self._newest[0]:
            self._newest = story.as_sent.tensor, now, _why(story.as_sent)

    @property
    def answers(self) -> list[str]:
        """All answers if there are few, otherwise none."""
        return self._answers if len(self._answers) <= FEW else []

    def why(self, now: float) -> str:
        """Return why the newest frame was planned as it was; empty if it is old, or its policy ignores the link."""
        _, ended_at, why = self._newest
        return why if ended_at > now - WINDOW_S else ""


def _why(sent: Sent) -> str:
    """Return what a frame was planned for, its codec first: a narrow terminal cuts off the end."""
    why = in_words(dict(sent.why), sent.plan) if sent.why else ""
    return f"{sent.codec}; {why}" if why and sent.codec else why


def answer_of(story: Story) -> str:
    """Return a frame's answer in a few words."""
    if story.fallback:
        return f"{story.answer.summary()} ({FALLBACK})"
    return story.answer.summary() if story.result else "no answer"


class Row(NamedTuple):
    """What is shown of a camera."""

    camera: CameraStatus
    link: LinkState
    warnings: tuple[str, ...] = ()


def status_table(rows: Sequence[Row], lines: int) -> Group:
    """Draw a line for each camera, and below, as long as there is room, its warnings, what it sends, and why.

    There are at most `lines` in all.
    """
    table = plain_table(TITLES, NUMBERS, "camera", CUT)
    now = time.monotonic()
    room = max(lines - 2, 1)
    for camera, link, _ in rows[:room]:
        recent = camera.recent
        table.add_row(
            words(camera.name),
            words(camera.last),
            link.value,
            f"{recent.frames_per_s(now):.1f}",
            percent(recent.loss(now)),
            milliseconds(recent.latency_ms(now)),
            words(camera.last_source),
        )
    more = rest(len(rows), room)
    for line in more:
        table.add_row(line)
    left = max(lines - 1 - min(len(rows), room) - len(more), 0)
    return Group(table, *map(words, _notes(rows, now)[:left]))


def _notes(rows: Sequence[Row], now: float) -> list[str]:
    """Return the lines below the table, the most urgent first."""
    of = [f"{row.camera.name}: " if len(rows) > 1 else "" for row in rows]
    warnings = [f"{name}warning: {text}" for name, row in zip(of, rows, strict=True) for text in row.warnings]
    sent = [f"{name}{_counted(row.camera, now)}" for name, row in zip(of, rows, strict=True)]
    whys = [row.camera.why(now) if row.link is LinkState.CONNECTED else "" for row in rows]
    return warnings + sent + [f"{name}why: {why}" for name, why in zip(of, whys, strict=True) if why]


def _counted(camera: CameraStatus, now: float) -> str:
    told = [*OUTCOMES, *([FALLBACK] if FALLBACK in camera.outcomes else [])]
    outcomes = ", ".join(f"{camera.outcomes[outcome]} {outcome}" for outcome in told)
    return f"{outcomes}; {sent_in_words(camera.recent.frame_bytes(now), camera.recent.kbit_s(now))}"
