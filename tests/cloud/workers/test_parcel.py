"""What travels to a worker: no path, each large array once, and nothing damaged."""

from __future__ import annotations

import os
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.cloud.small import SPLIT, decided
from tests.common.learned import learned_of
from tests.onnx_files import SIDE, classifier, written

from gradfec_cloud.backend.load import LoadBackEnd
from gradfec_cloud.catalogue import Catalogue
from gradfec_cloud.filling import InTime
from gradfec_cloud.workers.pool import BackEndName
from gradfec_cloud.workers.ray.parcel import LARGE_BYTES, Parcel, Shelf, pack, unpack
from gradfec_common.conceal import make_concealment
from gradfec_common.conceal.mean import Mean
from gradfec_common.decode import decode_tensor
from gradfec_common.errors import GradfecError
from gradfec_host.models.add import Wanted, add_model
from gradfec_host.models.find import model_of
from gradfec_host.models.graph import Graph
from gradfec_host.models.presets import preprocess_of
from gradfec_host.models.store import models_folder

ONE, TWO = BackEndName("one", "cut"), BackEndName("two", "cut")


def keep(array: np.ndarray) -> np.ndarray:
    return array


@pytest.fixture
def parcel() -> Parcel:
    large = np.arange(LARGE_BYTES, dtype=np.float32)
    return pack({ONE: partial(keep, large), TWO: partial(keep, large.copy())})  # type: ignore[dict-item]


def test_equal_arrays_of_two_models_travel_once(parcel: Parcel, tmp_path: Path) -> None:
    assert len(parcel.digests) == 2 and len(parcel.arrays) == 1
    assert len(parcel.loaders) < 1000
    fetched: list[str] = []

    def fetch(digest: str) -> np.ndarray:
        fetched.append(digest)
        return parcel.arrays[digest]

    for _ in range(2):  # two workers of a machine
        found = unpack(parcel.loaders, parcel.digests, fetch, Shelf(tmp_path))
        np.testing.assert_array_equal(found[TWO](), np.arange(LARGE_BYTES, dtype=np.float32))  # type: ignore[arg-type]
    assert fetched == [*parcel.arrays]


def test_what_is_damaged_on_the_shelf_is_fetched_again_and_what_comes_damaged_is_refused(
    parcel: Parcel, tmp_path: Path
) -> None:
    (digest,), shelf = parcel.arrays, Shelf(tmp_path)
    unpack(parcel.loaders, parcel.digests, parcel.arrays.__getitem__, shelf)
    (tmp_path / digest).write_bytes(b"x" * 100)
    assert shelf.find(digest) is None
    unpack(parcel.loaders, parcel.digests, parcel.arrays.__getitem__, shelf)
    assert shelf.find(digest) is not None
    with pytest.raises(GradfecError, match="damaged on its way"):
        shelf.keep(digest, parcel.arrays[digest][1:])


def test_where_nothing_can_be_written_arrays_are_in_memory(parcel: Parcel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = unpack(parcel.loaders, parcel.digests, parcel.arrays.__getitem__, Shelf(tmp_path / "file"))
    assert len(found[ONE]()) == LARGE_BYTES  # type: ignore[arg-type]


def test_of_a_full_shelf_what_was_used_least_recently_is_removed_unless_it_is_needed(tmp_path: Path) -> None:
    shelf, names = Shelf(tmp_path), [letter * 64 for letter in "abcd"]
    for age, name in enumerate(reversed(names)):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (age, age))  # d is the oldest
    shelf.tidy({names[3]}, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == [names[0], names[3]]


def test_a_model_that_was_added_is_not_needed_where_the_worker_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    path = written(classifier(), tmp_path / "whole.onnx")
    network = add_model(path, Graph.read(path), Wanted("whole", preprocess_of("unit", (SIDE, SIDE)))).network
    cut = network.cut("deep")
    (load,) = Catalogue.of([cut], "zero").loaders("", {network: model_of(network)}, 2).values()
    chi = np.random.default_rng(1).random((2, *cut.shape)).astype(np.float32)
    expected, pickled = load()(chi), pickle.dumps(load)
    shutil.rmtree(models_folder())
    travelled = pickle.loads(pickled)
    assert isinstance(travelled, LoadBackEnd)
    np.testing.assert_array_equal(travelled()(chi), expected)


def test_a_concealment_travels_without_what_it_says() -> None:
    learned = learned_of(SPLIT.shape[2])
    conceal = InTime(make_concealment("halrtc", SPLIT, learned), Mean(SPLIT, learned), 60, lambda reason: None)  # type: ignore[arg-type]
    travelled = pickle.loads(pickle.dumps(conceal))
    arrived = decided(7, lost=200).arrived
    here = decode_tensor(arrived, conceal)
    there = decode_tensor(pickle.loads(pickle.dumps(arrived)), travelled)
    np.testing.assert_array_equal(there.tensor, here.tensor)
    assert (there.recovered, there.missing) == (here.recovered, here.missing)


def test_of_a_tensor_only_what_arrived_travels() -> None:
    few, all_ = (len(pickle.dumps(decided(7, lost=lost).arrived, 5)) for lost in (250, 0))
    assert few < all_ / 5
