"""The pipeline: a frame of any size in, a tensor ready to be sent out, its stages timed."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest

from gradfec_common.network import split_point
from gradfec_common.plan import parse_scheme
from gradfec_common.transmit import packet_grid
from gradfec_edge.importance import make_estimator
from gradfec_edge.pipeline import Pipeline, Stages

SPLIT = split_point("pool1_pool")  # (56, 56, 64): 256 packets of 14 rows
GRID = packet_grid(SPLIT, 14)


class FrontEnd:
    """Makes the image's first pixel the whole tensor, and remembers the image."""

    def __call__(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.image = image
        return np.full(SPLIT.shape, image[0, 0, 0], np.float32)


def pipeline(scheme: str) -> Pipeline:
    estimator = make_estimator("activation", GRID, np.random.default_rng(0))
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
    encoded, _ = pipeline(scheme).encode(np.zeros((8, 8, 3), np.uint8))
    assert (encoded.plan.sent, encoded.plan.kept) == (256, kept)
    assert len(encoded.datagrams(session=1, tensor=0)) == 256


def test_stages_are_timed_in_the_order_of_the_work() -> None:
    start = time.perf_counter()
    _, stages = pipeline("FEC_50_50").encode(np.zeros((8, 8, 3), np.uint8))
    assert list(stages) == ["preprocess", "front_end", "importance", "encode"]
    assert 0 < sum(stages.values()) <= 1000 * (time.perf_counter() - start) + 0.01


def test_a_stage_that_fails_leaves_no_time_behind() -> None:
    stages = Stages()
    with pytest.raises(ZeroDivisionError), stages.time("impossible"):
        _ = 1 / 0
    assert stages == {}
