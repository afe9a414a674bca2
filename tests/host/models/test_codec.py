"""A bottleneck of an imported network: in the model's folder or in a file, and the same network wherever it is."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from tests.imported_codec import drawn_arrays, small, write_codec
from tests.onnx_files import CLASSES, SIDE, classifier, written

from gradfec_cloud.backend import load_back_end
from gradfec_cloud.backend.load import LoadBackEnd
from gradfec_cloud.catalogue import chosen_catalogue
from gradfec_cloud.labels import labels_of
from gradfec_common.bottlenecks import WithBottleneck
from gradfec_common.ciphers import Cipher
from gradfec_common.conceal.mask import Masked
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.packets import PacketGrid
from gradfec_common.session.offer import Offer
from gradfec_common.wire import Hello, Refuse
from gradfec_edge.coding import coding_of, usual_cut
from gradfec_edge.frontend import load_front_end
from gradfec_host.codec_file import CodecFile, shipped_codec, trained
from gradfec_host.models.add import Wanted, add_model
from gradfec_host.models.graph import Graph
from gradfec_host.models.presets import preprocess_of
from gradfec_host.models.store import BACK, FRONT, Model, export_half, open_model, take_folder

LABELS = tuple(f"kind {n}" for n in range(CLASSES))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))


def add(tmp_path, name="small", seed=0) -> Model:
    path = written(classifier(seed), tmp_path / f"{name}.onnx")
    wanted = Wanted(name, preprocess_of("unit", (SIDE, SIDE)), LABELS, split="stem")
    add_model(path, Graph.read(path), wanted)
    return open_model(name)


@pytest.fixture
def model(tmp_path) -> Model:
    return add(tmp_path)


def photograph(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def test_an_edge_with_default_options_uses_the_one_in_the_models_folder(model):
    cut = model.network.usual_cut
    assert coding_of(cut, None, "auto", None, "zfec").codec.startswith("sqrt")
    file = write_codec(small(model))
    coding = coding_of(cut, None, "auto", None, "zfec")
    assert (coding.codec, coding.split) == ("bottleneck", "stem")
    assert coding.cut.network.digest == file.latents.network.digest
    assert (coding.cut.shape, coding.grid.rows) == ((16, 16, 64), 16)
    assert coding.policy.name == "auto", "its worth is known"


@pytest.mark.parametrize("worth", [None, {"quality": [[3, 700, 0.79]]}])
def test_one_that_keeps_too_few_answers_must_be_asked_for(model, worth):
    write_codec(small(model), worth=worth)
    cut = model.network.usual_cut
    assert coding_of(cut, None, "auto", None, "zfec").codec != "bottleneck"
    assert coding_of(cut, None, "bottleneck", None, "zfec").codec == "bottleneck"


def test_a_cut_without_one_says_so(model):
    write_codec(small(model))
    with pytest.raises(UsageError, match="there is no bottleneck for the split small:deep: train one"):
        coding_of(model.network.cut("deep"), None, "bottleneck", None, "zfec")


def test_the_cloud_serves_its_latents_beside_the_cuts(model):
    file = write_codec(small(model))
    served = chosen_catalogue(None, "auto", models="small")
    (latents,) = [cut for cut in served.cuts if cut.masked]
    assert latents.network.digest == file.latents.network.digest
    assert model.network.usual_cut in served.cuts
    assert labels_of(latents.network) == LABELS
    assert isinstance(served.concealments[latents], Masked)
    by_split = chosen_catalogue("stem", "auto", models="small")
    assert [cut.masked for cut in by_split.cuts] == [False, True]


def test_a_file_is_served_and_sent_whatever_the_model_is_called_here(model, tmp_path, monkeypatch):
    file = write_codec(small(model), tmp_path / "mine.npz")
    assert shipped_codec(model.network.usual_cut) is None
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "other"))
    with pytest.raises(UsageError, match=r"mine\.npz is for a model that was not added here, with the digest"):
        _ = CodecFile.read(file.path).cut
    other = add(tmp_path, "renamed")
    cut = usual_cut(file.path, "renamed")
    assert cut is other.network.cut("stem")
    with pytest.raises(UsageError, match=r"mine\.npz is for the split stem of the model .{8}, not for second:stem"):
        usual_cut(file.path, add(tmp_path, "second", seed=1).network.name)
    sent = coding_of(cut, None, file.path, None, "zfec").cut
    (served,) = [one for one in chosen_catalogue(None, "zero", file.path, "renamed").cuts if one.masked]
    assert sent.network.digest == served.network.digest == file.latents.network.digest
    assert sent.network.name.startswith("renamed+narrow-")
    with pytest.raises(UsageError, match=r"is for the split stem of the model .{8}, not for renamed:deep"):
        coding_of(other.network.cut("deep"), None, file.path, None, "zfec")


def test_one_of_another_network_or_training_is_refused_by_the_cloud(model, tmp_path):
    mine = write_codec(small(model)).latents
    offer = Offer(chosen_catalogue(None, "auto", models="small").cuts)
    others = [write_codec(small(model), tmp_path / "other.npz", seed=1), write_codec(small(add(tmp_path, "b", 1)))]
    digests = [one.latents.network.digest for one in others]
    assert len({mine.network.digest, model.network.digest, *digests}) == 4
    for digest in digests:
        found = offer.accept(Hello(Cipher.AES_256_GCM, digest, mine.id, 16, "edge"))
        assert isinstance(found, Refuse) and found.reason == "model" and "same options and bottleneck" in found.detail
    accepted = offer.accept(Hello(Cipher.AES_256_GCM, mine.network.digest, mine.id, 16, "edge"))
    assert not isinstance(accepted, Refuse) and accepted[0].cut.masked


def test_both_halves_together_are_encoder_decoder_and_the_rest(model):
    bottleneck = small(model)
    latents = write_codec(bottleneck).latents
    assert isinstance(latents.network, WithBottleneck)
    front, back = (load("", latents, trained(latents.network)) for load in (load_front_end, load_back_end))
    chi = front(photograph()).chi
    assert chi.shape == latents.shape
    grid = PacketGrid(latents.shape, 16)
    received = Masked(latents, {})(chi.copy(), np.ones(grid.count, bool), grid, 0.5)
    output = back(received[np.newaxis])[0]
    seen = load_front_end("", bottleneck.cut, model)(photograph()).chi
    joined = run_by_litert(bottleneck.decoder, received, run_by_litert(bottleneck.encoder, seen, None, chi))
    expected = load_back_end("", model.network.cut("block"), model)(joined[np.newaxis])[0]
    np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-3)


def test_its_back_end_travels_to_a_worker_that_has_nothing(model, tmp_path, monkeypatch):
    latents = write_codec(small(model)).latents
    received = np.random.default_rng(1).normal(size=(1, *latents.received.shape)).astype(np.float32)
    packed = pickle.dumps(LoadBackEnd("", latents, model, 1))
    expected = load_back_end("", latents, model, 1)(received)
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "worker"))
    np.testing.assert_array_equal(pickle.loads(packed)()(received), expected)


def run_by_litert(layers, tensor, before, expected=None):
    """Run layers with the drawn weights on LiteRT, which checks what ONNX Runtime makes of the same."""
    from ai_edge_litert.interpreter import Interpreter

    from gradfec_host.litert_graph import Graph as LiteRTGraph
    from gradfec_host.litert_network import add_layers

    bottleneck = small(open_model("small"))
    arrays = drawn_arrays(bottleneck)
    by_name = {layer.name: layer for layer in (*bottleneck.encoder, *bottleneck.decoder)}
    graph = LiteRTGraph()
    source = "latents" if layers[0].name == "latents" else bottleneck.cut.name
    there = {source: graph.input(source, (1, *tensor.shape))}
    made = add_layers(
        graph, there, layers[source == "latents" :], layers[-1].name,
        lambda name: [arrays[f"{name}/{part}"].astype(np.float32) for part in by_name[name].arrays],
    )  # fmt: skip
    model = Interpreter(model_content=graph.model([made]))
    model.allocate_tensors()
    model.set_tensor(model.get_input_details()[0]["index"], tensor[np.newaxis])
    model.invoke()
    found = model.get_tensor(model.get_output_details()[0]["index"])[0]
    if expected is not None:
        np.testing.assert_allclose(expected, found, rtol=1e-3, atol=1e-3)
    return found


def test_an_exported_half_carries_it_and_needs_no_other_half(model, tmp_path, monkeypatch):
    file = write_codec(small(model))
    export_half(model, FRONT, model.network.usual_cut, tmp_path / "for-edge")
    export_half(model, BACK, model.network.usual_cut, tmp_path / "for-cloud", [file.joins])
    digest = file.latents.network.digest
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "edge"))
    taken = take_folder(tmp_path / "for-edge", "mine")
    coding = coding_of(open_model("mine").network.usual_cut, None, "auto", None, "zfec")
    assert coding.cut.network.digest == digest
    chi = load_front_end("", coding.cut, taken)(photograph()).chi
    with pytest.raises(GradfecError, match="the back of mine at block is not here"):
        load_back_end("", coding.cut, taken)
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "cloud"))
    taken = take_folder(tmp_path / "for-cloud", "theirs")
    (served,) = [cut for cut in chosen_catalogue(None, "auto", models="theirs").cuts if cut.masked]
    assert served.network.digest == digest
    assert load_back_end("", served, taken)(np.concatenate([chi, chi], axis=2)[np.newaxis]).shape == (1, CLASSES)


def test_a_cloud_without_the_half_behind_the_decoder_does_not_offer_it(model, tmp_path, monkeypatch):
    write_codec(small(model))
    export_half(model, BACK, model.network.usual_cut, tmp_path / "for-cloud")
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "cloud"))
    take_folder(tmp_path / "for-cloud", "theirs")
    assert not any(cut.masked for cut in chosen_catalogue(None, "auto", models="theirs").cuts)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"latents": [16, 16]}, "not a codec file, or damaged"),
        ({"latents": [16, 16, 0]}, "not a codec file, or damaged"),
        ({"model": "xyz"}, "not a codec file, or damaged"),
        ({"joins": None}, "not a codec file, or damaged"),
        ({"joins": "nowhere"}, "small has no split point 'nowhere'"),
        ({"cut": "deep"}, "is for the split deep of the model"),
        ({"latents": [16, 16, 32]}, "it is damaged, train it again"),
    ],
)
def test_a_damaged_file_is_one_clear_line(model, change, says):
    file = write_codec(small(model))
    CodecFile(file.path, {**file.about, **change}, file.arrays).write()
    with pytest.raises((GradfecError, UsageError), match=says):
        load_front_end("", shipped_codec(model.network.usual_cut).latents, model)


@pytest.mark.parametrize(("array", "says"), [(None, "missing"), (np.zeros(3, np.uint8), "ONNX Runtime cannot run")])
def test_halves_that_are_no_onnx_files_are_one_clear_line(model, array, says):
    file = write_codec(small(model))
    arrays = {name: one for name, one in file.arrays.items() if name != "encoder.onnx"}
    CodecFile(file.path, file.about, arrays if array is None else {**arrays, "encoder.onnx": array}).write()
    with pytest.raises(GradfecError, match=says):
        load_front_end("", shipped_codec(model.network.usual_cut).latents, model)
