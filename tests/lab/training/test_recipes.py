"""What the recipes learn and measure: sensitivities, averages, saliency, and the paper's map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from gradfec_common.packets import PacketGrid
from gradfec_edge.frontend.keras_proxy import element_model, saliency_model
from gradfec_lab.training.averages import averages, channel_means
from gradfec_lab.training.elements import PAPER, train_elements
from gradfec_lab.training.run import Curve
from gradfec_lab.training.saliency import BEST, sensitivities, train_saliency
from gradfec_lab.training.targets import gradient_products

from .toys import GRID, SPLIT, install, targets_of, write_images

SMALL = PacketGrid((12, 12, 3), 4)  # 3 row groups of 3 tiles of 16 positions


# --- sensitivities ---


def measured(position: np.ndarray, tile: np.ndarray, images: int = 300) -> SimpleNamespace:
    """Gradients drawn with a covariance between positions of a tile, and one between tiles; their products."""
    rng = np.random.default_rng(1)
    own = rng.multivariate_normal(np.zeros(3), position, (images, 12, 12))
    common = rng.multivariate_normal(np.zeros(3), tile, (images, 3, 3)).repeat(4, axis=1).repeat(4, axis=2)
    products = gradient_products(own + common, SMALL)
    saliency = np.zeros((images + 2, 3, 3))
    fit = np.delete(np.arange(images + 2), 5)  # one image is held out, the last two were not measured
    products[5] = np.nan
    return SimpleNamespace(sensitivity=products, saliency=saliency, grid=SMALL, fit_indices=fit)


POSITION = np.array([[1.0, -0.5, 0.2], [-0.5, 0.8, 0.0], [0.2, 0.0, 0.6]])
TILE = np.array([[0.5, 0.3, -0.1], [0.3, 0.6, 0.2], [-0.1, 0.2, 0.4]])


@pytest.mark.parametrize("tile", [TILE, np.zeros((3, 3))], ids=["both", "positions only"])
def test_what_is_of_a_position_and_what_is_of_its_tile_are_told_apart(tile):
    found = sensitivities(measured(POSITION, tile))
    scale = 3 / np.trace(POSITION + tile)  # every image's gradient is scaled so
    np.testing.assert_allclose(found["sensitivity/position"], POSITION * scale, atol=0.04)
    np.testing.assert_allclose(found["sensitivity/tile"] / 16**2, tile * scale, atol=0.04)  # n features, not their sum


def test_the_two_sensitivities_give_back_what_was_measured():
    targets = measured(POSITION, TILE)
    found = sensitivities(targets)
    whole = np.delete(targets.sensitivity, 5, axis=0).mean(axis=0)
    common = found["sensitivity/tile"] / 16**2
    np.testing.assert_allclose(found["sensitivity/position"] + common, whole[0])
    np.testing.assert_allclose(found["sensitivity/position"] / 16 + common, whole[1])


# --- averages ---


@dataclass
class Averaged:
    """Targets of four images, of which the second is held out and the last two have no products of gradients."""

    grid: PacketGrid = SMALL
    fit_indices: np.ndarray = None

    def __post_init__(self) -> None:
        rng = np.random.default_rng(2)
        self.fit_indices = np.array([0, 2, 3])
        self.importance = rng.random((4, 3, 3, 3)) * np.array([1, 1, 50, 0.01])[:, None, None, None]
        self.energy = rng.random((4, 3, 3, 3))
        self.sensitivity = rng.random((3, 2, 3, 3))


def test_static_is_the_mean_share_of_each_packet_however_strong_an_images_gradient_is():
    targets = Averaged()
    expected = np.zeros(9)
    for image in (0, 2, 3):
        packets = [targets.importance[image, group, :, c].sum() for c in range(3) for group in range(3)]
        expected += np.array(packets) / sum(packets) / 3 * 9
    found = averages(targets)["static"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.mean() == pytest.approx(1)


def test_the_channels_sensitivity_is_the_root_mean_square_of_their_gradients():
    targets = Averaged()
    expected = [np.sqrt(np.mean([targets.sensitivity[image, 0, c, c] for image in (0, 2)])) for c in range(3)]
    np.testing.assert_allclose(averages(targets)["sensitivity"], expected, rtol=1e-5)


def test_channel_means_are_over_all_positions_of_the_images_to_learn_from():
    targets = Averaged()
    expected = [sum(targets.energy[image, ..., c].sum() for image in (0, 2, 3)) / (3 * 144) for c in range(3)]
    np.testing.assert_allclose(channel_means(targets), expected, rtol=1e-5)


# --- training, of toy targets ---


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as monkeypatch:
        install(monkeypatch)
        targets = targets_of(folder / "cache", write_images(folder / "images", 48), elements=True)
        targets.compute(None, lambda images: None)
    return targets


def entropy(targets, images):
    shares = targets.saliency[images].reshape(len(images), -1).astype(np.float64)
    return -np.mean(np.sum(shares * np.log(np.maximum(shares, 1e-30)), axis=1))


def test_the_saliency_network_learns_where_the_gradient_is(targets, tmp_path):
    curves: list[Curve] = []
    schedule = replace(BEST, epochs=25, batch=4, rates=(3e-3, 0.0))
    arrays = train_saliency(targets, schedule, tmp_path, curves.append, lambda images: None)
    least, ignorant = entropy(targets, targets.held_out_indices), np.log(GRID.groups * GRID.tiles)
    best = min(curve.held_out for curve in curves)
    assert least < best < least + 0.5 * (ignorant - least)
    shapes = {weight.path: tuple(weight.shape) for weight in saliency_model(GRID).weights}
    assert {name: array.shape for name, array in arrays.items()} == shapes
    energy = targets.energy[targets.fit_indices].astype(np.float64).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(arrays["log_energy/mean"], energy, rtol=1e-3)


@pytest.mark.parametrize("scaled", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_papers_proxy_learns_the_map_of_the_elements_from_the_image(targets, tmp_path, scaled):
    curves: list[Curve] = []
    schedule = replace(PAPER, epochs=4, batch=8, rates=(1e-2, 1e-3))
    arrays = train_elements(targets, schedule, tmp_path, curves.append, lambda images: None, scaled=scaled)
    wanted = targets.elements[targets.fit_indices].astype(np.float32)
    assert curves[-1].loss < curves[0].loss
    nothing = 1.0 if scaled else np.mean(np.square(wanted))  # the error of a map of zeros
    assert curves[-1].loss < nothing
    shapes = {weight.path: tuple(weight.shape) for weight in element_model(SPLIT).weights}
    assert {name: array.shape for name, array in arrays.items()} == shapes
