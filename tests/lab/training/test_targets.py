"""Targets: computed once, resumed where they were, of the images and settings that they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradfec_cli.gradcam import BATCH
from gradfec_common.errors import UsageError
from gradfec_common.packets import PacketGrid
from gradfec_lab.training import targets as module
from gradfec_lab.training.targets import (
    DONE,
    UNUSABLE,
    Targets,
    gradient_products,
    gradient_shares,
    is_held_out,
    shuffled,
    tile_sums,
)

from .toys import GRID, install, targets_of, write_images

ARRAYS = ("state", "energy", "power", "importance", "saliency", "sensitivity", "elements")
GRIDS = [PacketGrid((6, 9, 4), 3), PacketGrid((4, 5, 3), 2)]  # three tiles a packet; a width of no tiles
COUNT = 2 * BATCH + 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("training") / "images", COUNT)


def compute(targets: Targets) -> int:
    """Compute what is missing; return what was said to have advanced."""
    told: list[int] = []
    targets.compute(None, told.append)
    return sum(told)


def stop_after(images: int):
    def stop(so_far: int) -> None:
        if so_far >= images:
            raise KeyboardInterrupt

    return stop


# --- the cache ---


def test_each_image_has_its_own_targets(images, tmp_path, monkeypatch):
    toy = install(monkeypatch)
    targets = targets_of(tmp_path / "cache", images, elements=True)
    assert compute(targets) == COUNT
    assert (targets.state == DONE).all()
    for n, name in enumerate(targets.names):
        image = targets.photographs.read(name)
        chi = np.maximum(toy.features(image[np.newaxis]).chi, 0)
        elements, gradient, *_ = toy.explain(chi)
        wanted = {
            "energy": tile_sums(chi, GRID),
            "power": tile_sums(chi**2, GRID),
            "importance": tile_sums(elements, GRID),
            "saliency": gradient_shares(gradient, GRID),
            "sensitivity": gradient_products(gradient, GRID),
            "elements": elements,
        }
        for kind, array in wanted.items():
            np.testing.assert_allclose(getattr(targets, kind)[n], array[0], rtol=2e-3, atol=1e-4, err_msg=kind)


def test_an_interrupted_computation_goes_on_and_ends_as_one_that_was_not(images, tmp_path, monkeypatch):
    install(monkeypatch)
    whole = targets_of(tmp_path / "whole", images, elements=True)
    compute(whole)
    install(monkeypatch, before=stop_after(2 * BATCH))
    with pytest.raises(KeyboardInterrupt):
        compute(targets_of(tmp_path / "parts", images, elements=True))
    toy = install(monkeypatch)
    resumed = targets_of(tmp_path / "parts", images, elements=True)
    assert (resumed.state == DONE).sum() == 2 * BATCH
    assert compute(resumed) == COUNT
    assert toy.images == COUNT - 2 * BATCH
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name), err_msg=name)


def test_a_complete_cache_asks_no_network(images, tmp_path, monkeypatch):
    install(monkeypatch)
    compute(targets_of(tmp_path / "cache", images))
    toy = install(monkeypatch)
    again = targets_of(tmp_path / "cache", images)
    assert compute(again) == COUNT
    assert toy.images == 0
    assert again.energy.any()


def test_gradient_products_are_kept_of_the_first_images_only(images, tmp_path, monkeypatch):
    install(monkeypatch)
    monkeypatch.setattr(module, "SENSITIVITY_IMAGES", 3)
    targets = targets_of(tmp_path / "cache", images)
    assert compute(targets) == COUNT
    assert targets.sensitivity.shape == (3, 2, 64, 64)
    assert targets.sensitivity.any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("count", 3), ("split", "conv1_relu"), ("rows", 7), ("score", "log-probability")],
)
def test_a_cache_of_other_settings_is_refused_by_name_and_left_as_it_was(images, tmp_path, setting, value):
    folder = tmp_path / "cache"
    targets_of(folder, images)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(UsageError, match=f"were computed with {setting} = .*, not {value!r}: remove the folder, or"):
        targets_of(folder, images, **{setting: value})
    with pytest.raises(UsageError, match=f"are of other photographs than those of {images}: remove the folder"):
        targets_of(folder, images, images="others")
    with pytest.raises(UsageError, match="elements = False, not True"):
        targets_of(folder, images, elements=True)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_images_that_cannot_be_used_are_counted_but_nothing_is_learned_from_them(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "images", COUNT)
    broken = [sorted(path.name for path in folder.iterdir())[n] for n in (0, 3, COUNT - 1)]
    for name in broken:
        (folder / name).write_text("not an image")
    install(monkeypatch)
    targets = targets_of(tmp_path / "cache", folder)
    assert compute(targets) == COUNT
    assert sorted(targets.photographs.skipped) == sorted(broken)
    assert [targets.names[n] for n in np.flatnonzero(targets.state == UNUSABLE)] == [
        name for name in targets.names if name in broken
    ]
    used = [*targets.fit_indices, *targets.held_out_indices]
    assert sorted(used) == [n for n, name in enumerate(targets.names) if name not in broken]


# --- which images ---


def test_about_one_image_in_twenty_is_held_out_by_its_name_alone():
    held_out = [name for name in (f"photo {n}.jpg" for n in range(10_000)) if is_held_out(name)]
    assert 420 < len(held_out) < 580
    assert held_out[:3] == ["photo 4.jpg", "photo 48.jpg", "photo 67.jpg"]  # pinned: a model card says which


def test_held_out_images_are_no_images_to_learn_from(images, tmp_path, monkeypatch):
    install(monkeypatch)
    targets = targets_of(tmp_path / "cache", images)
    assert len(targets.fit_indices) == len(targets.held_out_indices) == 0  # as long as nothing is computed
    compute(targets)
    assert {targets.names[n] for n in targets.held_out_indices} == {"063.png", "076.png"}
    assert not {*targets.fit_indices} & {*targets.held_out_indices}
    assert len(targets.fit_indices) == COUNT - 2


def test_the_order_depends_on_the_names_alone_and_its_beginning_is_a_fair_sample():
    names = [f"{kind}_{n:03}.jpg" for kind in ("cat", "dog") for n in range(200)]
    order = shuffled(names)
    assert order == shuffled(names[::-1])
    assert sorted(order) == names
    assert shuffled(names[::2]) == [name for name in order if name in names[::2]]  # more images keep the order
    assert 35 < sum(name.startswith("cat") for name in order[:100]) < 65


# --- the arithmetic ---


def positions_by_tile(grid: PacketGrid):
    height, width, _ = grid.shape
    side = width // grid.tiles
    for group in range(grid.groups):
        for tile in range(grid.tiles):
            yield (
                (group, tile),
                [(y, x) for y, x in np.ndindex(height, width) if (y // grid.rows, x // side) == (group, tile)],
            )


@pytest.mark.parametrize("grid", GRIDS)
def test_tiles_sum_their_elements_and_share_the_squared_gradient(grid):
    gradient = np.random.default_rng(1).normal(size=(2, *grid.shape))
    sums = tile_sums(gradient, grid)
    shares = gradient_shares(gradient, grid)
    for image in range(2):
        for (group, tile), places in positions_by_tile(grid):
            inside = np.array([gradient[image, y, x] for y, x in places])
            np.testing.assert_allclose(sums[image, group, tile], inside.sum(axis=0))
            share = (inside**2).sum() / (gradient[image] ** 2).sum()
            assert shares[image, group, tile] == pytest.approx(share)


@pytest.mark.parametrize("grid", GRIDS)
def test_products_are_means_over_positions_and_over_tiles_scaled_alike_for_each_image(grid):
    gradient = np.random.default_rng(2).normal(size=(2, *grid.shape)) * np.array([1, 100])[:, None, None, None]
    found = gradient_products(gradient, grid)
    for image in range(2):
        positions = [gradient[image, y, x] for y, x in np.ndindex(grid.shape[:2])]
        means = [np.mean([gradient[image, y, x] for y, x in tile], axis=0) for _, tile in positions_by_tile(grid)]
        by_position, by_tile = (np.mean([np.outer(g, g) for g in vectors], axis=0) for vectors in (positions, means))
        scale = grid.shape[2] / np.trace(by_position)
        np.testing.assert_allclose(found[image], [by_position * scale, by_tile * scale])


def test_an_image_without_any_gradient_gives_zeros_and_not_nan():
    nothing = np.zeros((1, *GRIDS[0].shape), np.float32)
    assert not gradient_shares(nothing, GRIDS[0]).any()
    assert not gradient_products(nothing, GRIDS[0]).any()
