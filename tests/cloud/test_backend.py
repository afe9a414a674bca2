"""Front-end and back-end together are the uncut network, wherever it is cut."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

from gradfec_cloud.backend import BackEnd
from gradfec_common.network import DEFAULT_SPLIT, LAYERS, split_point
from gradfec_common.weights import ensure_weights
from gradfec_edge.frontend import FrontEnd
from gradfec_edge.preprocess import normalise

NOISE = np.random.default_rng(4).integers(0, 256, (3, 224, 224, 3), np.uint8)
COARSE = np.random.default_rng(5).integers(0, 256, (2, 7, 7, 3), np.uint8).repeat(32, 1).repeat(32, 2)
IMAGES = np.concatenate([NOISE, COARSE])


@pytest.fixture(scope="module")
def weights():
    return ensure_weights()


@pytest.fixture(scope="module")
def uncut(weights):
    """Keras's own model, with Keras's own preprocessing: (5, 1000) probabilities."""
    model = keras.applications.ResNet50(weights=None)
    for layer, theirs in zip(LAYERS, model.layers, strict=True):
        theirs.set_weights(weights.arrays(layer.name))
    return model.predict(keras.applications.resnet50.preprocess_input(IMAGES.astype(np.float32)), verbose=0)


@pytest.fixture(scope="module")
def back_end(weights):
    back_end = BackEnd(split_point(DEFAULT_SPLIT), weights, max_batch=5)
    back_end.warm_up()
    return back_end


@pytest.fixture(scope="module")
def chi(weights):
    return FrontEnd(split_point(DEFAULT_SPLIT), weights)(IMAGES).chi


def assert_same_predictions(ours, theirs):
    assert (ours.shape, ours.dtype) == (theirs.shape, np.float32)
    np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_cut_at_the_default_the_halves_are_the_whole(back_end, chi, uncut):
    assert_same_predictions(back_end(chi), uncut)


@pytest.mark.parametrize("name", ["conv1_bn", "avg_pool"])
def test_cut_anywhere_the_halves_are_the_whole(weights, uncut, name):
    split = split_point(name)
    front_end, back_end = FrontEnd(split, weights), BackEnd(split, weights)
    chi = front_end(IMAGES).chi
    assert chi.shape == (5, *split.shape)
    assert_same_predictions(back_end(chi), uncut)


def test_cut_at_the_input_the_back_end_is_the_uncut_network(weights, uncut):
    back_end = BackEnd(split_point("input_layer"), weights)
    assert_same_predictions(back_end(normalise(IMAGES)), uncut)


def test_every_batch_size_is_served_by_one_trace_from_another_thread(back_end, chi, uncut):
    with ThreadPoolExecutor(1) as worker:
        for batch in range(1, 6):
            assert_same_predictions(worker.submit(back_end, chi[:batch]).result(), uncut[:batch])
    assert back_end._run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("shape", [(0, 56, 56, 256), (6, 56, 56, 256), (56, 56, 256), (1, 56, 56, 64)])
def test_another_shape_is_refused_before_it_is_traced(back_end, shape):
    with pytest.raises(ValueError, match=r"chi is \(1\.\.5, 56, 56, 256\) at conv2_block1_add"):
        back_end(np.zeros(shape, np.float32))
