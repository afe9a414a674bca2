"""Which packets are missing while a back-end learns."""

import numpy as np
import pytest

from gradfec_common.errors import UsageError
from gradfec_common.packets import PacketGrid
from gradfec_lab.training.gaps import LOSSES, draw_there, read_losses

GRID = PacketGrid((8, 8, 64), 2)
CHI = np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32) * np.arange(1, 65, dtype=np.float32)


@pytest.mark.parametrize("kind", LOSSES)
def test_about_the_share_that_is_asked_for_is_missing(kind):
    rng = np.random.default_rng(1)
    for share in (0.0, 0.3, 0.7, 1.0):
        missing = np.mean([LOSSES[kind](rng, CHI, GRID, share) for _ in range(200)])
        assert missing == pytest.approx(share, abs=0.05)


def test_bursts_are_runs_of_neighbours():
    rng = np.random.default_rng(1)
    changes = {
        kind: np.mean([np.diff(LOSSES[kind](rng, CHI, GRID, 0.5)).mean() for _ in range(50)])
        for kind in ("random", "bursty")
    }
    assert changes["bursty"] < changes["random"] / 4


def test_importance_spares_the_packets_of_most_activation():
    missing = np.mean([LOSSES["importance"](np.random.default_rng(n), CHI, GRID, 0.5) for n in range(50)], axis=0)
    by_channel = missing.reshape(64, GRID.groups).mean(axis=1)
    assert by_channel[:16].mean() > 0.8
    assert by_channel[-16:].mean() < 0.2


def test_some_tensors_are_whole_and_the_others_lack_up_to_the_most():
    rng = np.random.default_rng(1)
    there = np.stack([draw_there(rng, CHI, GRID, ["random"], 0.6, 0.25) for _ in range(400)])
    missing = 1 - there.mean(axis=1)
    assert (missing == 0).mean() == pytest.approx(0.25, abs=0.07)
    assert 0.5 < missing.max() < 0.75


def test_losses_are_read_by_name():
    assert read_losses("bursty, random,bursty") == ["bursty", "random"]
    with pytest.raises(UsageError, match="--losses has no 'rain': use one or several of random,bursty,importance"):
        read_losses("random,rain")
