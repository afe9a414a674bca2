"""A cloud's catalogue: which cuts are served, of which networks, and how each is answered."""

from __future__ import annotations

import numpy as np
import pytest
from tests.common.networks.toy import TOY, Point, back_end, front_end

from gradfec_cloud.backend import BackEnd
from gradfec_cloud.catalogue import Catalogue, answer_at, named_cuts
from gradfec_cloud.workers.pool import BackEndName
from gradfec_common.errors import UsageError
from gradfec_common.heads import Classes
from gradfec_common.networks import NETWORKS, Cut, Network, named_cut
from gradfec_host.weights import WeightStore


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setitem(NETWORKS, TOY.name, TOY)
    return TOY


def test_cuts_of_several_networks_are_separated_by_commas() -> None:
    names = ["conv2_block1_add", "toy:mix", "resnet50:avg_pool"]
    assert named_cuts(", ".join(names)) == [named_cut(name) for name in names]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("conv9", "ResNet-50 has no layer 'conv9'"),
        ("pool1_pool,toy:pool1_pool", "Toy has no layer 'pool1_pool'"),
        ("pool1_pool,", "ResNet-50 has no layer ''"),
        ("vgg:pool", "no network is called 'vgg': use one of resnet50, toy"),
        ("pool1_pool,resnet50:pool1_pool", "--split names pool1_pool twice"),
    ],
)
def test_what_is_no_list_of_cuts_is_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        named_cuts(text)


def test_each_cut_has_a_back_end_of_its_own_with_the_weights_of_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[str, Cut, object, int]] = []

    def load(runtime: str, cut: Cut, weights: WeightStore, max_batch: int) -> BackEnd | None:
        loaded.append((runtime, cut, weights, max_batch))
        return None

    monkeypatch.setattr("gradfec_cloud.catalogue.load_back_end", load)
    cuts = named_cuts("pool1_pool,toy:mix,avg_pool")
    catalogue = Catalogue.of(cuts, "zero")
    assert [network.name for network in catalogue.networks] == ["resnet50", "toy"]
    stores = {network: f"weights of {network.name}" for network in catalogue.networks}
    loaders = catalogue.loaders("litert", stores, 3)  # type: ignore[arg-type]
    assert [*loaders] == [BackEndName(cut.network.name, cut.name) for cut in cuts]
    for loader in loaders.values():
        loader()
    assert loaded == [("litert", cut, f"weights of {cut.network.name}", 3) for cut in cuts]


def test_a_concealment_that_one_of_the_cuts_has_not_is_refused() -> None:
    assert {*Catalogue.of(named_cuts("conv2_block1_add,toy:mix"), "zero").concealments} == {
        *named_cuts("conv2_block1_add,toy:mix")
    }
    with pytest.raises(UsageError, match="mix"):
        Catalogue.of(named_cuts("conv2_block1_add,toy:mix"), "mean")


def test_an_answer_is_that_of_the_cuts_own_head_with_its_own_labels() -> None:
    image = np.full((8, 8, 3), 77, np.uint8)
    output = back_end(front_end(image)[np.newaxis])[0]
    assert answer_at(named_cut("toy:mix"), output) == Point(*map(float, output))
    classes = answer_at(named_cut("avg_pool"), np.eye(1, 1000, 281, dtype=np.float32)[0])
    assert isinstance(classes, Classes)
    assert classes.best[0] == (281, "tabby", 1.0)
    with pytest.raises(ValueError, match="overflows"):
        answer_at(named_cut("toy:mix"), np.full(3, np.nan, np.float32))
