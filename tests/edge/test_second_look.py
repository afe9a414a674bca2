"""Which frames get a second look, how fine it is, and what it costs on average."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.answers import HEAD
from tests.edge.outgoing import encoded_frame
from tests.edge.test_pictures_instead import NOTHING, PHOTOGRAPH, setup_of

from gradfec_common.errors import UsageError
from gradfec_common.heads import Answer, Box, Boxes, Classes
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK
from gradfec_common.quantisers import Needs
from gradfec_common.wire import Result
from gradfec_edge.coding import PICTURE_CODEC
from gradfec_edge.frames import Frame
from gradfec_edge.pipeline import Stages
from gradfec_edge.second_look import (
    COARSEST,
    FINEST,
    FIRST_BYTES,
    FRAMES_SAVED,
    GAIN,
    NEWEST,
    SUREST,
    USUAL_BYTES,
    USUAL_CODING_S,
    Limit,
    LookOptions,
    PictureOfQuality,
    Savings,
    Score,
    SecondLook,
    Waiting,
    picture_quality,
)
from gradfec_edge.slots import Outgoing
from gradfec_edge.story import Sent, Story

WITHIN_S = 1.0
DEADLINE_S = 0.5
FORM = 1
PICTURES = "input_layer"
NOISE = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
GRID = PacketGrid((224, 224, 3), 7, RESNET50.preprocess)


def answer(score: float) -> Answer:
    return Classes(((281, "tabby", score), (282, "tiger cat", score / 2)))


def story(age_s: float = 0.0, split: str = "conv", **changes: Any) -> Story:
    of = Frame(0, "cat.jpg", PHOTOGRAPH, time.monotonic() - age_s)
    encoded = encoded_frame()
    sent = Sent(7, 3, encoded.plan, encoded.datagram_bytes, codec="bottleneck", split=split)
    return Story(of, HEAD.no_answer, **{"as_sent": sent, **changes})


ENCODED = encoded_frame()
FIRST_SIZE = (ENCODED.plan.unasked - ENCODED.plan.parity) * ENCODED.datagram_bytes  # without parity
RESULT = Result(3, "complete", [], 0, 0, {"collect": 500.0, "queue": 20.0, "decode": 5.0, "back_end": 35.0})
WORK_S = 0.06 + USUAL_CODING_S  # what a picture is expected to take edge and cloud, after such a result


class Spending:
    """A limit that notes what is spent."""

    first_bytes, most_bytes = FIRST_BYTES, None

    def __init__(self, score: float = 0.65) -> None:
        self.unsure_below = score
        self.sizes: list[tuple[int, bool]] = []

    def sent(self, size: int, *, is_first: bool) -> None:
        self.sizes.append((size, not is_first))


class Link:
    """What carries so many bytes more in `extra` seconds."""

    def __init__(self, extra: float = 0.0) -> None:
        self.extra = extra
        self.sizes: list[int] = []

    def extra_s(self, size: int, now: float) -> float:
        self.sizes.append(size)
        return self.extra

    def estimate(self, now: float) -> Any:
        return UNKNOWN_LINK


class Outbox:
    """What is sent, and given up."""

    def __init__(self) -> None:
        self.looks: list[Outgoing] = []
        self.given_up: list[int] = []

    def put_look(self, outgoing: Outgoing) -> None:
        self.looks.append(outgoing)

    def no_look(self, first: int) -> None:
        self.given_up.append(first)


class NoPipeline:
    """Knows only its form and its cut."""

    coding = SimpleNamespace(form=FORM, split=PICTURES)


def judging(limit: Limit, link: Link | None = None, pipeline: Any = NoPipeline, spread_s: float = 0.0) -> SecondLook:
    options = LookOptions(pipeline, PictureOfQuality(PICTURE_CODEC), limit, WITHIN_S)
    look = SecondLook(options, Outbox(), link, lambda size: spread_s)  # type: ignore[arg-type]
    look.connected(frozenset({0, FORM}), DEADLINE_S)
    return look


def put(look: SecondLook, of: Story, cloud_s: float = 0.0) -> None:
    """Have a picture coded, whether or not there is time for it."""
    look._queue.put_nowait(Waiting(of, cloud_s))


# --- which frames ---


@pytest.mark.parametrize(
    ("score", "looks"), [(0.0, True), (0.3, True), (0.6499, True), (0.65, False), (0.66, False), (1.0, False)]
)
def test_a_frame_whose_answer_has_a_lower_score_than_the_limit_gets_a_second_look(score: float, looks: bool) -> None:
    assert judging(Spending()).judge(story(), RESULT, answer(score)) is looks


@pytest.mark.parametrize(
    ("of", "answered"),
    [
        (story(split=PICTURES), answer(0.1)),  # it was the picture already
        (story(first=story()), answer(0.1)),  # it is a second look itself
        (story(as_sent=None), answer(0.1)),
        (story(), Boxes((Box(0, "person", 0.1, (0.0, 0.0, 1.0, 1.0)),))),  # nothing says how sure it is
    ],
    ids=["a picture", "a second look", "not sent", "boxes"],
)
def test_there_is_no_second_look_of_what_the_network_has_seen_as_the_picture_or_has_no_score(
    of: Story, answered: Answer
) -> None:
    assert not judging(Spending(2.0)).judge(of, RESULT, answered)


def test_an_answer_without_a_class_is_unsure() -> None:
    assert judging(Spending()).judge(story(), RESULT, HEAD.no_answer)


@pytest.mark.parametrize("forms", [frozenset({0}), frozenset({0, 2}), frozenset()])
def test_a_cloud_that_takes_no_pictures_gets_none(forms: frozenset[int]) -> None:
    look = judging(Spending())
    look.connected(forms, DEADLINE_S)
    assert not look.is_possible
    assert not look.judge(story(), RESULT, answer(0.1))
    look.connected(frozenset({0, FORM}), DEADLINE_S)
    assert look.is_possible
    assert look.judge(story(), RESULT, answer(0.1))


def test_before_the_cloud_has_said_what_it_takes_there_is_no_second_look() -> None:
    options = LookOptions(NoPipeline, PictureOfQuality(PICTURE_CODEC), Score(0.65), WITHIN_S)  # type: ignore[arg-type]
    assert not SecondLook(options, Outbox(), None, float).judge(story(), RESULT, answer(0.1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("age_s", "extra_s", "looks"),
    [
        (0.0, 0.0, True),
        (WITHIN_S - WORK_S - 0.1, 0.0, True),
        (WITHIN_S - WORK_S + 0.01, 0.0, False),  # the second answer would be too late
        (0.0, WITHIN_S - WORK_S - 0.1, True),
        (0.0, WITHIN_S - WORK_S + 0.01, False),
        (0.5, 0.5, False),
        (0.0, float("inf"), False),  # frames would have to wait
    ],
)
def test_a_second_answer_must_not_come_too_late(age_s: float, extra_s: float, looks: bool) -> None:
    assert judging(Spending(), Link(extra_s)).judge(story(age_s), RESULT, answer(0.1)) is looks


@pytest.mark.parametrize("age_s", [0.0, WITHIN_S])
def test_without_a_link_that_is_followed_only_the_age_counts(age_s: float) -> None:
    assert judging(Spending()).judge(story(age_s), RESULT, answer(0.1)) is (age_s == 0)


def test_each_look_is_paid_for_by_what_was_sent_of_it_once_it_is_over() -> None:
    limit = Spending()
    look = judging(limit)
    look.judge(story(), RESULT, answer(0.1))
    assert limit.sizes == []
    look.closed(story(), 7)
    look.closed(story(first=story()), 9)
    look.closed(story(as_sent=None), 0)
    assert limit.sizes == [(7 * ENCODED.datagram_bytes, False), (9 * ENCODED.datagram_bytes, True)]


# --- what is sent ---


def looked_at(pictures: int) -> tuple[SecondLook, Outbox]:
    """Look again at a frame, so many times."""
    limit, setup = Spending(0.5), setup_of(second_look=0.5)
    assert setup.look is not None
    options = LookOptions(setup.look.design.pipeline(NOTHING), setup.look.picture, limit, WITHIN_S)
    outbox = Outbox()
    look = SecondLook(options, outbox, Link(), lambda size: 0.0)  # type: ignore[arg-type]

    async def run() -> None:
        running = asyncio.ensure_future(look.run())
        for number in range(pictures):
            of = story()
            assert of.as_sent is not None
            put(look, replace(of, as_sent=of.as_sent._replace(tensor=number)))
        await look.until_coded()
        running.cancel()

    asyncio.run(run())
    return look, outbox


def test_the_picture_of_a_frame_is_sent_after_its_first_tensor_in_the_form_of_pictures() -> None:
    _, outbox = looked_at(2)
    assert [one.first_tensor for one in outbox.looks] == [0, 1]
    assert all(one.encoded.plan.expected is None for one in outbox.looks), "what a picture gains is no agreement"
    for one in outbox.looks:
        assert (one.encoded.form, one.encoded.split, one.encoded.codec) == (FORM, PICTURES, "avif")
        assert {"preprocess", "encode"} <= one.stages.keys()
        assert one.frame.source == "cat.jpg"
    assert not outbox.given_up


def test_the_score_says_how_fine_the_picture_is() -> None:
    look, outbox = looked_at(1)
    assert look._options.picture.quality == picture_quality(0.5) == 80
    (one,) = outbox.looks
    coded = PICTURE_CODEC.with_quality(80).encode(NOTHING(PHOTOGRAPH[..., ::-1]).chi, GRID)
    of_packets = int(coded.packets.sizes.sum())
    assert of_packets < one.encoded.wire_bytes < 2 * of_packets


def test_what_the_next_picture_will_take_is_expected_from_the_last_ones() -> None:
    look, _ = looked_at(0)
    link = look._adaptation = Link()  # type: ignore[assignment]
    look.connected(frozenset({0, FORM}), DEADLINE_S)
    look.judge(story(), RESULT, answer(0.1))
    assert link.sizes == [USUAL_BYTES]
    look, outbox = looked_at(3)
    link = look._adaptation = Link()  # type: ignore[assignment]
    look.connected(frozenset({0, FORM}), DEADLINE_S)
    look.judge(story(), RESULT, answer(0.1))
    size = outbox.looks[0].encoded.wire_bytes
    assert link.sizes == [round(size + (USUAL_BYTES - size) * (1 - NEWEST) ** 3)]


def test_until_every_picture_is_coded_it_is_not_done() -> None:
    async def run() -> None:
        begun = asyncio.Event()
        looked: list[Story] = []
        look = judging(Spending())

        async def slowly(waiting: Waiting) -> None:
            begun.set()
            await asyncio.sleep(0.01)
            looked.append(waiting.story)

        look._look = slowly  # type: ignore[method-assign]
        await look.until_coded()  # there is nothing to do
        running = asyncio.ensure_future(look.run())
        for _ in range(3):
            put(look, story())
        await begun.wait()
        assert len(looked) < 3
        await look.until_coded()
        assert len(looked) == 3
        running.cancel()

    asyncio.run(run())


class Camera:
    """A pipeline that notes with which qualities pictures are coded; those of `too_large` have no room."""

    coding = NoPipeline.coding

    def __init__(self, *too_large: int) -> None:
        self.too_large, self.qualities = too_large, list[int]()
        self.picture: PictureOfQuality

    def encode(self, image: npt.NDArray[np.uint8], link: Any) -> Any:
        self.qualities.append(self.picture.quality)
        if self.picture.quality in self.too_large:
            raise UsageError("a packet takes 6151 bytes, more than the 1141 that a datagram has for it")
        return encoded_frame(), Stages()


def coded(camera: Camera, link: Link, *of: Story) -> Outbox:
    """Have the pictures of frames coded that are unsure below 0.65."""

    async def run() -> Outbox:
        look = judging(Spending(), link, camera)
        camera.picture = look._options.picture
        running = asyncio.ensure_future(look.run())
        for one in of:
            put(look, one)
        await look.until_coded()
        running.cancel()
        return look._sending  # type: ignore[return-value]

    return asyncio.run(run())


FINE = picture_quality(0.65)


def test_a_picture_for_which_there_are_too_few_datagrams_is_coded_once_more_as_coarsely_as_can_be() -> None:
    camera = Camera(FINE)
    outbox = coded(camera, Link(), story())
    assert camera.qualities == [FINE, COARSEST]
    assert [one.first_tensor for one in outbox.looks] == [3]


def test_a_picture_that_cannot_be_there_in_time_after_all_is_not_sent_and_the_next_one_is() -> None:
    camera = Camera()
    outbox = coded(camera, Link(), story(WITHIN_S), story())
    assert camera.qualities == [FINE, COARSEST, FINE]
    assert (outbox.given_up, [one.first_tensor for one in outbox.looks]) == ([3], [3])


def test_a_picture_that_would_reach_the_cloud_after_its_deadline_is_not_sent() -> None:
    assert not judging(Spending(), spread_s=DEADLINE_S + 0.01).judge(story(), RESULT, answer(0.1))
    assert judging(Spending(), spread_s=DEADLINE_S).judge(story(), RESULT, answer(0.1))


# --- how fine ---


def test_a_picture_is_the_finer_the_surer_an_answer_has_to_be() -> None:
    qualities = [picture_quality(score) for score in np.linspace(0, 1, 101)]
    assert (qualities[0], qualities[-1]) == (COARSEST, FINEST) == (60, 100)
    assert qualities == sorted(qualities)


@given(st.floats(0, 1))
def test_every_score_has_a_quality_that_pictures_can_have(score: float) -> None:
    assert COARSEST <= picture_quality(score) <= FINEST
    assert PICTURE_CODEC.with_quality(picture_quality(score)).quality == picture_quality(score)


def test_a_picture_is_coded_with_the_quality_that_was_set_last() -> None:
    picture, tensor = PictureOfQuality(PICTURE_CODEC), NOTHING(PHOTOGRAPH[..., ::-1]).chi
    errors, sizes = [], []
    for quality in (60, 80, 100):
        picture.quality = quality
        coded, gain = picture.encode(tensor, GRID, UNKNOWN_LINK)
        assert gain == GAIN
        expected = PICTURE_CODEC.with_quality(quality).encode(tensor, GRID)
        np.testing.assert_array_equal(coded.packets.data, expected.packets.data)
        decoded = PICTURE_CODEC.decode(coded.packets, coded.parameters, GRID)
        errors.append(float(np.abs(decoded.tensor - tensor).mean()))
        sizes.append(len(coded.packets.data))
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("protect", [None, "none"])
def test_even_noise_at_the_finest_quality_can_be_sent(protect: str | None) -> None:
    look = setup_of(second_look=1.0, protect=protect).look
    assert look is not None
    assert look.design.coding.quantiser.needs is Needs.ALL
    assert look.design.coding.policy.name == ("none" if protect == "none" else "auto")
    look.picture.quality = FINEST
    encoded, _ = look.design.pipeline(NOTHING).encode(NOISE, UNKNOWN_LINK)
    assert encoded.wire_bytes > 50_000
    assert len(encoded.plan.dropped) == 0


# --- what it costs ---


def test_a_score_stays_the_same_whatever_is_spent() -> None:
    limit = Score(0.65)
    limit.sent(10**6, is_first=False)
    limit.sent(10**6, is_first=True)
    assert (limit.unsure_below, limit.first_bytes) == (0.65, FIRST_BYTES)


@pytest.mark.parametrize(("mean", "first"), [(4000, 2000), (4800, 2400), (8000, 2400), (30_000, 2400)])
def test_features_take_at_most_half_of_the_mean(mean: int, first: int) -> None:
    assert Savings(mean).first_bytes == first


def test_the_score_rises_with_what_is_saved_and_falls_with_what_is_spent() -> None:
    limit, scores = Savings(8000), list[float]()
    for _ in range(2 * FRAMES_SAVED):
        scores.append(limit.unsure_below)
        limit.sent(2000, is_first=True)
    assert scores[0] == 0
    assert scores == sorted(scores) and scores[-1] == SUREST
    limit.sent(8000, is_first=False)
    assert limit.unsure_below == pytest.approx(SUREST * (1 - 1 / FRAMES_SAVED))
    limit.sent(8000, is_first=True)
    assert limit.unsure_below == pytest.approx(SUREST * (1 - 1 / FRAMES_SAVED)), "such a frame saves nothing"


def test_of_what_is_saved_beyond_so_many_frames_nothing_is_left() -> None:
    limit = Savings(8000)
    for _ in range(1000):
        limit.sent(0, is_first=True)
    for _ in range(FRAMES_SAVED):
        assert limit.unsure_below > 0
        limit.sent(8000, is_first=False)
    assert limit.unsure_below == pytest.approx(0)


def test_once_nothing_is_saved_no_answer_is_unsure_until_something_is() -> None:
    limit, debt = Savings(8000), 3 * 8000
    limit.sent(debt, is_first=False)
    look, frames, judged = judging(limit), debt // 6000, list[bool]()
    for _ in range(frames + 2):
        judged.append(look.judge(story(), RESULT, HEAD.no_answer))  # the least sure answer of all
        limit.sent(2000, is_first=True)
    assert judged == [False] * (frames + 1) + [True]


def test_a_long_time_of_large_frames_is_forgotten_as_saved_bytes_are() -> None:
    limit = Savings(8000)
    for _ in range(10_000):
        limit.sent(9500, is_first=True)
    frames = 0
    while not limit.unsure_below:
        limit.sent(4000, is_first=True)
        frames += 1
    assert frames == 2 * FRAMES_SAVED + 1


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    mean=st.sampled_from([4000, 8000, 15_000, 30_000]),
    features=st.floats(0.1, 0.9),
    pictures=st.floats(1.2, 6.0),
    late=st.integers(0, 4),
)
def test_on_average_a_frame_takes_the_bytes_that_were_asked_for(
    seed: int, mean: int, features: float, pictures: float, late: int
) -> None:
    """Answers are unsure enough for more pictures than there are bytes; some are decided before others are paid for."""
    rng, count, limit = np.random.default_rng(seed), 3000, Savings(mean)
    total, most, owed, scores = 0, 0, list[int](), list[float]()
    for sureness in rng.uniform(0, 0.9, count):
        first = round(mean * features * rng.uniform(0.7, 1.3))
        limit.sent(first, is_first=True)
        total += first
        scores.append(limit.unsure_below)
        if sureness < limit.unsure_below:
            owed.append(round(mean * pictures * rng.uniform(0.5, 1.5)))
            most = max(most, owed[-1])
        if len(owed) > late:
            limit.sent(owed[0], is_first=False)
            total += owed.pop(0)
    assert total <= count * mean + most * (late + 1)
    assert total >= 0.97 * count * mean - FRAMES_SAVED * mean
    assert 0 <= min(scores) <= max(scores) <= SUREST


def test_with_sure_answers_fewer_bytes_are_taken_than_were_asked_for() -> None:
    limit, looks = Savings(8000), 0
    for _ in range(500):
        limit.sent(2400, is_first=True)
        looks += limit.unsure_below > 0.97
    assert looks == 0


# --- the whole of it ---


@pytest.mark.parametrize("unsure", [0.2, 0.5])
def test_frames_in_a_row_get_as_many_second_looks_as_the_mean_allows(unsure: float) -> None:
    rng, mean, picture = np.random.default_rng(4), 6000, 12
    limit = Savings(mean)
    look = judging(limit)
    sizes = list[int]()
    for sure in rng.random(600) > unsure:
        looks = look.judge(story(), RESULT, answer(0.99 if sure else float(rng.uniform(0, 0.6))))
        look.closed(story(), 2)
        if looks:
            look.closed(story(first=story()), picture)
        sizes.append((2 + picture * looks) * ENCODED.datagram_bytes)
    total = sum(sizes) / 600
    assert total < 1.05 * mean
    assert total > min(0.9 * mean, (2 + 0.6 * unsure * picture) * ENCODED.datagram_bytes)
