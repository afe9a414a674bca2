"""Front-end and back-end together compute what the uncut network computes, at any cut."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gradfec_cloud.backend.keras_runtime import KerasBackEnd
from gradfec_common.networks import named_cut
from gradfec_common.networks.pixels import normalise
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_edge.frontend.keras_runtime import KerasFrontEnd

NOISE = np.random.default_rng(4).integers(0, 256, (3, 224, 224, 3), np.uint8)
COARSE = np.random.default_rng(5).integers(0, 256, (2, 7, 7, 3), np.uint8).repeat(32, 1).repeat(32, 2)
IMAGES = np.concatenate([NOISE, COARSE])


@pytest.fixture(scope="module")
def expected(resnet50):
    """What Keras's own model makes of it, with Keras's own preprocessing: (5, 1000) probabilities."""
    import keras

    return resnet50.predict(keras.applications.resnet50.preprocess_input(IMAGES.astype(np.float32)), verbose=0)


@pytest.fixture(scope="module")
def chi(front_end):
    return front_end(IMAGES).chi


def assert_same_predictions(ours, theirs):
    assert (ours.shape, ours.dtype) == (theirs.shape, np.float32)
    np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_at_the_default_cut_both_halves_compute_what_the_network_computes(back_end, chi, expected):
    assert_same_predictions(back_end(chi), expected)


@pytest.mark.slow  # tests/integration/test_litert.py has two cuts
@pytest.mark.parametrize("name", ["conv1_bn", "avg_pool"])
def test_at_any_cut_both_halves_compute_what_the_network_computes(weights, expected, name):
    split = named_cut(name)
    front_end, back_end = KerasFrontEnd(split, weights), KerasBackEnd(split, weights)
    chi = front_end(IMAGES).chi
    assert chi.shape == (5, *split.shape)
    assert_same_predictions(back_end(chi), expected)


def test_cut_at_the_input_the_back_end_is_the_uncut_network(uncut, expected):
    assert_same_predictions(uncut(normalise(IMAGES, RESNET50.preprocess)), expected)


def test_every_batch_size_is_served_by_one_trace_from_another_thread(back_end, chi, expected):
    with ThreadPoolExecutor(1) as worker:
        for batch in range(1, 6):
            assert_same_predictions(worker.submit(back_end, chi[:batch]).result(), expected[:batch])
    assert back_end._run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("shape", [(0, 56, 56, 256), (6, 56, 56, 256), (56, 56, 256), (1, 56, 56, 64)])
def test_another_shape_is_refused_before_it_is_traced(back_end, shape):
    with pytest.raises(ValueError, match=r"chi is \(1\.\.5, 56, 56, 256\) at conv2_block1_add"):
        back_end(np.zeros(shape, np.float32))
