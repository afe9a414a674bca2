"""The pipeline: a frame of any size in, a tensor that is ready to be sent out, and the time of each stage."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest

from gradfec_common.networks import named_cut
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, LinkEstimate, NoProtection, Plan, Policy, Room, read_policy
from gradfec_common.protect.link import Losses
from gradfec_common.quantisers import QUANTISERS
from gradfec_edge.coding import Coding
from gradfec_edge.importance import Estimator, EstimatorFile, make_estimator
from gradfec_edge.importance.shares import importance_shares
from gradfec_edge.pipeline import Pipeline, Stages

CUT = named_cut("pool1_pool")  # (56, 56, 64): 256 packets of 14 rows
GRID = PacketGrid(CUT.shape, 14)
FRAME = np.zeros((8, 8, 3), np.uint8)
Floats = npt.NDArray[np.float32]


class FrontEnd:
    """Makes the image's first pixel the whole tensor, remembers the image, and gives the scores of its proxy."""

    def __init__(self, scores: Floats | None = None, damage: Floats | None = None) -> None:
        self.scores, self.damage = scores, damage

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[Floats, Floats | None, Floats | None]:
        self.image = image
        return np.full(CUT.shape, image[0, 0, 0], np.float32), self.scores, self.damage


def pipeline(policy: str | Policy, front_end: FrontEnd | None = None, estimator: Estimator | None = None) -> Pipeline:
    """Join the stages, with the estimator `activation` unless the front-end scores packets itself."""
    policy = read_policy(policy) if isinstance(policy, str) else policy
    coding = Coding(CUT, GRID, QUANTISERS["uniform8"], policy, packets_a_datagram=1)
    if front_end is None:
        return Pipeline(coding, FrontEnd(), estimator or free("activation"))
    return Pipeline(coding, front_end, estimator)


def free(name: str) -> Estimator:
    estimator = make_estimator(name, CUT, GRID, np.random.default_rng(0))
    assert not isinstance(estimator, EstimatorFile)
    return estimator


@pytest.mark.parametrize("shape", [(224, 224, 3), (1, 1, 3), (1080, 1920, 3), (3, 900, 3)])
def test_a_frame_of_any_size_becomes_an_rgb_image_of_224_by_224(shape: tuple[int, int, int]) -> None:
    work = pipeline("none")
    blue = np.zeros(shape, np.uint8)
    blue[:, :, 0] = 200  # BGR
    work.encode(blue)
    assert isinstance(work.front_end, FrontEnd)
    assert work.front_end.image.shape == (224, 224, 3)
    assert work.front_end.image[100, 100].tolist() == [0, 0, 200]


@pytest.mark.parametrize(("policy", "kept"), [("none", 256), ("FEC_50_50", 128), ("FEC_25_75", 192)])
def test_with_one_packet_in_each_a_tensor_takes_as_many_datagrams_as_it_has_packets(policy: str, kept: int) -> None:
    encoded, _ = pipeline(policy).encode(FRAME)
    assert (encoded.plan.sent, encoded.plan.kept) == (256, kept)
    assert len(encoded.bodies(tensor=0)) == 256


class Watched:
    """A policy that notes what link it plans for."""

    name = "watched"

    def __init__(self) -> None:
        self.links: list[LinkEstimate] = []

    def plan(self, importance: Floats, sizes: npt.NDArray[np.intp], link: LinkEstimate, room: Room) -> Plan:
        self.links.append(link)
        return NoProtection().plan(importance, sizes, link, room)


def test_the_policy_gets_the_estimate_of_the_link_or_without_one_an_unknown_link() -> None:
    policy, lossy = Watched(), LinkEstimate(((1.0, Losses(0.25, 8.0)),), 2)
    work = pipeline(policy)
    work.encode(FRAME, lossy)
    work.encode(FRAME)
    assert policy.links == [lossy, UNKNOWN_LINK]


def test_without_an_estimator_the_packets_are_ranked_by_the_scores_of_the_proxy_in_the_front_end() -> None:
    scores = np.random.default_rng(1).random(GRID.count).astype(np.float32)
    encoded, stages = pipeline("FEC_25_75", FrontEnd(scores)).encode(FRAME)
    assert sorted(encoded.plan.dropped) == sorted(np.argsort(scores)[: GRID.count // 4])
    assert list(stages) == ["preprocess", "front_end", "importance", "encode"]


def test_an_estimator_counts_before_the_scores_of_a_proxy() -> None:
    scores = np.arange(GRID.count, dtype=np.float32)
    by_estimator = pipeline("FEC_25_75", FrontEnd(scores), lambda image, chi: -scores)
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


@pytest.mark.parametrize("estimator", ["activation", "random", None])
def test_the_shares_of_the_importance_add_up_to_1_and_dropped_packets_have_the_smallest(estimator: str | None) -> None:
    scores = np.random.default_rng(4).random(GRID.count).astype(np.float32)
    frame = np.random.default_rng(5).integers(0, 255, (224, 224, 3), np.uint8)
    encoded, _ = pipeline("FEC_25_75", FrontEnd(scores), estimator and free(estimator)).encode(frame)
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
def test_if_scores_say_nothing_all_packets_have_the_same_share(scores: Floats) -> None:
    np.testing.assert_allclose(importance_shares(scores.astype(np.float32), None), 1 / 256)
