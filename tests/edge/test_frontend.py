"""The front-end computes what Keras's ResNet-50 computes up to the cut, and reads only the arrays before it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gradfec_common.errors import GradfecError
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.networks.pixels import normalise
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_edge.frontend.keras_runtime import KerasFrontEnd
from gradfec_host.weights import WeightStore, open_weights, write_slice

IMAGES = np.random.default_rng(3).integers(0, 256, (2, 224, 224, 3), np.uint8)


def test_one_image_gives_one_tensor_and_a_batch_gives_a_batch(front_end):
    chi, scores, damage = front_end(IMAGES)
    assert scores is None  # without a proxy
    assert damage is None
    assert (chi.shape, chi.dtype) == ((2, 56, 56, 256), np.float32)
    single = front_end(IMAGES[1]).chi
    assert (single.shape, single.dtype) == ((56, 56, 256), np.float32)
    np.testing.assert_allclose(single, chi[1], atol=1e-4)


def test_the_compiled_function_agrees_with_the_keras_model_and_runs_in_another_thread(front_end):
    with ThreadPoolExecutor(1) as worker:
        chi = worker.submit(front_end, IMAGES[0]).result().chi
    eager = front_end.model(normalise(IMAGES[:1], RESNET50.preprocess), training=False).numpy()[0]
    np.testing.assert_allclose(chi, eager, atol=1e-4)


def test_after_warm_up_no_frame_compiles_anew(front_end):
    before = front_end._run.experimental_get_tracing_count()
    front_end(IMAGES[0])
    assert before == front_end._run.experimental_get_tracing_count()


def test_split_at_the_input_the_front_end_is_only_the_preprocessing(weights):
    front_end = KerasFrontEnd(named_cut("input_layer"), weights)
    np.testing.assert_array_equal(front_end(IMAGES[0]).chi, normalise(IMAGES[0], RESNET50.preprocess))


@pytest.mark.parametrize("name", ["pool1_pool", DEFAULT_CUT])
def test_only_arrays_before_the_cut_are_read(weights, monkeypatch, name):
    read = []
    array = WeightStore.array
    monkeypatch.setattr(WeightStore, "array", lambda store, name: read.append(name) or array(store, name))
    cut = named_cut(name)
    KerasFrontEnd(cut, weights)
    assert sorted(read) == sorted(f"{layer.name}/{array}" for layer in cut.front_layers for array in layer.arrays)
    assert not {name.split("/")[0] for name in read} & {layer.name for layer in cut.back_layers}


def test_a_slice_of_a_few_hundred_kilobytes_serves_the_front_end_and_no_more(weights, front_end, tmp_path):
    path = tmp_path / "edge.npz"
    write_slice(weights, named_cut(DEFAULT_CUT), path)
    assert path.stat().st_size < 400_000
    from_slice = KerasFrontEnd(named_cut(DEFAULT_CUT), open_weights(RESNET50, path))
    np.testing.assert_array_equal(from_slice(IMAGES[0]).chi, front_end(IMAGES[0]).chi)
    with pytest.raises(GradfecError, match=r"edge\.npz holds only 30 of ResNet-50's 320 arrays, a front-end's, and"):
        KerasFrontEnd(named_cut("conv2_block2_add"), open_weights(RESNET50, path))
