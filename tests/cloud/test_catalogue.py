"""What a cloud serves: cuts of any networks, each with its own back-end, concealment, head and labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.cloud.small import GRID, SPLIT, ZERO, decided
from tests.common.learned import learned_of
from tests.common.networks.toy import TOY, Point, back_end, front_end
from tests.onnx_files import SIDE, classifier, written

from gradfec_cloud import backend
from gradfec_cloud import catalogue as catalogue_module
from gradfec_cloud.catalogue import Catalogue, answer_at, chosen_catalogue, fills_of, named_cuts
from gradfec_cloud.decoding import Decoder
from gradfec_cloud.workers.pool import BackEndName
from gradfec_common.conceal import make_concealment
from gradfec_common.conceal.gaussian import Gaussian
from gradfec_common.conceal.zero import Zero
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import DEFAULT_CUT, NETWORKS, Network, named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_host.concealment_file import write_concealment_file
from gradfec_host.models.add import Wanted, add_model
from gradfec_host.models.graph import Graph
from gradfec_host.models.presets import preprocess_of
from gradfec_host.models.store import BACK, FRONT, export_half, open_model, take_folder
from gradfec_host.tuned import BackEndFile
from gradfec_host.weights import Weights


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """A second network, without labels."""
    made = replace(RESNET50, name="other", labels="")
    monkeypatch.setitem(NETWORKS, "other", made)
    yield made


def test_cuts_are_named_one_after_the_other(other: Network) -> None:
    assert named_cuts("pool1_pool") == [named_cut("pool1_pool")]
    several = named_cuts("conv2_block1_add, pool1_pool,other:pool1_pool")
    assert several == [named_cut(DEFAULT_CUT), named_cut("pool1_pool"), other.cut("pool1_pool")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pool1_pool,pool1_pool", "--split names pool1_pool twice"),
        ("pool1_pool, resnet50:pool1_pool", "--split names pool1_pool twice"),
        ("pool1_pool,", "has no layer ''"),
        ("pool1_pool,conv9", "has no layer 'conv9'"),
        ("alexnet:pool1_pool", "no model is called 'alexnet': use one of resnet50"),
    ],
)
def test_a_cut_that_is_none_or_is_named_twice_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        named_cuts(text)


def test_a_concealment_must_be_for_every_cut() -> None:
    with pytest.raises(UsageError, match="no channel means for the split 'pool1_pool': use --fill zero"):
        Catalogue.of(named_cuts("conv2_block1_add,pool1_pool"), "mean")
    assert Catalogue.of(named_cuts("conv2_block1_add"), "mean").concealments.keys() == {named_cut(DEFAULT_CUT)}


@pytest.mark.parametrize(
    ("text", "fills"),
    [
        ("zero", ["zero", "zero"]),
        ("pool1_pool=caltec", ["auto", "caltec"]),
        ("conv2_block1_add=altec, resnet50:pool1_pool=zero", ["altec", "zero"]),
        ("mean,pool1_pool=inpaint", ["mean", "inpaint"]),
    ],
)
def test_each_cut_may_have_its_own_concealment(text: str, fills: list[str]) -> None:
    cuts = named_cuts("conv2_block1_add,pool1_pool")
    assert [*fills_of(text, cuts).values()] == fills


def test_a_back_end_that_takes_a_mask_gets_one_whatever_the_fill() -> None:
    latents = Catalogue.default("caltec").cuts[1]
    assert fills_of("caltec", [latents]) == {latents: "mask"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("avg_pool=zero", "--fill avg_pool=zero: the split avg_pool is not served: name it in --split"),
        ("conv9=zero", "has no layer 'conv9'"),
        ("", "no concealment is called ''"),
        ("pool1_pool=", "no concealment is called ''"),
        ("pool1_pool=noise", "no concealment is called 'noise'"),
        ("altec", "no statistics of the channels of 'pool1_pool': use --fill zero, or make them with gradfec train"),
    ],
)
def test_a_fill_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Catalogue.of(named_cuts("conv2_block1_add,pool1_pool"), text)


def test_what_a_file_has_learned_of_a_cut_makes_more_concealments_possible(tmp_path: Path) -> None:
    cut = named_cut("pool1_pool")
    file = tmp_path / "pool1.npz"
    write_concealment_file(file, cut, dict(learned_of(cut.shape[2])), "made up")
    assert type(chosen_catalogue("pool1_pool", "auto").concealments[cut]) is Zero
    assert type(chosen_catalogue("pool1_pool", "auto", learned=str(file)).concealments[cut]) is Gaussian
    with pytest.raises(UsageError, match=r"pool1\.npz is for the split pool1_pool, which is not served"):
        chosen_catalogue("conv2_block1_add", "auto", learned=str(file))
    with pytest.raises(GradfecError, match=r"cannot read the learned arrays in .*none\.npz"):
        chosen_catalogue("pool1_pool", "auto", learned=str(tmp_path / "none.npz"))


def test_weights_are_needed_once_for_each_network(other: Network) -> None:
    cuts = named_cuts("pool1_pool,other:pool1_pool,conv2_block1_add,other:avg_pool")
    assert Catalogue.of(cuts, "zero").networks == [RESNET50, other]


def test_each_cut_has_a_back_end_of_its_own_which_is_loaded_when_it_is_asked_for(
    other: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[object, ...]] = []
    monkeypatch.setattr(backend, "load_back_end", lambda *arguments: loaded.append(arguments))
    cuts = named_cuts("pool1_pool,other:pool1_pool")
    stores = {RESNET50: "weights", other: "other weights"}
    loaders = Catalogue.of(cuts, "zero").loaders("litert", stores, 3)  # type: ignore[arg-type]
    assert loaders.keys() == {BackEndName("resnet50", "pool1_pool"), BackEndName("other", "pool1_pool")}
    assert loaded == []
    for load in loaders.values():
        load()
    assert loaded == [("litert", cuts[0], "weights", 3), ("litert", cuts[1], "other weights", 3)]


def test_an_answer_has_the_labels_of_its_own_network(other: Network) -> None:
    output = np.zeros(1000, np.float32)
    output[281] = 1
    assert answer_at(named_cut("pool1_pool"), output).lines()[0] == ("tabby", 1.0)
    assert answer_at(other.cut("pool1_pool"), output).lines()[0] == ("class 281", 1.0)


def test_an_answer_is_that_of_its_networks_own_head() -> None:
    output = back_end(front_end(np.full((8, 8, 3), 77, np.uint8))[np.newaxis])[0]
    assert answer_at(TOY.cut("mix"), output) == Point(*map(float, output))
    with pytest.raises(ValueError, match="overflows"):
        answer_at(TOY.cut("mix"), np.full(3, np.nan, np.float32))


def test_the_tensors_of_each_cut_have_their_own_concealment(other: Network) -> None:
    cuts = [SPLIT, other.cut(SPLIT.name)]
    means = make_concealment("mean", SPLIT, {"means": np.full(SPLIT.shape[2], 9, np.float32)})
    decoder = Decoder(dict(zip(cuts, (ZERO, means), strict=True)))
    for cut, value in zip(cuts, (0, 9), strict=True):
        packets = GRID.split(decoder.decode(cut, decided(7).arrived).tensor)
        assert (packets[: GRID.count // 2] == 7).all()
        assert (packets[GRID.count // 2 :] == value).all()  # what the plan drops
    decoder.close()


def test_by_default_the_default_cut_and_pictures_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[str] = []

    class Loaded:
        def __call__(self, chi: np.ndarray) -> np.ndarray:
            return chi + 1

    def load(runtime: str, cut: object, *_: object) -> Loaded:
        loaded.append(cut.name)
        return Loaded()

    monkeypatch.setattr(backend, "load_back_end", load)
    monkeypatch.setattr(catalogue_module, "shipped_codec", lambda _: None)
    served = Catalogue.default("mean")
    assert [cut.name for cut in served.cuts] == [DEFAULT_CUT, "input_layer"]
    assert served.networks == [RESNET50]
    for make in served.loaders("litert", {RESNET50: "weights"}, 1).values():
        make()
    assert loaded == [DEFAULT_CUT, "input_layer"]


def test_the_files_of_bottlenecks_are_named_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read: list[str] = []

    class Read:
        latents = SPLIT

    monkeypatch.setattr(catalogue_module, "shipped_codec", lambda _: None)
    monkeypatch.setattr(catalogue_module.CodecFile, "read", lambda name: read.append(name) or Read())
    assert chosen_catalogue(DEFAULT_CUT, "zero", "a.npz, b.npz").cuts[1:] == [SPLIT, SPLIT]
    assert read == ["a.npz", "b.npz"]
    monkeypatch.undo()
    with pytest.raises(GradfecError, match=r"cannot read the codec .*none\.npz: No such file"):
        chosen_catalogue(None, "zero", str(tmp_path / "none.npz"))


def test_whole_pictures_are_served_for_each_network_once_and_filled_with_zeros(other: Network) -> None:
    catalogue = chosen_catalogue("conv2_block1_add,pool1_pool,other:pool1_pool", "zero")
    assert catalogue.pictures == []
    more = catalogue.with_pictures()
    assert more.pictures == [RESNET50.cut(RESNET50.input.name), other.cut(other.input.name)]
    assert {*more.cuts} == {*catalogue.cuts, *more.pictures} == {*more.concealments}
    assert more.with_pictures().cuts == more.cuts
    usual = chosen_catalogue(None, "zero")  # which has pictures, and a bottleneck
    assert usual.with_pictures().cuts == usual.cuts


def test_labels_are_known_only_if_each_network_has_some(other: Network) -> None:
    assert "tiger_cat" in chosen_catalogue("pool1_pool", "zero").labels
    assert chosen_catalogue("pool1_pool,other:pool1_pool", "zero").labels == frozenset()


def test_only_the_cut_of_a_tuned_back_end_answers_with_its_arrays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "conv2_block2_1_conv/bias"
    file = BackEndFile(str(tmp_path / "mine.npz"), {"cut": DEFAULT_CUT}, {name: np.full(64, 3, np.float16)})
    file.write()
    loaded: dict[str, Weights] = {}
    monkeypatch.setattr(backend, "load_back_end", lambda _, cut, weights, __: loaded.update({cut.name: weights}))
    served = chosen_catalogue("conv2_block1_add,pool1_pool", "zero", backend=file.path)
    weights = {network: Kernels() for network in served.networks}
    for make in served.loaders("litert", weights, 1).values():
        make()
    assert loaded["pool1_pool"] is weights[RESNET50]
    kernel, bias = loaded[DEFAULT_CUT].arrays("conv2_block2_2_conv")
    assert (kernel, bias) == ("kernel", "bias")
    with pytest.raises(UsageError, match=r"mine\.npz is not for the split pool1_pool: it is for another one"):
        chosen_catalogue("pool1_pool", "zero", backend=file.path)


class Kernels:
    """Weights of convolutions that are only names."""

    def arrays(self, layer: str) -> list[str]:
        """Return the names."""
        return ["kernel", "bias"]


def test_a_cloud_with_halves_alone_serves_those_that_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    path = written(classifier(), tmp_path / "whole.onnx")
    whole = add_model(path, Graph.read(path), Wanted("whole", preprocess_of("unit", (SIDE, SIDE))))
    deep = whole.network.cut("deep")
    for side in (FRONT, BACK):
        export_half(whole, side, deep, tmp_path / side)
        take_folder(tmp_path / side, side)
    assert [cut.name for cut in chosen_catalogue(None, "zero", models="back").cuts] == ["deep"]
    alone = chosen_catalogue(None, "zero", models="front")
    (load,) = alone.loaders("", {network: open_model("front") for network in alone.networks}, 1).values()
    with pytest.raises(GradfecError, match="the back of front at deep is not here, only the front of deep"):
        load()
