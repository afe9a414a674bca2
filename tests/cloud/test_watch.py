"""What the cloud tells its page about the events of its core and the tensors that are inferred."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from tests.common.answers import TIGER_CAT
from tests.common.small_tensors import CUT, GRID, ZERO, encoded, planned
from tests.exported import nothing_counted

from gradfec_cloud import watch as watch_module
from gradfec_cloud.inference import Inferred
from gradfec_cloud.outward.news import Answered, Linked
from gradfec_cloud.watch import MOST_GONE, Watch
from gradfec_cloud.workers.local import LocalWorkers
from gradfec_cloud.workers.pool import Crew
from gradfec_common.cells import Cell
from gradfec_common.decode import decode_tensor
from gradfec_common.reassembly import Reassembly
from gradfec_common.session.events import (
    Decided,
    Finished,
    GivenUp,
    SessionEnded,
    SessionMoved,
    SessionOpened,
    Sketched,
)
from gradfec_common.sketch import JPEG_MAGIC, Sketch, plan_fates
from gradfec_common.wire import Result
from gradfec_host.console import Endpoint
from gradfec_web.shown import Overview, PageOptions
from gradfec_web.view import Answer, Frame, Picture, Record, Workers

OPTIONS = PageOptions(Endpoint("127.0.0.1", 8080), "cloud", ":9000", {}, False)
SESSION = 7
PLAN = planned("FEC_50_50")
SKETCH = Sketch(plan_fates(PLAN), np.arange(12, dtype=np.uint8), JPEG_MAGIC + b"...")


@dataclass
class Page:
    """Takes down what it is told, and who the edges are."""

    told: list[Record] = field(default_factory=list)
    overview: Callable[[], Overview] = field(default=lambda: Overview([], {}))
    room = True

    def tell(self, record: Record) -> bool:
        if self.room:
            self.told.append(record)
        return self.room

    def take(self, kind: type[Any]) -> list[Any]:
        found = [record for record in self.told if isinstance(record, kind)]
        self.told.clear()
        return found

    @asynccontextmanager
    async def shown(self, options: object, overview: Callable[[], Overview], say: object) -> AsyncIterator[Any]:
        self.overview = overview
        yield self.tell


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    made = Page()
    monkeypatch.setattr(watch_module, "shown", made.shown)
    return made


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr(watch_module.time, "monotonic", lambda: clock[0])
    return clock


def watching(
    story: Callable[[Watch], object], options: PageOptions | None = OPTIONS, crew: Crew = LocalWorkers.crew
) -> Watch:
    """Let a story happen while the page is on."""
    watch = Watch(options)

    async def run() -> None:
        async with watch.shown(lambda: replace(nothing_counted(), crew=crew), print):
            story(watch)

    asyncio.run(run())
    return watch


def decided(number: int, session: int = SESSION) -> Decided:
    """A tensor whose first three datagrams, of twelve, are lost."""
    bodies = encoded(PLAN).bodies(number)[3:]
    arrived = Reassembly(bodies[0].tobytes(), GRID)
    arrived.add(bodies)
    return Decided(session, number, arrived, True, 0.1, CUT)


def inferred(of: Decided, found: bool = True) -> Inferred:
    return Inferred(of, TIGER_CAT, found=decode_tensor(of.arrived, ZERO).found if found else None)


def opened(session: int = SESSION, name: str = "kitchen") -> SessionOpened:
    return SessionOpened(session, name, ("::1", 40_000, 0, 0))


def tensor(watch: Watch, number: int, sketch: Sketch | None = None) -> None:
    """A tensor's whole story, with its sketch if there is one."""
    if sketch:
        watch.saw(Sketched(SESSION, "kitchen", number, sketch))
    of = decided(number)
    watch.saw(of)
    watch.inferred(inferred(of))


def test_without_a_page_nothing_is_kept_or_told() -> None:
    def story(watch: Watch) -> None:
        watch.saw(opened())
        tensor(watch, 0, SKETCH)

    watch = watching(story, None)
    assert not watch._seen and not watch._sketches


