"""What the live status says below its table of why the newest frame was sent as it was."""

from __future__ import annotations

import io
import re
import time
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from tests.common.answers import HEAD, TIGER_CAT

from gradfec_common.protect import UNKNOWN_LINK, read_policy
from gradfec_common.transmit import room_for
from gradfec_edge.frames import Frame
from gradfec_edge.health import LinkState
from gradfec_edge.status import CameraStatus, Row, status_table
from gradfec_edge.story import Sent, Story
from gradfec_host.recent import WINDOW_S

PLAN = read_policy("none").plan(np.zeros(20, np.float32), np.full(20, 30), UNKNOWN_LINK, room_for(8, 2))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


def story(tensor: int, loss: float | None) -> Story:
    """A frame that was planned for a loss, or by a policy that ignores the link."""
    why = {} if loss is None else {"loss": loss, "burst": 2.0, "budget_kbit_s": 900.0}
    frame = Frame(tensor, "a.png", np.zeros((4, 4, 3), np.uint8), 0.0)
    return Story(frame, TIGER_CAT, Sent(7, tensor, PLAN, 1060, why=why, codec="bottleneck"), sent=10)


def notes(*statuses: CameraStatus, link: LinkState = LinkState.CONNECTED, lines: int = 20) -> list[str]:
    """Return the lines below those of the cameras, without how much they send."""
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(status_table([Row(status, link) for status in statuses], lines))
    return [line.strip() for line in capture.get().splitlines()[1 + len(statuses) :] if "a frame" not in line]


def drawn(width: int, *rows: Row) -> list[str]:
    """Return what is on a terminal."""
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(status_table(rows, 20))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_at_80_columns_class_and_confidence_are_whole_and_the_file_s_name_is_cut() -> None:
    name = "a-camera-in-the-yard-behind-the-house-2026-05-04T12-00-00.png"
    one = replace(story(0, 0.1), frame=Frame(0, name, np.zeros((4, 4, 3), np.uint8), 0.0))
    status = status_of(one, name="the camera box in the yard")
    status.last = "American Staffordshire terrier 0.93"  # of the longest names
    _, row, counted, _ = drawn(76, Row(status, LinkState.CONNECTED))
    assert re.fullmatch(r"the.*… American Staffordshire terrier 0\.93 connected +\S+ +- +- a\S*…", row), row
    assert counted == "0 complete, 0 partial, 1 timeout; 11 kB a frame, 85 kbit/s"
    wide = drawn(160, Row(status, LinkState.CONNECTED))[1]
    assert wide.endswith(name)


def status_of(*stories: Story, name: str = "door") -> CameraStatus:
    status = CameraStatus(name)
    for one in stories:
        status.ended(one)
    return status


def test_it_says_why_only_for_cameras_whose_link_decides() -> None:
    follows, ignores = status_of(story(0, 0.22)), status_of(story(0, None), name="yard")
    why = "why: bottleneck; loss 22.0 % in runs of 2.0, 10 datagrams of which 0 parity, budget 900 kbit/s"
    assert notes(follows) == [why]
    assert notes(ignores) == []
    assert notes(ignores, follows) == [f"door: {why}"]
    assert notes(follows, lines=3) == []  # there is room for what it sends, and no more


def test_the_newest_frame_counts_even_if_an_older_one_ends_later() -> None:
    (line,) = notes(status_of(story(1, 0.1), story(0, 0.5), Story(story(2, 0.5).frame, HEAD.no_answer)))
    assert line.startswith("why: bottleneck; loss 10.0 %")


def test_at_80_columns_the_codec_is_seen_and_the_end_of_the_line_is_cut() -> None:
    *_, why = drawn(76, Row(status_of(story(0, 0.22)), LinkState.CONNECTED))
    assert why.startswith("why: bottleneck; loss 22.0 %") and why.endswith("…")


def test_without_a_link_or_new_frames_it_says_nothing(now: list[float]) -> None:
    status = status_of(story(0, 0.1))
    for link in LinkState:
        assert bool(notes(status, link=link)) == (link is LinkState.CONNECTED)
    now[0] += WINDOW_S
    assert notes(status) == []
