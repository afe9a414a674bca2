"""On LiteRT the network answers as on TensorFlow, which need not be installed."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from gradfec_cloud.backend.litert_runtime import LiteRTBackEnd
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.networks.pixels import normalise
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.preprocess import to_input
from gradfec_edge.frontend.keras_proxy import element_model, saliency_model
from gradfec_edge.frontend.keras_runtime import KerasFrontEnd
from gradfec_edge.frontend.litert_runtime import LiteRTFrontEnd
from gradfec_edge.importance import EstimatorFile, make_estimator
from gradfec_lab.answers import Answers, LiteRTAnswers, fastest_answers

SPLIT = named_cut(DEFAULT_CUT)
GRID = PacketGrid(SPLIT.shape)
COARSE = np.random.default_rng(5).integers(0, 256, (3, 7, 7, 3), np.uint8).repeat(32, 1).repeat(32, 2)


@pytest.fixture(scope="module")
def images(photographs):
    """Three photographs (3, 224, 224, 3), and noise."""
    real = [to_input(cv2.imread(str(path)), RESNET50.preprocess) for path in sorted(photographs.iterdir())[:3]]
    return np.stack([*real, *COARSE])


@pytest.fixture(scope="module")
def expected(resnet50, images):
    """What Keras's own model answers: (6, 1000) probabilities."""
    return resnet50.predict(normalise(images, RESNET50.preprocess), verbose=0)


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("conv1_conv", "conv1_bn", "avg_pool")]


@pytest.mark.parametrize("name", ["input_layer", DEFAULT_CUT, *OTHERS])
def test_at_any_cut_both_halves_compute_what_the_network_computes(weights, images, expected, name):
    split = named_cut(name)
    front_end, back_end = LiteRTFrontEnd(split, weights), LiteRTBackEnd(split, weights)
    chi = np.stack([front_end(image).chi for image in images])
    assert (chi.shape, chi.dtype) == ((6, *split.shape), np.float32)
    probabilities = back_end(chi)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("estimator", ["proxy", pytest.param("proxy-paper", marks=pytest.mark.slow)])
def test_the_learned_estimators_rank_the_packets_alike(weights, images, estimator):
    file = make_estimator(estimator, SPLIT, GRID, np.random.default_rng(0))
    one, other = LiteRTFrontEnd(SPLIT, weights, file), KerasFrontEnd(SPLIT, weights, file)
    for image in images:
        ours, theirs = one(image), other(image)
        np.testing.assert_allclose(ours.chi, theirs.chi, atol=1e-4)
        # A rounding may swap neighbours, and what follows them; most stay where they are.
        ranks = [np.argsort(np.argsort(found.scores)) for found in (ours, theirs)]
        assert np.abs(np.subtract(*ranks)).mean() < 4
        assert (ours.damage is None) == (theirs.damage is None)
        if ours.damage is not None:
            np.testing.assert_allclose(ours.damage, theirs.damage, atol=1e-4 * np.abs(theirs.damage).max())


@pytest.mark.parametrize(
    ("split", "rows", "recipe"),
    [
        ("pool1_pool", 8, "best"),
        ("pool1_pool", 8, "paper"),
        pytest.param("conv3_block1_out", 4, "best", marks=pytest.mark.slow),
        pytest.param("avg_pool", 1, "paper", marks=pytest.mark.slow),
    ],
)
def test_estimators_for_other_splits_and_rows_rank_the_packets_alike(weights, images, split, rows, recipe):
    cut, rng = named_cut(split), np.random.default_rng(8)
    grid = PacketGrid(cut.shape, rows)
    model = element_model(cut) if recipe == "paper" else saliency_model(grid)
    arrays = {weight.path: rng.random(tuple(weight.shape), np.float32) / 8 for weight in model.weights}
    channels = cut.shape[2]
    if recipe == "best":
        arrays |= {f"sensitivity/{name}": np.eye(channels, dtype=np.float32) for name in ("position", "tile")}
        arrays["offset"] = np.zeros(grid.count, np.float32)
    file = EstimatorFile(Path("test.npz"), {"recipe": recipe, "split": split, "rows": rows}, arrays)
    ours, theirs = (made(cut, weights, file)(images[0]) for made in (LiteRTFrontEnd, KerasFrontEnd))
    assert ours.scores.shape == (grid.count,)
    if recipe == "paper":
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-3, atol=1e-3 * theirs.scores.max())
    else:
        assert ours.damage.shape == (grid.groups, channels, channels)
        np.testing.assert_allclose(ours.damage, theirs.damage, atol=1e-4 * np.abs(theirs.damage).max())


def test_a_back_end_refuses_features_of_another_shape(weights):
    back_end = LiteRTBackEnd(named_cut("avg_pool"), weights, max_batch=2)
    for shape in ((1, 1, 1, 2047), (3, 1, 1, 2048), (0, 1, 1, 2048)):
        with pytest.raises(ValueError, match=r"chi is \(1\.\.2, 1, 1, 2048\) at avg_pool"):
            back_end(np.zeros(shape, np.float32))


def test_neither_half_imports_tensorflow(weights):
    program = f"""
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None  # importing them is an error
import numpy as np
from gradfec_cloud.backend import load_back_end
from gradfec_common.networks import named_cut, named_network
from gradfec_common.packets import PacketGrid
from gradfec_host.weights import open_weights
from gradfec_edge.frontend import load_front_end
from gradfec_edge.importance import make_estimator
split = named_cut({DEFAULT_CUT!r})
weights = open_weights(named_network("resnet50"))
proxy = make_estimator("proxy", split, PacketGrid(split.shape), np.random.default_rng(0))
features = load_front_end("litert", split, weights, proxy)(np.zeros((224, 224, 3), np.uint8))
print(features.scores.shape, load_back_end("litert", split, weights)(features.chi[np.newaxis]).shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(2048,) (1, 1000)\n"
    assert done.stderr == "", "the runtime's notices are not the daemon's"


@pytest.mark.slow
def test_the_sweeps_get_the_same_answers_from_either_runtime(weights, images):
    split = named_cut("avg_pool")
    chi = KerasFrontEnd(split, weights)(images).chi
    fastest = fastest_answers(split, weights)
    assert isinstance(fastest, LiteRTAnswers)
    np.testing.assert_array_equal(fastest(chi), Answers(split, weights)(chi))
    assert fastest(chi[:0]).shape == (0,)
