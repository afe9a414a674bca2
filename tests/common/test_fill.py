"""What is missing becomes zero, or the mean of its channel as shipped; a split without means is refused by name."""

from pathlib import Path

import numpy as np
import pytest
from gradfec_common.fill import channel_means, fill_values, means_shipped

from gradfec_common import fill
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import DEFAULT_CUT, named_cut

SPLIT = named_cut("pool1_pool")
MEANS = np.linspace(0, 2, SPLIT.shape[2], dtype=np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(fill, "MEANS", tmp_path)
    np.savez(tmp_path / f"{SPLIT.name}.npz", means=MEANS, provenance=np.array("made up"))
    return tmp_path


def test_zero_is_zero_at_any_split():
    assert fill_values("zero", SPLIT) == 0


def test_mean_is_the_shipped_mean_of_each_channel(folder):
    values = fill_values("mean", SPLIT)
    np.testing.assert_array_equal(values, MEANS)
    assert values.dtype == np.float32


def test_a_split_without_means_is_refused_with_those_that_have_them_and_the_way_out(folder):
    with pytest.raises(UsageError, match="split 'avg_pool', only for pool1_pool: use --fill zero"):
        channel_means(named_cut("avg_pool"))


def test_where_no_means_are_shipped_at_all_it_is_said(folder, monkeypatch):
    monkeypatch.setattr(fill, "MEANS", folder / "nowhere")
    with pytest.raises(UsageError, match="split 'pool1_pool', only for none: use --fill zero"):
        channel_means(SPLIT)


def test_an_unknown_rule_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="called 'median': use one of zero, mean"):
        fill_values("median", SPLIT)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:100]),
        lambda file: file.write_bytes(file.read_bytes().replace(b"\0\0", b"\1\1")),
        lambda file: np.savez(file, other=MEANS),
        lambda file: np.savez(file, means=MEANS[:10]),
        lambda file: np.savez(file, means=MEANS.astype(np.float64)),
        lambda file: np.savez(file, means=np.where(MEANS > 1, np.float32(np.nan), MEANS)),
        lambda file: np.savez(file, means=np.array([object()])),
        lambda file: np.save(file.open("wb"), MEANS),
    ],
)
def test_a_damaged_file_is_one_plain_line_that_names_it(folder, damage):
    file = folder / f"{SPLIT.name}.npz"
    damage(file)
    with pytest.raises(GradfecError, match="install gradfec again") as caught:
        channel_means(SPLIT)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not means_shipped(), reason="no channel means in this tree")
def test_the_default_split_has_means_of_what_the_relu_lets_through():
    assert DEFAULT_CUT in means_shipped()
    for name in means_shipped():
        means = channel_means(named_cut(name))
        assert (means >= 0).all() and means.any()


def test_the_means_lie_in_the_package_that_is_built():
    assert Path(str(fill.MEANS)) == Path(fill.__file__).parent / "channel_means"
