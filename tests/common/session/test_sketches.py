"""Sketches between the cores: asked for, sent now and then, collected within bounds; a liar harms only himself."""

from dataclasses import replace

import numpy as np
import pytest
from tests.common.small_tensors import GRID

from gradfec_common.session.events import Sketched
from gradfec_common.sketch import Sketch, sketch_bytes, sketch_parts
from gradfec_common.wire import SketchPart, Welcome

from .clouds import Cloud

PLACES = np.arange(GRID.count, dtype=np.uint8)
SKETCH = Sketch(PLACES % 3, PLACES, b"\xff\xd8\xff" + bytes(3000))
PARTS = sketch_parts(5, sketch_bytes(SKETCH))


@pytest.fixture
def cloud():
    return Cloud(sketches=True)


def sketches(cloud):
    return [(event.tensor, *map(np.ndarray.tolist, event.sketch[:2])) for event in cloud.took(Sketched)]


def test_a_cloud_says_whether_it_wants_sketches():
    for wanted in (True, False):
        cloud = Cloud(sketches=wanted)
        cloud.greet()
        assert [welcome.sketches for welcome in cloud.told(Welcome)] == [wanted]


def test_a_sketch_is_told_once_enough_of_it_has_come_in_any_order(cloud):
    assert (PARTS[0].n, PARTS[0].k) == (6, 3)
    session = cloud.connect()
    for part in (PARTS[4], PARTS[1]):
        cloud.say(part, session)
    assert not sketches(cloud)
    cloud.say(PARTS[5], session)
    (told,) = cloud.took(Sketched)
    assert (told.session, told.edge, told.tensor) == (session.number, "edge", 5)
    assert all(map(np.array_equal, told.sketch, SKETCH))
    for part in (PARTS[0], PARTS[5]):  # more than enough
        cloud.say(part, session)
    assert not sketches(cloud)
    assert cloud.counts == {"hello": 1, "ping": 1, "sketch": 5}
    assert not cloud.told()


def test_a_newer_sketch_takes_the_place_of_one_that_is_not_whole(cloud):
    session = cloud.connect()
    cloud.say(PARTS[0], session)
    for part in sketch_parts(6, sketch_bytes(SKETCH._replace(photograph=b""))):
        cloud.say(part, session)
    cloud.say(PARTS[1], session)
    assert [tensor for tensor, *_ in sketches(cloud)] == [6]
    assert cloud.counts == {"hello": 1, "ping": 1, "sketch": 3, "late": 1}


def test_each_session_has_a_sketch_of_its_own(cloud):
    one, other = cloud.connect(), cloud.connect()
    for part in PARTS[:3]:
        cloud.say(part, one)
        cloud.say(replace(part, tensor=9), other)
    assert [tensor for tensor, *_ in sketches(cloud)] == [5, 9]


@pytest.mark.parametrize(
    ("lie", "fate"),
    [
        ({"k": 0}, "bad_message"),
        ({"n": 2}, "bad_message"),
        ({"index": 6}, "bad_message"),
        ({"data": b""}, "bad_message"),
        ({"tensor": 4}, "late"),
        ({"n": 7}, "conflict"),
        ({"k": 2}, "conflict"),
        ({"data": b"x"}, "conflict"),
        ({"index": 0}, "duplicate"),
        ({"k": 255, "n": 255, "data": bytes(1024)}, "memory_limit"),
    ],
    ids=str,
)
def test_a_part_that_cannot_be_true_changes_nothing(cloud, lie, fate):
    session = cloud.connect()
    cloud.say(PARTS[0], session)
    cloud.say(replace(PARTS[1], **lie), session)
    assert cloud.counts == {"hello": 1, "ping": 1, "sketch": 1, fate: 1}
    for part in PARTS[1:3]:
        cloud.say(part, session)
    assert len(sketches(cloud)) == 1


def test_what_makes_no_sketch_is_a_bad_message(cloud):
    session = cloud.connect()
    cloud.say(SketchPart(0, 1, 1, 0, b"\xff" * 8), session)
    assert cloud.counts == {"hello": 1, "ping": 1, "bad_message": 1}
    cloud.say(SketchPart(0, 1, 1, 0, b"\xff" * 8), session)  # that one is over
    assert not sketches(cloud)


def test_no_more_of_a_sketch_is_held_than_the_limit():
    cloud = Cloud(sketches=True, sketch_bytes=3000)
    session = cloud.connect()
    for part in PARTS:
        cloud.say(part, session)
    assert cloud.counts == {"hello": 1, "ping": 1, "memory_limit": 6}
    assert cloud.core.bites["sketch_bytes"] == 6
    for index in range(5):
        cloud.say(SketchPart(1, 6, 6, index, bytes(500)), session)
    held = cloud.core._sketches._newest[session.number].parts
    assert sum(map(len, held.values())) == 2500


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
