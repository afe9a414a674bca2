"""The learned estimators: what leaving packets out costs to second order, the order in which they go, and the graph."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.errors import UsageError
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.networks.pixels import normalise
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_edge.frontend.keras_proxy import Proxy, damage, element_model, saliency_model, tile_sums
from gradfec_edge.frontend.keras_runtime import KerasFrontEnd, ProxyModel
from gradfec_edge.importance import EstimatorFile
from gradfec_edge.importance.second_order import ROUNDS, eliminate

SPLIT = named_cut(DEFAULT_CUT)
GRID = PacketGrid(SPLIT.shape, 7)
IMAGES = np.random.default_rng(3).integers(0, 256, (2, 7, 7, 3), np.uint8).repeat(32, 1).repeat(32, 2)
GRIDS = [PacketGrid((6, 9, 4), 3), PacketGrid((4, 5, 3), 2)]  # three tiles a packet; a width of no tiles


def tile_of(grid, y, x):
    """Return the tile of a position, counted row group after row group."""
    return y // grid.rows * grid.tiles + x // (grid.shape[1] // grid.tiles)


def ranks(scores):
    return np.argsort(np.argsort(scores, kind="stable"), kind="stable")


def similar(one, other):
    """Whether two scorings rank alike but for what rounding may turn around."""
    return np.abs(ranks(one) - ranks(other)).mean() < 0.005 * one.size


# --- the quadratic form ---


@pytest.mark.parametrize("grid", GRIDS)
def test_tile_sums_are_the_sums_of_the_elements_of_each_tile(grid):
    elements = np.random.default_rng(1).normal(size=(2, *grid.shape))
    expected = np.zeros((2, grid.groups * grid.tiles, grid.shape[2]))
    for y, x in np.ndindex(grid.shape[:2]):
        expected[:, tile_of(grid, y, x)] += elements[:, y, x]
    found = tile_sums(tf.constant(elements), grid).numpy()
    np.testing.assert_allclose(found, expected.reshape(2, grid.groups, grid.tiles, -1))


@pytest.mark.parametrize("grid", GRIDS)
def test_the_form_is_the_sum_over_tiles_of_what_the_positions_and_the_means_cost(grid):
    rng = np.random.default_rng(2)
    height, width, channels = grid.shape
    chi = rng.random((2, *grid.shape))
    shares = rng.random((2, grid.groups * grid.tiles))
    position, common = (rng.normal(size=(channels, channels)) for _ in range(2))
    found = damage(*map(tf.constant, (chi, shares)), (tf.constant(position), tf.constant(common)), grid).numpy()
    expected = np.zeros((2, grid.groups, channels, channels))
    for image in range(2):
        for tile in range(grid.groups * grid.tiles):
            places = [(y, x) for y, x in np.ndindex(height, width) if tile_of(grid, y, x) == tile]
            inside = np.array([chi[image, y, x] for y, x in places])
            mean = inside.mean(axis=0)
            form = sum(np.outer(x, x) for x in inside) * position + np.outer(mean, mean) * common
            expected[image, tile // grid.tiles] += shares[image, tile] * form
    np.testing.assert_allclose(found, expected)


def test_a_tile_without_saliency_matters_nothing():
    grid = GRIDS[0]
    rng = np.random.default_rng(3)
    chi = rng.random((1, *grid.shape))
    shares = np.full((1, 6), 0.2)
    shares[0, 4] = 0  # the middle tile of the second row group
    other = chi.copy()
    other[0, 3:6, 3:6] = 100
    matrices = tuple(tf.constant(rng.random((4, 4))) for _ in range(2))
    one, same = (damage(tf.constant(x), tf.constant(shares), matrices, grid).numpy() for x in (chi, other))
    np.testing.assert_array_equal(one, same)


# --- the order of leaving out ---


def turns(form):
    """Return what `eliminate` does, one packet at a time and by the definition of what is lost."""
    groups, channels, _ = form.shape
    gone, waiting, turn = [], [(g, c) for g in range(groups) for c in range(channels)], {}
    for share in ROUNDS:
        cost = {(g, c): form[g, c, c] / 2 + sum(form[g, c, d] for h, d in gone if h == g) for g, c in waiting}
        cheapest = sorted(waiting, key=lambda packet: (cost[packet], packet))
        for packet in cheapest[: round(share * groups * channels) - len(gone)]:
            turn[packet] = len(turn)
            waiting.remove(packet)
        gone = [*turn]
    return [turn[g, c] for c in range(channels) for g in range(groups)]  # in the order of their places


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 24), st.integers(1, 50))
def test_packets_leave_in_rounds_the_cheapest_first_given_those_already_gone(seed, groups, channels, most):
    values = np.random.default_rng(seed).integers(-most, most + 1, (groups, channels, channels))
    form = (values + values.transpose(0, 2, 1)).astype(np.float32)  # integers: no rounding, and ties
    np.testing.assert_array_equal(eliminate(form), turns(form))


@pytest.mark.parametrize("zeros", [0, 1504, 2048])
def test_every_packet_has_a_turn_of_its_own_however_many_cost_the_same(zeros):
    x = np.random.default_rng(4).normal(size=(8, 300, 256)).astype(np.float32)
    x[:, :, : zeros // 8] = 0
    scores = eliminate(np.matmul(x.transpose(0, 2, 1), x))
    np.testing.assert_array_equal(np.sort(scores), np.arange(2048))
    np.testing.assert_array_equal(np.sort(scores[:zeros]), np.arange(zeros))  # what is empty goes first
    assert scores.dtype == np.float32


def one_group(**pairs):
    """A form of 20 channels that cost 1, 2, 3 ... alone, and what some cost together."""
    form = np.diag(np.arange(1, 21)).astype(np.float32)
    for pair, value in pairs.items():
        one, other = map(int, pair.strip("_").split("_"))
        form[one, other] = form[other, one] = value
    return form[np.newaxis]


def test_two_absences_that_cancel_are_cheaper_together_and_two_that_add_up_are_dearer():
    alone, cancelling, adding = (eliminate(form) for form in (one_group(), one_group(_0_18=-15), one_group(_0_8=20)))
    np.testing.assert_array_equal(alone, np.arange(20))
    assert cancelling[0] == adding[0] == 0
    assert cancelling[18] == 5  # right after the first round, of five, took its counterpart
    assert adding[8] == 19


def test_absences_of_other_row_groups_do_not_interact():
    both = np.concatenate([one_group(_0_18=-15), 100 * one_group()])
    scores = eliminate(both).reshape(20, 2)
    np.testing.assert_array_equal(ranks(scores[:, 1]), np.arange(20))


# --- the models ---


def file_of(model, recipe, **others):
    rng = np.random.default_rng(5)
    arrays = {}
    for weight in model.weights:
        noise = 0.1 * rng.normal(size=weight.shape)
        value = np.asarray(weight) + (np.abs(noise) if "variance" in weight.path else noise)
        arrays[weight.path] = value.astype(np.float32)
    return EstimatorFile(Path("test.npz"), {"recipe": recipe, "split": SPLIT.name, "rows": 7}, arrays | others)


@pytest.fixture(scope="module")
def best():
    tf.keras.utils.set_random_seed(6)  # Keras draws the first weights; some draws give one tile all the saliency
    x = np.random.default_rng(6).normal(size=(2, 600, 256)).astype(np.float32)
    position, common = np.matmul(x.transpose(0, 2, 1), x) / 600
    offset = np.random.default_rng(9).normal(size=GRID.count).astype(np.float32) / 20
    others = {"sensitivity/position": position, "sensitivity/tile": common, "offset": offset}
    return file_of(saliency_model(GRID), "best", **others)


@pytest.fixture(scope="module")
def paper():
    return file_of(element_model(SPLIT), "paper")


@pytest.fixture(scope="module")
def chi():
    return np.random.default_rng(7).normal(size=(2, *SPLIT.shape)).astype(np.float32)


def test_the_saliency_network_gives_a_finite_logit_for_each_tile_even_where_a_channel_is_never_positive():
    model = saliency_model(GRID)
    for name in ("log_energy", "log_power"):
        model.get_layer(name).set_weights([np.zeros(256, np.float32)])
    sums = np.zeros((2, 8, 8, 256), np.float32)
    sums[1, :, :, 3] = 5
    logits = model([sums, sums]).numpy()
    assert logits.shape == (2, 64)
    assert np.isfinite(logits).all()


def test_scores_of_a_batch_are_those_of_its_images_one_by_one(best, chi):
    proxy = Proxy(best, SPLIT)
    forms = proxy(normalise(IMAGES, RESNET50.preprocess), chi).numpy()
    assert forms.shape == (2, 8, 256, 256)
    for n in range(2):
        form = proxy(normalise(IMAGES[n : n + 1], RESNET50.preprocess), chi[n : n + 1]).numpy()
        np.testing.assert_allclose(forms[n : n + 1], form, rtol=1e-3, atol=1e-6)
    scores, form = proxy.rank(forms)
    assert form is forms
    turns = np.array([eliminate(form) for form in forms])
    np.testing.assert_allclose(scores, turns / GRID.count + best.arrays["offset"], rtol=1e-6)
    assert not similar(scores[0], scores[1])


def test_only_what_is_positive_counts_for_the_consumer_is_a_relu(best, chi):
    proxy = Proxy(best, SPLIT)
    np.testing.assert_array_equal(proxy(IMAGES, chi), proxy(IMAGES, np.maximum(chi, 0)))


def test_the_papers_proxy_sums_its_map_of_the_image_over_each_packet(paper, chi):
    model = element_model(SPLIT)
    for weight in model.weights:
        weight.assign(paper.arrays[weight.path])
    maps = model(normalise(IMAGES, RESNET50.preprocess), training=False).numpy()
    assert maps.shape == (2, *SPLIT.shape)
    assert maps.min() == 0 < maps.max()
    found = ProxyModel(paper, SPLIT)(IMAGES, chi).scores
    np.testing.assert_allclose(found, [GRID.split(one).sum(axis=1) for one in maps], rtol=1e-3, atol=1e-3 * found.max())


@pytest.mark.parametrize("recipe", ["best", "paper"])
def test_in_the_front_ends_graph_a_proxy_scores_and_leaves_the_features_alone(recipe, best, paper, weights, front_end):
    file = {"best": best, "paper": paper}[recipe]
    with_proxy = KerasFrontEnd(SPLIT, weights, file)
    chi, scores, form = with_proxy(IMAGES)
    np.testing.assert_allclose(chi, front_end(IMAGES).chi, atol=1e-4)
    assert (scores.shape, scores.dtype) == ((2, 2048), np.float32)
    assert (form is None) == (recipe == "paper")  # which does not know what goes together
    assert form is None or form.shape == (2, 8, 256, 256)
    alone = ProxyModel(file, SPLIT)(IMAGES, chi).scores
    single = with_proxy(IMAGES[1])
    assert single.chi.shape == SPLIT.shape
    assert single.scores.shape == (2048,)
    assert all(similar(*pair) for pair in zip(scores, alone, strict=True))
    assert similar(single.scores, scores[1])
    assert form is None or np.allclose(single.damage, form[1], rtol=1e-3, atol=1e-6)


# --- files that do not fit ---


@pytest.mark.parametrize("name", ["sensitivity/tile", "prior/values"])
def test_a_file_without_one_of_its_arrays_is_refused_with_the_arrays_name(best, name):
    arrays = {key: array for key, array in best.arrays.items() if key != name}
    with pytest.raises(UsageError, match=f"test.npz is no best estimator of this release: {name} is missing"):
        Proxy(EstimatorFile(best.path, best.about, arrays), SPLIT)


def test_a_proxy_of_another_split_is_refused(best):
    with pytest.raises(UsageError, match=f"ranks packets of 7 rows of {DEFAULT_CUT}, not of 7 rows of pool1_pool"):
        Proxy(best, named_cut("pool1_pool"))
