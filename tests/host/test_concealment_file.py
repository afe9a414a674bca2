"""Concealment files: arrays by name, nothing of other cuts, one plain line for a damaged file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.common.learned import network_of

from gradfec_common.bottlenecks import with_bottleneck
from gradfec_common.bottlenecks.compact import compact
from gradfec_common.conceal import CONCEALMENTS, make_concealment
from gradfec_common.conceal.learned import LEAVE, network_shapes
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_host import concealment_file
from gradfec_host.concealment_file import FOLDER, learned_for, write_concealment_file

CUT = named_cut("pool1_pool")
MEANS = np.linspace(0, 2, CUT.shape[2], dtype=np.float32)
SENSITIVITY = np.ones((3, CUT.shape[2]), np.float32)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of what was learned of CUT."""
    monkeypatch.setattr(concealment_file, "FOLDER", tmp_path)
    path = tmp_path / CUT.network.name / f"{CUT.name}.npz"
    path.parent.mkdir()
    np.savez(path, means=MEANS, sensitivity=SENSITIVITY, provenance=np.array("made up"))
    return path


def test_the_arrays_of_a_cut_come_by_name_and_words_for_people_do_not(file: Path) -> None:
    arrays = learned_for(CUT)
    assert arrays.keys() == {"means", "sensitivity"}
    np.testing.assert_array_equal(arrays["means"], MEANS)
    np.testing.assert_array_equal(arrays["sensitivity"], SENSITIVITY)


def test_nothing_was_learned_of_another_cut(file: Path) -> None:
    assert learned_for(named_cut("avg_pool")) == {}


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:100]),
        lambda file: file.write_bytes(file.read_bytes().replace(b"\0\0", b"\1\1")),
        lambda file: np.savez(file, means=MEANS[:10]),
        lambda file: np.savez(file, means=np.float32(1)),
        lambda file: np.savez(file, means=MEANS.astype(np.float64)),
        lambda file: np.savez(file, means=np.where(MEANS > 1, np.float32(np.nan), MEANS)),
        lambda file: np.savez(file, means=np.array([object()])),
        lambda file: np.savez(file, means=np.array(["word"])),
        lambda file: np.save(file.open("wb"), MEANS),
    ],
)
def test_a_damaged_file_is_one_plain_line_that_names_it(file: Path, damage: Callable[[Path], object]) -> None:
    damage(file)
    with pytest.raises(GradfecError, match="install gradfec again") as caught:
        learned_for(CUT)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


NETWORK = network_of(CUT.shape[2])


def test_a_network_is_kept_with_half_of_the_bits_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    write_concealment_file(path, CUT, {"means": MEANS, **NETWORK}, "made up")
    with np.load(path) as archive:
        assert {archive[name].dtype for name in NETWORK} == {np.dtype(np.float16)}
    arrays = learned_for(CUT, [path])
    np.testing.assert_array_equal(arrays["means"], MEANS)
    for name, array in NETWORK.items():
        np.testing.assert_allclose(arrays[name], array, rtol=1e-3, atol=1e-5)
        assert arrays[name].dtype == np.float32


@pytest.mark.parametrize(
    "damaged",
    [np.zeros((3, 3), np.float16), NETWORK[LEAVE].astype(np.float16) * np.nan, NETWORK[LEAVE], np.array(["word"])],
)
def test_a_damaged_network_is_one_plain_line_that_names_the_array(tmp_path: Path, damaged: Any) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, **{"cut": np.array(CUT.name), LEAVE: damaged})
    with pytest.raises(GradfecError, match=f"mine.npz holds {LEAVE} .*, not finite float16 .*train-concealment$"):
        learned_for(CUT, [path])


def test_a_file_with_flipped_bits_is_refused_or_read_but_never_a_surprise(file: Path) -> None:
    np.savez(file, means=MEANS)
    whole = file.read_bytes()
    for at in range(len(whole)):
        for mask in (1, 255):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
            try:
                learned_for(CUT)
            except GradfecError as error:
                assert str(file) in str(error)


def test_a_cut_of_which_nothing_was_learned_has_no_concealment_by_means() -> None:
    with pytest.raises(UsageError, match="no channel means for the split 'pool1_pool': use --fill zero"):
        make_concealment("mean", CUT, learned_for(CUT))


def test_every_concealment_can_be_made_for_the_default_cut_or_the_latents_of_a_bottleneck_there() -> None:
    cut = named_cut(DEFAULT_CUT)
    latents = with_bottleneck(compact(cut), {}, bytes(32))
    for name in CONCEALMENTS:
        of = latents if name == "mask" else cut
        make_concealment(name, of, learned_for(of))


def test_the_means_of_the_default_cut_are_those_of_what_the_relu_lets_through() -> None:
    means = learned_for(named_cut(DEFAULT_CUT))["means"]
    assert (means >= 0).all() and means.any()


def test_the_network_of_the_default_cut_takes_less_than_100_kb() -> None:
    file = FOLDER / CUT.network.name / f"{DEFAULT_CUT}.npz"
    with file.open("rb") as stream, np.load(stream) as archive:
        network = [archive[name] for name in network_shapes(256)]
    assert sum(array.nbytes for array in network) < 100_000


def test_the_files_lie_in_the_package_that_is_built() -> None:
    assert Path(str(FOLDER)) == Path(concealment_file.__file__).parent / "concealments"
