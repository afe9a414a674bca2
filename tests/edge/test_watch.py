"""What the edge tells its page and, in sketches, the cloud."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import pytest
from tests.common.answers import HEAD, TIGER_CAT
from tests.common.small_tensors import GRID, encoded, planned

from gradfec_common.cells import Cell
from gradfec_common.session.edge import Answered, Connected, LinkLost, Refused
from gradfec_common.sketch import JPEG_MAGIC, Sketch
from gradfec_common.wire import Report, Result
from gradfec_edge import watch as watch_module
from gradfec_edge.cells import cells_of
from gradfec_edge.frames import Frame as CameraFrame
from gradfec_edge.pipeline import EncodedFrame
from gradfec_edge.story import Sent, Story
from gradfec_edge.watch import Watch
from gradfec_host.console import Endpoint
from gradfec_web.view import Frame, Picture, Record

CLOUD = Endpoint("cloud", 9000)
SETTINGS = {"protect": "auto"}
IMAGE = np.full((224, 224, 3), 100, np.uint8)
SCORES = np.arange(GRID.count, dtype=np.float32)
RESULT = Result(3, "partial", TIGER_CAT.packed(), 1, 2, {"decode": 1.0})
CAMERA_FRAME = CameraFrame(0, "cat.jpg", IMAGE, 0.0)
STORY = Story(CAMERA_FRAME, TIGER_CAT, latency_ms=12.5, result=RESULT, sent=16)


def frame() -> EncodedFrame:
    tensor = encoded(planned("FEC_50_50", SCORES))
    return EncodedFrame(
        tensor.plan, tensor.unnumbered, 0, "conv", "uniform8", GRID, IMAGE, SCORES, SCORES / SCORES.sum()
    )


@dataclass
class Session:
    """Takes sketches while they are wanted."""

    wanted: bool = False
    sketches: list[tuple[int, Sketch]] = field(default_factory=list)

    def wants_sketch(self, now: float) -> bool:
        return self.wanted

    def send_sketch(self, tensor: int, sketch: Sketch, now: float, form: int) -> int:
        assert form == 0
        self.sketches.append((tensor, sketch))
        return 700


class Page(list[Record]):
    """Takes down what it is told."""

    def take(self, kind: type[Any]) -> list[Any]:
        return [record for record in self if isinstance(record, kind)]


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr(watch_module.time, "monotonic", lambda: clock[0])
    return clock


def watching(session: Session | None = None, *, thumbnail: bool = False) -> Watch:
    return Watch("kitchen", CLOUD, session or Session(), thumbnail=thumbnail, settings=SETTINGS)  # type: ignore[arg-type]


def on_page(page: Page) -> Watch:
    watch = watching()
    watch.tell = page.append
    return watch


def test_without_a_page_nothing_is_kept_or_told() -> None:
    watch = watching()

    watch.sent(3, frame())
    watch.frame_ended(3, STORY)
    assert not watch._pictured


def test_the_cloud_gets_a_sketch_when_it_wants_one_with_a_thumbnail_only_if_the_user_says_so() -> None:
    for thumbnail in (False, True):
        session = Session()
        watch = watching(session, thumbnail=thumbnail)
        watch.sent(3, frame())
        assert not session.sketches
        session.wanted = True
        watch.sent(4, frame())
        ((tensor, sketch),) = session.sketches
        assert tensor == 4
        assert sketch.photograph.startswith(JPEG_MAGIC) == thumbnail
        assert sketch.fates.tolist() == [0] * 6 + [2] * 6  # the least important half is dropped, the other protected
        assert sketch.importance.tolist() == [15 - 16 * rank // 12 for rank in range(11, -1, -1)]


def test_a_frame_is_told_by_its_story_and_its_report(page: Page) -> None:
    watch = on_page(page)
    report = Report(3, 12, 10, 2, b"")
    watch.saw(Connected(7, 0.5, True))
    watch.frame_ended(3, replace(STORY, report=report))
    (told,) = page.take(Frame)
    assert (told.edge, told.session, told.number, told.outcome, told.source) == ("kitchen", 7, 3, "partial", "cat.jpg")
    assert told.packets == {"total": 0, "dropped_by_plan": 0, "recovered": 1, "missing": 2}
    assert told.datagrams == {"sent": 16, "parity": 0, "received": 10, "lost": 2}
    assert (told.bursts, told.latency_ms, told.stages_ms) == (2, 12.5, {"decode": 1.0})
    assert told.answer == [("tiger cat", 0.5)]
    assert (told.bytes, told.why, told.expected) == (0, "", None)  # of a story of which nothing was sent
    assert watch.edge.warnings == []


def test_a_frame_for_which_the_link_decided_is_told_with_why(page: Page) -> None:
    why = {"loss": 0.22, "burst": 6.0, "budget_kbit_s": 900.0, "expected": 0.81}
    sent = Sent(7, 3, frame().plan, 100, why=why)
    on_page(page).frame_ended(3, replace(STORY, as_sent=sent))
    (told,) = page.take(Frame)
    assert told.why == "loss 22.0 % in runs of 6.0, 81.0 % expected, 12 datagrams of which 6 parity, budget 900 kbit/s"
    assert told.expected == 0.81


def test_warnings_are_shown_until_they_are_over_or_the_edge_ends(page: Page) -> None:
    watch = on_page(page)
    watch.frame_ended(3, STORY, ("the link is slow",))
    watch.saw(LinkLost(leaving=False))
    assert watch.edge.warnings == ["the link is slow"]
    watch.frame_ended(4, STORY)
    assert watch.edge.warnings == []
    watch.frame_ended(5, STORY, ("the link is slow",))
    watch.ended()
    assert watch.edge.warnings == []


def test_a_frame_without_an_answer_is_told_too(page: Page) -> None:
    watch = on_page(page)
    story = Story(CAMERA_FRAME, HEAD.no_answer)

    watch.sent(3, frame())
    watch.frame_ended(3, story)
    (told,), (picture,) = page.take(Frame), page.take(Picture)
    assert (told.outcome, told.answer, told.latency_ms, told.bursts) == ("timeout", [], 0.0, 0)
    assert set(base64.b64decode(picture.cells)) == {Cell.DROPPED, Cell.ABSENT}


@pytest.mark.parametrize("stands", [0, 1])
def test_of_two_looks_the_page_shows_the_one_whose_answer_stands(stands: int, page: Page, now: list[float]) -> None:
    watch = on_page(page)
    features, picture = frame(), frame()
    for number in range(0, 60, 2):
        plans = [Sent(7, number + look, encoded.plan, 100) for look, encoded in enumerate((features, picture))]
        looks = [replace(STORY, as_sent=sent) for sent in plans]
        looks[1].first = looks[0]
        looks[stands].other = looks[1 - stands]
        watch.sent(number, features)
        now[0] += 0.0625
        watch.sent(number + 1, picture, number)
        watch.frame_ended(number + stands, looks[stands])
        now[0] += 0.1875
    assert [told.number for told in page.take(Picture)] == [*range(stands, 60, 8)]
    assert [told.number for told in page.take(Frame)] == [*range(stands, 60, 2)]
    assert not watch._pictured


def test_one_picture_a_second_shows_what_the_report_s_map_says(page: Page, now: list[float]) -> None:
    watch, tensor = on_page(page), frame()
    arrived = np.arange(tensor.plan.sent) % 3 > 0
    report = Report(0, tensor.plan.sent, int(arrived.sum()), 5, np.packbits(arrived).tobytes())

    for number in range(25):
        watch.sent(number, tensor)
        watch.frame_ended(number, replace(STORY, report=report))
        now[0] += 0.125
    pictures = page.take(Picture)
    assert [picture.number for picture in pictures] == [0, 8, 16, 24]
    picture = pictures[0]
    cells = cells_of(tensor.plan, arrived, complete=False)
    assert base64.b64decode(picture.cells) == cells.tobytes()
    assert (picture.channels, picture.groups) == (6, 2)
    assert base64.b64decode(picture.photograph).startswith(JPEG_MAGIC)
    importance = np.frombuffer(base64.b64decode(picture.importance), np.uint8)
    assert np.array_equal(np.argsort(importance), np.arange(GRID.count))
    assert picture.answer == [("tiger cat", 0.5)]


@pytest.mark.parametrize("untrue", [b"\xff", b"\xff" * 100])
def test_a_map_that_is_not_the_tensor_s_is_no_map(page: Page, untrue: bytes) -> None:
    watch, tensor = on_page(page), frame()

    watch.sent(0, tensor)
    watch.frame_ended(0, replace(STORY, report=Report(0, 9, 9, 0, untrue)))
    (picture,) = page.take(Picture)
    assert set(base64.b64decode(picture.cells)) == {Cell.DROPPED, Cell.ABSENT}


def test_the_page_is_told_where_the_edge_stands_with_its_cloud(page: Page) -> None:
    watch = on_page(page)
    stood = []

    for event in (
        Refused("full", "no room"),
        Connected(9, 0.5, True),
        Answered(0, RESULT, TIGER_CAT),
        LinkLost(False),
        LinkLost(True),
    ):
        watch.saw(event)
        edge = watch.edge
        stood.append((edge.connected, edge.session, edge.said))
    assert stood == [
        (False, 0, "no room"),
        (True, 9, ""),
        (True, 9, ""),
        (False, 9, "the cloud is silent"),
        (False, 9, "the cloud is leaving"),
    ]
    edge = watch.edge
    assert (edge.name, edge.address, edge.protect) == ("kitchen", "cloud:9000", "auto")


def test_the_page_has_the_photograph_in_its_own_shape(page: Page) -> None:
    watch = on_page(page)
    watch.sent(3, frame())
    wide = replace(STORY, frame=replace(CAMERA_FRAME, image=np.full((300, 600, 3), (9, 9, 200), np.uint8)))
    watch.frame_ended(3, wide)
    (picture,) = page.take(Picture)
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(picture.photograph), np.uint8), cv2.IMREAD_COLOR)
    assert (shown.shape, picture.ratio) == ((224, 448, 3), 2.0)
    assert shown[0, 0, 2] > 180  # red, as the camera gave it


def test_while_the_cloud_is_away_the_page_says_who_answers() -> None:
    watch = Watch("kitchen", CLOUD, Session(), thumbnail=False, settings=SETTINGS, fallback="small")  # type: ignore[arg-type]
    meanwhile = "; small answers on the edge"
    assert watch.edge.said == f"looking for the cloud{meanwhile}"
    watch.found("no route")
    assert watch.edge.said == f"no route{meanwhile}"
    watch.saw(Refused("full", "256 edges"))
    assert watch.edge.said == f"256 edges{meanwhile}"
    watch.saw(Connected(7, 0.25, fresh=True))
    assert watch.edge.said == ""
    watch.saw(LinkLost(leaving=False))
    assert watch.edge.said == f"the cloud is silent{meanwhile}"
    assert not watch.edge.connected


def test_the_cloud_gets_no_sketch_while_the_budget_has_no_room_for_one() -> None:
    session = Session(wanted=True)
    watch = watching(session)
    assert watch.sent(3, frame(), may_sketch=False) == 0
    assert not session.sketches
    assert watch.sent(4, frame()) == 700


def test_the_page_no_longer_says_why_the_cloud_is_away_once_that_is_not_known() -> None:
    watch = watching()
    said = []
    for event in (Refused("full", "256 edges"), Connected(7, 0.25, fresh=True), LinkLost(leaving=True)):
        watch.saw(event)
        for trouble in ("", "no route", "", "nobody listens", ""):
            watch.found(trouble)
            said.append(watch.edge.said)
    later = ["no route", "looking for the cloud", "nobody listens", "looking for the cloud"]
    assert said == ["256 edges", *later, *5 * [""], "the cloud is leaving", *later]
