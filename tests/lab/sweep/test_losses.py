"""Recorded losses are the product's loss models, drawn once and replayed to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradfec_common.errors import GradfecError, UsageError
from gradfec_lab.sweep.losses import Losses, is_feasible

LINKS = [("iid", 0.0), ("iid", 0.3), ("8", 0.3), ("8", 1.0)]


def drawn(images: int = 20, repetitions: int = 3, datagrams: int = 2047, seed: int = 1) -> Losses:
    losses = Losses(images, repetitions, datagrams)
    losses.draw(LINKS, seed)
    return losses


def bursts(lost: np.ndarray) -> float:
    """Mean length of a run of losses within the rows."""
    begins = lost & ~np.pad(lost, ((0, 0), (1, 0)))[:, :-1]
    return lost.sum() / begins.sum()


def test_shares_and_bursts_are_those_that_were_asked_for() -> None:
    losses = drawn()
    for link in LINKS:
        lost = np.concatenate([losses.lost(*link, image) for image in range(20)])
        assert lost.shape == (60, 2047)
        assert lost.mean() == pytest.approx(link[1], abs=0.02)
        if link[1] == 0.3:
            assert bursts(lost) == pytest.approx(8 if link[0] == "8" else 1 / 0.7, rel=0.1)


def test_each_tensor_has_losses_of_its_own_and_a_seed_gives_them_again() -> None:
    first, again, other = drawn(), drawn(), drawn(seed=2)
    lost = np.concatenate([first.lost("iid", 0.3, image) for image in range(20)])
    assert len(np.unique(lost, axis=0)) == 60
    np.testing.assert_array_equal(first.lost("8", 0.3, 7), again.lost("8", 0.3, 7))
    assert (first.lost("8", 0.3, 7) != other.lost("8", 0.3, 7)).any()


def test_more_repetitions_begin_with_the_same_ones() -> None:
    few, many = drawn(repetitions=2), drawn(images=25, repetitions=4)
    np.testing.assert_array_equal(few.lost("iid", 0.3, 5), many.lost("iid", 0.3, 5)[:2])


def test_losses_are_replayed_to_the_bit_for_as_many_images_or_fewer(tmp_path: Path) -> None:
    losses = drawn()
    losses.save(tmp_path / "losses.npz")
    replayed = Losses(10, 2, 2047)
    replayed.load(tmp_path / "losses.npz", LINKS[1:3])
    np.testing.assert_array_equal(replayed.lost("8", 0.3, 9), losses.lost("8", 0.3, 9)[:2])


@pytest.mark.parametrize("shape", [(21, 3, 2047), (20, 4, 2047), (20, 3, 2048)])
def test_recorded_losses_of_another_shape_are_refused_with_both_shapes(
    shape: tuple[int, int, int], tmp_path: Path
) -> None:
    drawn().save(tmp_path / "losses.npz")
    images, repetitions, datagrams = shape
    has = "has losses iid,0 of 20 images x 3 repetitions x 2047 datagrams"
    needs = f"but {images} images x {repetitions} repetitions x {datagrams} datagrams are needed"
    with pytest.raises(UsageError, match=f"{has}, {needs}"):
        Losses(*shape).load(tmp_path / "losses.npz", LINKS)


def test_losses_that_were_not_recorded_are_named(tmp_path: Path) -> None:
    drawn().save(tmp_path / "losses.npz")
    with pytest.raises(UsageError, match=r"has no losses iid,0\.4 \(burst, loss\), only iid,0 iid,0\.3 8,0\.3 8,1"):
        Losses(1, 1, 2047).load(tmp_path / "losses.npz", [("iid", 0.4)])


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "losses.npz"
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(UsageError, match="has no recorded losses: --masks takes the losses"):
        Losses(1, 1, 8).load(path, LINKS)
    np.savez(path, symbols=np.array(2047), **{"iid,0.3": np.zeros(3)})
    with pytest.raises(UsageError, match="has no recorded losses"):
        Losses(1, 1, 2047).load(path, [("iid", 0.3)])
    with pytest.raises(GradfecError, match="cannot read the recorded losses"):
        Losses(1, 1, 8).load(tmp_path / "none.npz", LINKS)


def test_bursts_of_8_cannot_lose_nine_of_ten_but_all() -> None:
    assert not is_feasible("8", 0.9)
    assert is_feasible("20", 0.9)
    assert is_feasible("8", 0.8)
    assert is_feasible("8", 1.0)
    assert is_feasible("iid", 0.9)
