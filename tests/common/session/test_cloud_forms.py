"""The cloud's core: an edge's tensors may be of several forms, each a cut with a grid of packets."""

from dataclasses import replace

import numpy as np
import pytest
from tests.common.small_tensors import CUT, GRID, bodies_of, with_header

from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, read_policy
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.session.events import Decided, Sketched
from gradfec_common.sketch import Sketch, sketch_bytes, sketch_parts
from gradfec_common.transmit import encode_tensor, room_for
from gradfec_common.wire import Ping, Welcome

from .clouds import ALICE, BARE_PLAN, Cloud
from .ends import WANTED

PICTURE = CUT.network.cut("input")
PICTURE_GRID = PacketGrid(PICTURE.shape, 7, PICTURE.pixels)  # 6 packets of 28 elements
BOTH = replace(WANTED, also=[[PICTURE.network.digest, PICTURE.id, PICTURE_GRID.rows]])


def picture_bodies(tensor, form=1):
    coder = QUANTISERS["uniform8"]
    coded = coder.encode(np.random.default_rng(tensor).random(PICTURE.shape, np.float32), PICTURE_GRID)
    plan = read_policy("none").plan(
        np.zeros(PICTURE_GRID.count, np.float32), coded.packets.sizes, UNKNOWN_LINK, room_for(8, 1)
    )
    return [row.tobytes() for row in encode_tensor(coded, coder, plan, form=form).bodies(tensor)]


def connected(cuts=(CUT, PICTURE), wanted=BOTH, **options):
    cloud = Cloud(cuts=cuts, **options)
    session = cloud.greet(wanted, ALICE)
    cloud.feed(*session.says(Ping()))
    (welcome,) = cloud.told(Welcome)
    cloud.core.counts.clear()
    cloud.fed = 0
    return cloud, session, welcome


@pytest.mark.parametrize(("cuts", "forms"), [((CUT, PICTURE), [0, 1]), ((CUT,), [0])])
def test_the_welcome_says_which_forms_the_cloud_takes(cuts, forms):
    assert connected(cuts)[2].forms == forms


def test_tensors_of_both_forms_in_one_batch_are_each_of_their_cut():
    cloud, session, _ = connected()
    cloud.feed(*session.sends(*bodies_of(BARE_PLAN, tensor=0), *picture_bodies(1), *bodies_of(BARE_PLAN, tensor=2)))
    decided = cloud.took(Decided)
    assert [(one.tensor, one.cut, one.complete) for one in decided] == [
        (0, CUT, True),
        (1, PICTURE, True),
        (2, CUT, True),
    ]
    assert [one.arrived.grid for one in decided] == [GRID, PICTURE_GRID, GRID]


def test_a_form_that_the_session_does_not_have_is_a_bad_parameter():
    cloud, session, _ = connected(cuts=(CUT,))
    bodies = picture_bodies(0)
    cloud.feed(*session.sends(*bodies))
    assert cloud.counts == {"bad_parameters": len(bodies)}
    assert not cloud.took(Decided)


def test_of_a_batch_that_opens_a_tensor_with_two_forms_the_first_known_one_decides():
    cloud, session, _ = connected()
    ours, theirs = bodies_of(BARE_PLAN, tensor=0), picture_bodies(0)
    unknown = with_header(ours[3], form=7)
    long = max(len(ours[0]), len(theirs[0]))
    assert len(ours[0]) == long, "the batch is one of bodies of one length"
    other = with_header(ours[4], form=1)
    cloud.feed(*session.sends(unknown, *ours[:2], other))
    assert cloud.counts == {"bad_parameters": 1, "conflict": 1, "collected": 2}


def test_a_datagram_of_another_form_contradicts_an_open_tensor():
    cloud, session, _ = connected()
    ours = bodies_of(BARE_PLAN, tensor=0)
    cloud.feed(*session.sends(*ours[:2]))
    cloud.feed(*session.sends(with_header(ours[2], form=1)))
    assert cloud.counts == {"collected": 2, "conflict": 1}


@pytest.mark.parametrize(("form", "count"), [(0, GRID.count), (1, PICTURE_GRID.count)])
def test_a_sketch_has_the_packets_of_its_form(form, count):
    cloud, session, _ = connected(sketches=True)
    sketch = Sketch(np.zeros(count, np.uint8), np.zeros(count, np.uint8))
    cloud.feed(*session.says(*sketch_parts(3, sketch_bytes(sketch), form)))
    (sketched,) = cloud.took(Sketched)
    assert len(sketched.sketch.fates) == count
    cloud.feed(*session.says(*sketch_parts(4, sketch_bytes(sketch), 1 - form)))
    cloud.feed(*session.says(*sketch_parts(5, sketch_bytes(sketch), 2)))
    assert cloud.counts == {"sketch": 1, "bad_message": 2}
