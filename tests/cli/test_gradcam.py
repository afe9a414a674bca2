"""Modified Grad-CAM: the map is relu(chi * gradient), the gradient that finite differences find."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradfec_cli.gradcam import BATCH, SCORES, GradCam, importance_map
from gradfec_common.networks import named_cut
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance.free import packet_sums

SHAPE = (6, 5, 4)
STEP = 1e-6
OWN = np.full(3, -1)
GIVEN = np.array([2, 0, 2])


@pytest.fixture(scope="module")
def network():
    """ReLU, convolution, ReLU, dense: chi (N, 6, 5, 4) -> logits (N, 3), in float64."""
    keras.utils.set_random_seed(7)
    layers = keras.layers
    chi = keras.Input(SHAPE, dtype="float64")
    x = layers.Conv2D(5, 3, activation="relu", dtype="float64")(layers.ReLU(dtype="float64")(chi))
    x = layers.Flatten(dtype="float64")(x)
    return keras.Model(chi, layers.Dense(3, bias_initializer="normal", dtype="float64")(x))


@pytest.fixture(scope="module")
def chi():
    return np.random.default_rng(8).normal(size=(3, *SHAPE))


def scores_of(network, chi, score):
    z = network(chi).numpy()
    return z if score == "logit" else z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def mapped(network, chi, classes, score):
    return [a.numpy() for a in importance_map(network, tf.constant(chi), tf.constant(classes, tf.int64), score)]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("classes", [OWN, GIVEN], ids=["own", "given"])
def test_the_map_is_what_finite_differences_give(network, chi, classes, score):
    elements, gradient, chosen, logits = mapped(network, chi, classes, score)
    np.testing.assert_array_equal(chosen, network(chi).numpy().argmax(axis=1) if classes is OWN else classes)
    np.testing.assert_allclose(logits, network(chi).numpy())
    steps = STEP * np.eye(chi[0].size).reshape(-1, *SHAPE)  # one element after the other
    ends = [
        np.stack([scores_of(network, one + sign * steps, score)[:, c] for one, c in zip(chi, chosen, strict=True)])
        for sign in (1, -1)
    ]
    expected = ((ends[0] - ends[1]) / (2 * STEP)).reshape(chi.shape)
    np.testing.assert_allclose(gradient, expected, atol=1e-7)
    np.testing.assert_allclose(elements, np.maximum(chi * expected, 0), atol=1e-7)


@pytest.mark.parametrize("score", SCORES)
def test_negative_products_are_zero_and_what_the_relu_blocks_has_no_gradient(network, chi, score):
    elements, gradient, *_ = mapped(network, chi, OWN, score)
    products = chi * gradient
    assert (products < 0).any() and (products > 0).any()
    assert (elements[products < 0] == 0).all()
    np.testing.assert_array_equal(elements[products > 0], products[products > 0])
    assert (gradient[chi < 0] == 0).all()


@pytest.mark.parametrize("score", SCORES)
def test_a_batch_is_explained_as_its_images_one_by_one(network, chi, score):
    together = mapped(network, chi, GIVEN, score)
    for n in range(3):
        for whole, single in zip(together, mapped(network, chi[n : n + 1], GIVEN[n : n + 1], score), strict=True):
            np.testing.assert_allclose(whole[n], single[0], atol=1e-12)


def test_the_two_scores_differ_by_what_the_likely_classes_share(network, chi):
    by_logit = [mapped(network, chi, np.full(3, c), "logit")[1] for c in range(3)]
    z = network(chi).numpy()
    shares = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    common = sum(shares[:, c, None, None, None] * by_logit[c] for c in range(3))
    _, gradient, chosen, _ = mapped(network, chi, OWN, "log-probability")
    own = np.stack([by_logit[c][n] for n, c in enumerate(chosen)])
    np.testing.assert_allclose(gradient, own - common, atol=1e-12)


@pytest.mark.parametrize("grid", [PacketGrid((14, 5, 6), 7), PacketGrid((6, 4, 3), 1)])
def test_a_packets_importance_is_the_sum_of_its_elements(grid):
    elements = np.random.default_rng(9).random((3, *grid.shape)).astype(np.float32)
    expected = [grid.split(one).sum(axis=1) for one in elements]
    np.testing.assert_allclose(packet_sums(elements, grid), expected, rtol=1e-5)


# --- with the real network ---


def noise(count, cut):
    """Features of the right size and scale."""
    height, width, channels = cut.shape
    coarse = np.random.default_rng(10).normal(size=(count, height // 7, width // 7, channels)).astype(np.float32)
    return coarse.repeat(7, axis=1).repeat(7, axis=2)


@pytest.fixture(scope="module")
def late(weights):
    """The oracle of a late split point, where there is little to compute."""
    return GradCam(named_cut("conv5_block2_add"), weights)


@pytest.fixture(scope="module")
def features(late):
    """Features of nine images, more than fit one batch."""
    return noise(BATCH + 1, late.cut)


@pytest.fixture(scope="module")
def own(late, features):
    return late(features)


def test_more_images_than_a_batch_are_explained_as_in_two_calls(late, features, own):
    apart = [late(features[:BATCH]), late(features[BATCH:])]
    for whole, *parts in zip(own, *apart, strict=True):
        np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-4, atol=1e-6)
    assert own.elements.shape == own.gradient.shape == features.shape
    assert own.elements.min() == 0 < own.elements.max()
    assert np.isfinite(own.gradient).all()


def test_the_classes_are_the_networks_top_1_unless_others_are_given(late, features, own):
    np.testing.assert_array_equal(own.classes, late.model(features, training=False).numpy().argmax(axis=1))
    np.testing.assert_array_equal(own.classes, own.logits.argmax(axis=1))
    given = np.append(own.classes[:BATCH], 285)
    other = late(features, given)
    np.testing.assert_array_equal(other.classes, given)
    np.testing.assert_allclose(other.elements[:BATCH], own.elements[:BATCH], rtol=1e-4, atol=1e-6)
    assert np.abs(other.elements[BATCH] - own.elements[BATCH]).max() > 0.01 * own.elements.max()


def test_the_oracles_gradient_is_that_of_the_back_ends_logit(oracle):
    chi = np.maximum(noise(1, oracle.cut), 0)
    explained = oracle(chi)
    direction = explained.gradient / np.linalg.norm(explained.gradient)
    step = 0.5
    ends = [oracle.model(chi + s * direction, training=False).numpy()[0] for s in (-step, step)]
    slope = (ends[1] - ends[0])[explained.classes[0]] / (2 * step)
    assert slope == pytest.approx(np.linalg.norm(explained.gradient), rel=0.1)
