"""The pipeline: a frame of any size in, a tensor ready to be sent out, its stages timed."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest

from gradfec_common.networks import named_cut
from gradfec_common.plan import parse_scheme
from gradfec_common.transmit import encode_tensor, packet_grid
from gradfec_edge.compensation import compensated
from gradfec_edge.importance import EstimatorFile, make_estimator
from gradfec_edge.importance.shares import importance_shares
from gradfec_edge.pipeline import Pipeline, Stages

SPLIT = named_cut("pool1_pool")  # (56, 56, 64): 256 packets of 14 rows
GRID = packet_grid(SPLIT, 14)
FRAME = np.zeros((8, 8, 3), np.uint8)
Floats = npt.NDArray[np.float32]


class FrontEnd:
    """Makes the image's first pixel the whole tensor, remembers the image, and gives the scores of its proxy."""

    def __init__(self, scores: Floats | None = None, damage: Floats | None = None) -> None:
        self.scores, self.damage = scores, damage

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[Floats, Floats | None, Floats | None]:
        self.image = image
        return np.full(SPLIT.shape, image[0, 0, 0], np.float32), self.scores, self.damage


def pipeline(scheme: str) -> Pipeline:
    estimator = make_estimator("activation", SPLIT, GRID, np.random.default_rng(0))
    assert not isinstance(estimator, EstimatorFile)
    return Pipeline(SPLIT, GRID, FrontEnd(), estimator, parse_scheme(scheme))


@pytest.mark.parametrize("shape", [(224, 224, 3), (1, 1, 3), (1080, 1920, 3), (3, 900, 3)])
def test_a_frame_of_any_size_becomes_an_rgb_image_of_224_by_224(shape: tuple[int, int, int]) -> None:
    work = pipeline("none")
    blue = np.zeros(shape, np.uint8)
    blue[:, :, 0] = 200  # BGR
    work.encode(blue)
    assert isinstance(work.front_end, FrontEnd)
    assert work.front_end.image.shape == (224, 224, 3)
    assert work.front_end.image[100, 100].tolist() == [0, 0, 200]


@pytest.mark.parametrize(("scheme", "kept"), [("none", 256), ("FEC_50_50", 128), ("FEC_25_75", 192)])
def test_whatever_the_scheme_as_many_datagrams_are_sent_as_the_tensor_has_packets(scheme: str, kept: int) -> None:
    encoded, _ = pipeline(scheme).encode(FRAME)
    assert (encoded.plan.sent, encoded.plan.kept) == (256, kept)
    assert len(encoded.bodies(tensor=0)) == 256


def test_without_an_estimator_the_packets_are_ranked_by_the_scores_of_the_proxy_in_the_front_end() -> None:
    scores = np.random.default_rng(1).random(GRID.count).astype(np.float32)
    encoded, stages = Pipeline(SPLIT, GRID, FrontEnd(scores), None, parse_scheme("FEC_25_75")).encode(FRAME)
    assert sorted(encoded.plan.dropped) == sorted(np.argsort(scores)[: GRID.count // 4])
    assert list(stages) == ["preprocess", "front_end", "importance", "encode"]


def test_an_estimator_goes_before_the_scores_of_a_proxy() -> None:
    scores = np.arange(GRID.count, dtype=np.float32)
    by_estimator = Pipeline(SPLIT, GRID, FrontEnd(scores), lambda image, chi: -scores, parse_scheme("FEC_25_75"))
    assert min(by_estimator.encode(FRAME)[0].plan.dropped) == GRID.count * 3 // 4


def test_stages_are_timed_in_the_order_of_the_work() -> None:
    start = time.perf_counter()
    _, stages = pipeline("FEC_50_50").encode(FRAME)
    assert list(stages) == ["preprocess", "front_end", "importance", "encode"]
    assert 0 < sum(stages.values()) <= 1000 * (time.perf_counter() - start) + 0.01


def test_a_stage_that_fails_leaves_no_time_behind() -> None:
    stages = Stages()
    with pytest.raises(ZeroDivisionError), stages.time("impossible"):
        _ = 1 / 0
    assert stages == {}


def test_what_is_kept_stands_in_for_what_the_plan_drops_unless_it_shall_not() -> None:
    scores = np.random.default_rng(2).random(GRID.count).astype(np.float32)
    x = np.random.default_rng(3).normal(size=(4, 50, 64)).astype(np.float32)
    damage = np.matmul(x.transpose(0, 2, 1), x)
    frame = np.full((8, 8, 3), 90, np.uint8)
    arguments = (SPLIT, GRID, FrontEnd(scores, damage), None)
    sent = {on: Pipeline(*arguments, parse_scheme("FEC_25_75"), on).encode(frame)[0] for on in (True, False)}
    np.testing.assert_array_equal(sent[True].plan.dropped, sent[False].plan.dropped)
    assert len(np.unique(sent[False].symbols[sent[False].headers["index"] == 0][:, 2:])) == 1  # as it was
    chi = compensated(np.full(SPLIT.shape, 90, np.float32), damage, sent[True].plan.dropped, GRID)
    np.testing.assert_array_equal(sent[True].symbols, encode_tensor(chi, sent[True].plan, GRID, SPLIT).symbols)
    assert not np.array_equal(sent[True].symbols, sent[False].symbols)
    whole = {on: Pipeline(*arguments, parse_scheme("none"), on).encode(frame)[0] for on in (True, False)}
    np.testing.assert_array_equal(whole[True].symbols, whole[False].symbols)


@pytest.mark.parametrize("estimator", ["activation", "random", None])
def test_the_shares_of_the_importance_add_up_to_one_and_what_is_dropped_has_the_least(estimator: str | None) -> None:
    scores = np.random.default_rng(4).random(GRID.count).astype(np.float32)
    free = estimator and make_estimator(estimator, SPLIT, GRID, np.random.default_rng(0))
    frame = np.random.default_rng(5).integers(0, 255, (224, 224, 3), np.uint8)
    encoded, _ = Pipeline(SPLIT, GRID, FrontEnd(scores), free, parse_scheme("FEC_25_75")).encode(frame)
    assert encoded.shares.sum() == pytest.approx(1)
    kept = np.setdiff1d(np.arange(GRID.count), encoded.plan.dropped)
    assert encoded.shares[encoded.plan.dropped].max() <= encoded.shares[kept].min()


def test_a_proxy_that_only_ranks_gives_the_share_of_what_each_absence_costs_alone() -> None:
    groups, channels = 4, 64  # a packet's place: channel by channel, the row groups of each
    cost = np.random.default_rng(6).random((groups, channels)).astype(np.float32)
    damage = np.stack([np.diag(of_group) for of_group in cost]) + 0.1
    shares = importance_shares(np.arange(256, dtype=np.float32), damage)
    np.testing.assert_allclose(shares, (cost + 0.1).T.reshape(-1) / (cost + 0.1).sum(), rtol=1e-5)


@pytest.mark.parametrize("scores", [np.zeros(256), np.full(256, -1.0), np.full(256, np.nan), np.full(256, np.inf)])
def test_where_scores_say_nothing_all_packets_have_the_same_share(scores: Floats) -> None:
    np.testing.assert_allclose(importance_shares(scores.astype(np.float32), None), 1 / 256)