def test_a_picture_without_a_sketch_shows_what_is_there(page: Page) -> None:
    watching(lambda watch: (watch.saw(opened()), tensor(watch, 3)))
    (picture,) = page.take(Picture)
    cells = np.frombuffer(base64.b64decode(picture.cells), np.uint8)
    assert (picture.edge, picture.session, picture.number) == ("kitchen", SESSION, 3)
    assert (picture.channels, picture.groups) == (6, 2)
    assert np.bincount(cells, minlength=7).tolist() == [0, 3, 3, 0, 0, 0, 6]
    assert (picture.importance, picture.photograph) == ("", "")
    assert picture.answer == [("tiger cat", 0.5)]


def test_with_a_sketch_it_also_shows_what_was_dropped_how_much_it_matters_and_the_photograph(page: Page) -> None:
    watching(lambda watch: (watch.saw(opened()), tensor(watch, 3, SKETCH)))
    (picture,) = page.take(Picture)
    cells = np.frombuffer(base64.b64decode(picture.cells), np.uint8)
    assert np.flatnonzero(cells == Cell.DROPPED).tolist() == PLAN.dropped.tolist()
    assert np.bincount(cells, minlength=7).tolist() == [0, 3, 3, 0, 0, 6, 0]
    assert [*base64.b64decode(picture.importance)] == [17 * level for level in range(12)]
    assert base64.b64decode(picture.photograph) == SKETCH.photograph


def test_a_sketch_of_another_form_than_its_tensor_is_not_shown(page: Page) -> None:
    other = Sketch(SKETCH.fates[:6], SKETCH.importance[:6])
    watching(lambda watch: (watch.saw(opened()), tensor(watch, 3, other)))
    assert page.take(Picture) == []  # an edge that sends sketches has pictures of their tensors only


def test_a_sketch_waits_for_its_tensor_however_long_the_back_end_takes(page: Page) -> None:
    def story(watch: Watch) -> None:
        watch.saw(opened())
        queue = []
        for number in range(4):
            watch.saw(Sketched(SESSION, "kitchen", number, SKETCH))
            queue.append(decided(number))
            watch.saw(queue[-1])
        for of in queue:
            watch.inferred(inferred(of))
        assert not watch._sketches

    watching(story)
    assert [bool(picture.photograph) for picture in page.take(Picture)] == [True]


def test_there_is_about_one_picture_a_second_for_each_edge(page: Page, now: list[float]) -> None:
    def story(watch: Watch) -> None:
        watch.saw(opened())
        watch.saw(opened(8, "yard"))
        for number in range(25):
            tensor(watch, number)
            watch.inferred(inferred(decided(number, session=8)))
            now[0] += 0.125

    watching(story)
    assert [(picture.edge, picture.number) for picture in page.take(Picture)] == [
        (edge, number) for number in (0, 8, 16, 24) for edge in ("kitchen", "yard")
    ]


def test_where_there_are_sketches_their_tensors_are_shown_until_no_more_come(page: Page, now: list[float]) -> None:
    def story(watch: Watch) -> None:
        watch.saw(opened())
        for number in range(80):
            tensor(watch, number, SKETCH if number in (7, 18, 29) else None)
            now[0] += 0.125

    watching(story)
    shown = [(picture.number, bool(picture.importance)) for picture in page.take(Picture)]
    assert shown == [(0, False), (7, True), (18, True), (29, True), *((number, False) for number in (53, 61, 69, 77))]


def test_a_liar_who_sketches_every_tensor_gets_no_more_than_two_pictures_a_second(page: Page, now: list[float]) -> None:
    def story(watch: Watch) -> None:
        watch.saw(opened())
        for number in range(32):
            tensor(watch, number, SKETCH)
            now[0] += 0.0625

    watching(story)
    assert [picture.number for picture in page.take(Picture)] == [0, 8, 16, 24]


def test_failed_tensors_and_those_of_edges_that_left_are_not_shown(page: Page) -> None:
    def story(watch: Watch) -> None:
        watch.saw(opened())
        watch.saw(Sketched(SESSION, "kitchen", 0, SKETCH))
        for of in (decided(0), decided(1)):
            watch.saw(of)
        watch.inferred(inferred(decided(0), found=False))
        watch.saw(SessionEnded(SESSION, "kitchen", "bye"))
        watch.inferred(inferred(decided(1)))
        assert not watch._sketches and not watch._seen

    watching(story)
    assert not page.take(Picture)


