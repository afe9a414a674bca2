"""Back-end files: they come back as they were written, replace the layers they hold, and a damaged one is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.common.networks.folded import CUT, FOLDED, Drawn

from gradfec_cloud.backend import load_back_end
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import DEFAULT_CUT, NETWORKS, named_cut
from gradfec_host import tuned
from gradfec_host.runtimes import RUNTIMES
from gradfec_host.tuned import ABOUT, BackEndFile, TunedWeights, chosen_back_ends, shipped_back_end

EPSILON = 1e-3
ABOUT_IT = {"cut": "folded:first_relu", "steps": 7}


@pytest.fixture(autouse=True)
def stranger(monkeypatch):
    monkeypatch.setitem(NETWORKS, FOLDED.name, FOLDED)


def folded(layer="second"):
    """A convolution with its own normalisation folded in: it computes what both compute."""
    kernel, bias = Drawn().arrays(f"{layer}_conv")
    gamma, beta, mean, variance = Drawn().arrays(f"{layer}_bn")
    scale = gamma / np.sqrt(variance + EPSILON)
    return {f"{layer}_conv/kernel": kernel * scale, f"{layer}_conv/bias": (bias - mean) * scale + beta}


@pytest.fixture
def file(tmp_path):
    arrays = {name: array.astype(np.float16) for name, array in folded().items()}
    made = BackEndFile(str(tmp_path / "mine.npz"), ABOUT_IT, arrays)
    made.write()
    return made


def test_a_file_comes_back_as_it_was_written(file):
    again = BackEndFile.read(file.path)
    assert (again.cut, again.about, again.digest) == (CUT, ABOUT_IT, file.digest)
    assert again.parameters == 3 * 3 * 6 * 8 + 8
    assert again.stored.keys() == file.stored.keys()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_tuned_convolution_replaces_the_trained_one_and_its_normalisation(runtime):
    chi = np.abs(np.random.default_rng(1).normal(size=(1, *CUT.shape))).astype(np.float32)
    base = load_back_end(runtime, CUT, Drawn(), 1)(chi)
    same = TunedWeights(BackEndFile("", ABOUT_IT, folded()), FOLDED, Drawn())
    np.testing.assert_allclose(load_back_end(runtime, CUT, same, 1)(chi), base, atol=1e-5)
    other = TunedWeights(BackEndFile("", ABOUT_IT, {name: 2 * one for name, one in folded().items()}), FOLDED, Drawn())
    assert np.abs(load_back_end(runtime, CUT, other, 1)(chi) - base).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("second_conv/bias", np.zeros(9, np.float16)),
        ("second_conv/bias", np.full(8, np.nan, np.float16)),
        ("second_conv/bias", np.zeros(8, np.int16)),
        ("first_conv/bias", np.zeros(6, np.float16)),  # a layer of the front-end
        ("nobody/bias", np.zeros(8, np.float16)),
    ],
)
def test_a_file_with_an_array_that_does_not_fit_is_refused(file, name, array):
    replace(file, stored={**file.stored, name: array}).write()
    with pytest.raises(GradfecError, match=r"cannot read the back-end .*mine\.npz: not a back-end, or damaged"):
        BackEndFile.read(file.path)


@pytest.mark.parametrize("about", [{}, [], {"cut": 3}])
def test_a_file_that_does_not_say_what_it_is_for_is_refused(file, about):
    with Path(file.path).open("wb") as stream:
        np.savez(stream, **{ABOUT: np.array(json.dumps(about))})
    with pytest.raises((GradfecError, UsageError)):
        BackEndFile.read(file.path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(GradfecError, match=r"none\.npz: No such file"):
        BackEndFile.read(tmp_path / "none.npz")


def test_back_ends_are_chosen_by_file_for_one_of_the_cuts(file):
    assert chosen_back_ends(file.path, [named_cut(DEFAULT_CUT), CUT]).keys() == {CUT}
    with pytest.raises(UsageError, match=r"mine\.npz is not for the split conv2_block1_add: it is for another one"):
        chosen_back_ends(file.path, [named_cut(DEFAULT_CUT)])
    with pytest.raises(UsageError, match="no back-end is called 'good': use lossy, or a file"):
        chosen_back_ends("good", [CUT])


def test_lossy_is_what_is_shipped_for_the_cuts(file, tmp_path, monkeypatch):
    assert shipped_back_end(CUT) is None
    with pytest.raises(UsageError, match="lossy is not for the split folded:first_relu: train one with"):
        chosen_back_ends("lossy", [CUT])
    monkeypatch.setattr(tuned, "FOLDER", tmp_path)
    (tmp_path / "folded").mkdir()
    replace(file, path=str(tmp_path / "folded" / "first_relu.npz")).write()
    assert chosen_back_ends("lossy", [named_cut(DEFAULT_CUT), CUT])[CUT].digest == file.digest
