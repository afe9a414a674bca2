"""What the edge shows on a terminal while it works: a line for each camera."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from gradfec_edge.health import LinkState
from gradfec_edge.journal import Record
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

    def record(self, record: Record) -> None:
        """Count a frame's record."""
        packets, datagrams, latency_ms = record["packets"], record["datagrams"], record["latency_ms"]
        assert isinstance(packets, dict) and isinstance(datagrams, dict)  # noqa: S101
        self.outcomes[str(record["outcome"])] += 1
        self.recent.add(
            time.monotonic(), datagrams, packets["recovered"], latency_ms if isinstance(latency_ms, float) else None
        )
        self.last = answer_of(record)


def answer_of(record: Record) -> str:
    """Return a record's source and answer in a few words."""
    top5 = record["top5"]
    answer = f"{top5[0]['label']} {top5[0]['score']:.2f}" if isinstance(top5, list) and top5 else "no answer"
    return f"{record['source']}: {answer}"


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
