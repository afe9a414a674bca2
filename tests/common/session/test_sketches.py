"""Sketches between the cores: asked for, sent now and then, collected within bounds; a liar harms only his own."""

from dataclasses import replace

import numpy as np
import pytest
from tests.common.small_tensors import GRID

from gradfec_common.session.events import Sketched
from gradfec_common.sketch import Sketch, sketch_bytes, sketch_parts
from gradfec_common.wire import Bye, SketchPart, Welcome

from .clouds import Cloud

PLACES = np.arange(GRID.count, dtype=np.uint8)
SKETCH = Sketch(PLACES % 3, PLACES, b"\xff\xd8\xff" + bytes(3000))
PARTS = sketch_parts(5, sketch_bytes(SKETCH))


@pytest.fixture
def cloud():
    return Cloud(sketches=True)


def sketched(cloud):
    return [event.tensor for event in cloud.took(Sketched)]


def held(cloud):
    return sum(sketch.held_bytes for sketch in cloud.core._sketches._newest.values())


def test_a_cloud_says_whether_it_wants_sketches():
    for wanted in (True, False):
        cloud = Cloud(sketches=wanted)
        cloud.greet()
        assert [welcome.sketches for welcome in cloud.told(Welcome)] == [wanted]


def test_a_sketch_is_told_once_all_of_its_parts_have_come_in_any_order(cloud):
    assert [(part.part, part.parts) for part in PARTS] == [(0, 3), (1, 3), (2, 3)]
    session = cloud.connect()
    for part in (PARTS[2], PARTS[0]):
        cloud.say(part, session)
    assert not cloud.took(Sketched)
    cloud.say(PARTS[1], session)
    (told,) = cloud.took(Sketched)
    assert (told.session, told.edge, told.tensor) == (session.number, "edge", 5)
    assert all(map(np.array_equal, told.sketch, SKETCH))
    assert cloud.counts == {"hello": 1, "ping": 1, "sketch": 3}
    assert not cloud.told()
    assert held(cloud) == 0


def test_a_lost_part_means_no_sketch_and_the_next_one_is_told(cloud):
    session = cloud.connect()
    for part in (*PARTS[:1], *PARTS[2:], *(replace(part, tensor=6) for part in PARTS)):
        cloud.say(part, session)
    assert sketched(cloud) == [6]


def test_a_part_that_comes_again_is_a_duplicate_before_the_sketch_is_whole_and_after(cloud):
    session = cloud.connect()
    for part in (PARTS[0], *PARTS, *PARTS):
        cloud.say(part, session)
    assert sketched(cloud) == [5]
    assert cloud.counts == {"hello": 1, "ping": 1, "sketch": 3, "duplicate": 4}


def test_a_newer_sketch_takes_the_place_of_one_that_is_not_whole(cloud):
    session = cloud.connect()
    cloud.say(PARTS[0], session)
    for part in sketch_parts(6, sketch_bytes(SKETCH._replace(photograph=b""))):
        cloud.say(part, session)
    cloud.say(PARTS[1], session)
    assert sketched(cloud) == [6]
    assert cloud.counts == {"hello": 1, "ping": 1, "sketch": 2, "late": 1}


def test_each_session_has_a_sketch_of_its_own(cloud):
    one, other = cloud.connect(), cloud.connect()
    for part in PARTS:
        cloud.say(part, one)
        cloud.say(replace(part, tensor=9), other)
    assert sketched(cloud) == [5, 9]


@pytest.mark.parametrize(
    ("lie", "fate"),
    [
        ({"part": 3}, "bad_message"),
        ({"parts": 0}, "bad_message"),
        ({"parts": 1}, "bad_message"),
        ({"data": b""}, "bad_message"),
        ({"tensor": 4}, "late"),
        ({"parts": 4}, "conflict"),
        ({"part": 0}, "duplicate"),
    ],
    ids=str,
)
def test_a_part_that_cannot_be_true_changes_nothing(cloud, lie, fate):
    session = cloud.connect()
    cloud.say(PARTS[0], session)
    cloud.say(replace(PARTS[1], **lie), session)
    assert cloud.counts == {"hello": 1, "ping": 1, "sketch": 1, fate: 1}
    for part in PARTS[1:]:
        cloud.say(part, session)
    assert sketched(cloud) == [5]


def test_parts_that_make_no_sketch_are_a_bad_message_in_the_end(cloud):
    session = cloud.connect()
    for part in range(2):
        cloud.say(SketchPart(0, part, 2, b"\xff" * 8), session)
    assert cloud.counts == {"hello": 1, "ping": 1, "sketch": 1, "bad_message": 1}
    cloud.say(SketchPart(0, 0, 2, b"\xff" * 8), session)
    assert cloud.counts["duplicate"] == 1
    assert not cloud.took(Sketched)
    assert held(cloud) == 0


def test_no_more_of_a_sketch_is_held_than_the_limit():
    cloud = Cloud(sketches=True, sketch_bytes=3000)
    session = cloud.connect()
    for part in PARTS:  # of 1024 bytes, 1024 bytes, and the rest
        cloud.say(part, session)
    assert cloud.counts == {"hello": 1, "ping": 1, "sketch": 2, "memory_limit": 1}
    assert cloud.core.bites["sketch_bytes"] == 1
    assert held(cloud) == 2048
    cloud.say(SketchPart(6, 0, 2, bytes(500)), session)
    assert held(cloud) == 500


def test_a_part_that_is_refused_leaves_the_sketch_before_it(cloud):
    session = cloud.connect()
    cloud.say(PARTS[0], session)
    cloud.say(SketchPart(6, 2, 2, b"?"), session)
    for part in PARTS[1:]:
        cloud.say(part, session)
    assert sketched(cloud) == [5]


def test_nothing_of_a_sketch_outlives_its_session(cloud):
    session = cloud.connect()
    cloud.say(PARTS[0], session)
    assert held(cloud) == 1024
    cloud.say(Bye(), session)
    assert held(cloud) == 0


# --- the edge ---


def test_an_edge_sends_sketches_only_where_they_are_wanted(edge):
    edge.connect()
    assert not edge.core.wants_sketch(edge.now)


def test_an_edge_sends_all_parts_of_a_sketch_at_most_once_a_second(edge):
    edge.wait(0)
    assert not edge.core.wants_sketch(edge.now)  # there is no session
    edge.welcome(Welcome(250, sketches=True))
    edge.said()
    assert edge.core.wants_sketch(edge.now)
    edge.core.send_sketch(5, SKETCH, edge.now)
    edge.look()
    assert [message for _, message in edge.said(SketchPart)] == PARTS
    assert not edge.core.wants_sketch(edge.now + 0.999)
    assert edge.core.wants_sketch(edge.now + 1)