def test_nothing_is_kept_of_tensors_that_never_reach_the_back_end(page: Page) -> None:
    def story(watch: Watch) -> None:
        watch.saw(opened())
        for number in range(3):
            watch.saw(Sketched(SESSION, "kitchen", number, SKETCH))
            watch.saw(decided(number))
        watch.saw(GivenUp(SESSION, 1))
        assert len(watch._sketches) == 2
        watch.saw(SessionEnded(SESSION, "kitchen", "idle"))
        assert not watch._sketches

    watching(story)


def test_a_finished_tensor_is_a_frame(page: Page) -> None:
    result = Result(3, "partial", TIGER_CAT.packed(), 4, 5, {"decode": 1.5})
    packets, datagrams = {"total": 12, "recovered": 4, "missing": 5}, {"sent": 6, "lost": 3}
    finished = Finished("kitchen", SESSION, 3, packets, datagrams, result, TIGER_CAT, 0.25, 2, 4000, 1.0)
    watching(lambda watch: watch.saw(finished))
    (told,) = page.take(Frame)
    assert (told.edge, told.session, told.number, told.outcome, told.source) == ("kitchen", SESSION, 3, "partial", "")
    assert (told.packets, told.datagrams, told.bursts, told.latency_ms) == (packets, datagrams, 2, 250.0)
    assert (told.answer, told.stages_ms) == ([("tiger cat", 0.5)], {"decode": 1.5})


def test_a_tensor_that_its_edge_gives_up_is_a_frame_without_an_answer(page: Page) -> None:
    def story(watch: Watch) -> None:
        watch.saw(SessionOpened(SESSION, "kitchen", ("::1", 9)))
        watch.saw(GivenUp(SESSION, 3))

    watching(story)
    (told,) = page.take(Frame)
    assert (told.edge, told.session, told.number, told.outcome, told.answer) == ("kitchen", SESSION, 3, "timeout", [])


def test_an_answers_record_is_passed_on_to_the_api(page: Page) -> None:
    record = {"edge": "kitchen", "tensor": 3}

    def story(watch: Watch) -> None:
        watch.told(Linked("kitchen", True))
        watch.told(Answered("kitchen", record, []))
        page.room = False
        watch.told(Answered("kitchen", record, []))
        assert watch.answers == {"delivered": 1, "dropped": 1}

    watching(story)
    assert page.take(Answer) == [Answer("kitchen", record)]


def test_workers_in_other_processes_are_told_and_this_process_is_none(page: Page) -> None:
    watching(lambda watch: None)
    assert page.overview().workers is None
    watching(lambda watch: None, crew=Crew(2, 3, {"died": 1, "hung": 2}))
    assert page.overview().workers == Workers(2, 3, 3, fallback=False)


def test_connected_edges_are_listed_after_some_that_have_left(page: Page) -> None:
    def story(watch: Watch) -> None:
        watch.saw(opened())
        watch.saw(SessionMoved(SESSION, "kitchen", ("192.0.2.1", 5)))
        for session in range(100, 100 + MOST_GONE + 3):
            watch.saw(opened(session, f"edge {session}"))
            watch.saw(decided(0, session))
            watch.saw(SessionEnded(session, f"edge {session}", "idle"))

    watching(story)
    *gone, here = page.overview().edges
    assert (here.name, here.address, here.connected) == ("kitchen", "192.0.2.1:5", True)
    assert [edge.session for edge in gone] == [*range(103, 103 + MOST_GONE)]
    assert {(edge.connected, edge.said, edge.address) for edge in gone} == {(False, "idle", "[::1]:40000")}


def test_an_edge_that_left_without_a_frame_is_not_listed(page: Page) -> None:
    def story(watch: Watch) -> None:
        watch.saw(opened(name="gradfec doctor"))
        assert [edge.name for edge in page.overview().edges] == ["gradfec doctor"]
        watch.saw(SessionEnded(SESSION, "gradfec doctor", "bye"))

    watching(story)
    assert page.overview().edges == []
