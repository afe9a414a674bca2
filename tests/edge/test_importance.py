"""Importance estimators score each packet of a tensor, in the order of their places."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import DEFAULT_CUT, Cut, named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance import ESTIMATORS, EstimatorFile, default_estimator, make_estimator
from gradfec_edge.importance.free import FREE
from gradfec_edge.importance.shipped import FOLDER, PROXIES, STATISTICS, shipped
from gradfec_host.concealment_file import learned_for

IMAGE = np.zeros((224, 224, 3), np.uint8)
SPLIT = named_cut(DEFAULT_CUT)
DEFAULT = PacketGrid(SPLIT.shape, 7)
SMALL = Cut(RESNET50, 900, "a_small_one", (14, 5, 6))
GRID = PacketGrid(SMALL.shape, 7)
ABOUT = {"recipe": "best", "split": SMALL.name, "rows": 7, "seed": 3}


def features(seed, grid=GRID):
    return np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32)


def estimator(name, seed=1, cut=SMALL, grid=GRID):
    return make_estimator(name, cut, grid, np.random.default_rng(seed))


def written(path, about=ABOUT, arrays=None):
    file = EstimatorFile(path, about, arrays or {"a/b": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)})
    file.write()
    return file


# --- the free ones ---


@pytest.mark.parametrize("name", FREE)
def test_every_free_estimator_gives_one_finite_score_per_packet_and_leaves_its_arguments_alone(name):
    chi, image = features(2, DEFAULT), IMAGE.copy()
    chi.flags.writeable = image.flags.writeable = False
    scores = estimator(name, cut=SPLIT, grid=DEFAULT)(image, chi)
    assert (scores.shape, scores.dtype) == ((2048,), np.float32)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 1000  # a ranking, not a constant


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5))
def test_activation_is_the_sum_of_the_positive_features_of_each_packet(seed, rows, groups, width, channels):
    grid = PacketGrid((rows * groups, width, channels), rows)
    chi = features(seed, grid)
    by_packet = np.maximum(grid.split(chi), 0).sum(axis=1)
    np.testing.assert_allclose(estimator("activation", grid=grid)(IMAGE, chi), by_packet, rtol=1e-5, atol=1e-6)


def test_activation_ranks_a_packet_with_large_features_first_and_one_without_positive_ones_last():
    packets = np.ones((GRID.count, GRID.size), np.float32)
    packets[4], packets[7] = 10, -100
    order = np.argsort(-estimator("activation")(IMAGE, GRID.join(packets)), kind="stable")
    assert (order[0], order[-1]) == (4, 7)


@pytest.mark.parametrize("name", ["activation", "deviation", "static"])
def test_only_random_draws(name):
    chi = features(3, DEFAULT)
    one, other = (estimator(name, seed, SPLIT, DEFAULT)(IMAGE, chi) for seed in (1, 2))
    np.testing.assert_array_equal(one, other)


def test_deviation_is_the_sum_of_the_squared_weighted_deviations_from_the_channels_means():
    chi = features(4, DEFAULT)
    means, weights = learned_for(SPLIT)["means"], EstimatorFile.read(shipped(STATISTICS)).array("sensitivity", (256,))
    expected = np.zeros(DEFAULT.count)
    for place, packet in enumerate(DEFAULT.split(chi)):
        channel = place // DEFAULT.groups
        expected[place] = np.sum(((np.maximum(packet, 0) - means[channel]) * weights[channel]) ** 2, dtype=np.float64)
    np.testing.assert_allclose(estimator("deviation", cut=SPLIT, grid=DEFAULT)(IMAGE, chi), expected, rtol=1e-4)


def test_static_scores_are_the_shipped_ones_whatever_the_image():
    static = estimator("static", cut=SPLIT, grid=DEFAULT)
    for seed in (1, 2):
        np.testing.assert_array_equal(
            static(IMAGE, features(seed, DEFAULT)), EstimatorFile.read(shipped(STATISTICS)).array("static", (2048,))
        )
    assert np.mean(static(IMAGE, features(1, DEFAULT))) == pytest.approx(1, rel=0.01)


def test_random_scores_depend_on_the_seed_alone_and_are_drawn_anew_for_each_tensor():
    one, same, other = estimator("random", 1), estimator("random", 1), estimator("random", 2)
    first = one(IMAGE, features(3))
    np.testing.assert_array_equal(first, same(IMAGE, features(4)))
    assert (first != other(IMAGE, features(3))).any()
    assert (first != one(IMAGE, features(3))).any()
    assert ((first >= 0) & (first < 1)).all()


# --- by name ---


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_is_a_file_that_the_package_ships_with_an_account_of_itself(name):
    proxy = estimator(name, cut=SPLIT, grid=DEFAULT)
    assert isinstance(proxy, EstimatorFile)
    assert proxy.path == FOLDER / f"{name}.npz"
    assert proxy.path.stat().st_size < 1_000_000
    assert {"recipe", "split", "rows", "seed", "images"} <= {*proxy.about}
    assert all(np.isfinite(array).all() for array in proxy.arrays.values())


@pytest.mark.parametrize("name", [*PROXIES, "deviation", "static"])
@pytest.mark.parametrize(
    ("split", "rows", "words"),
    [
        (DEFAULT_CUT, 14, f"not of 14 rows of {DEFAULT_CUT}: train one with .*--split {DEFAULT_CUT} --rows 14"),
        (
            "pool1_pool",
            7,
            "not of 7 rows of pool1_pool: .* --split pool1_pool --rows 7, or use --importance activation",
        ),
    ],
)
def test_what_was_learned_for_other_packets_is_refused_with_what_to_do(name, split, rows, words):
    cut = named_cut(split)
    with pytest.raises(UsageError, match=f"ranks packets of 7 rows of {DEFAULT_CUT}, {words}"):
        estimator(name, cut=cut, grid=PacketGrid(cut.shape, rows))


def test_the_default_is_the_proxy_where_it_fits_and_else_needs_no_training():
    assert default_estimator(SPLIT, DEFAULT) == "proxy"
    assert default_estimator(SPLIT, PacketGrid(SPLIT.shape, 14)) == "activation"
    assert default_estimator(SMALL, GRID) == "activation"


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match=f"called 'nonsense': use one of {', '.join(ESTIMATORS)}, or a file"):
        estimator("nonsense")
    assert ESTIMATORS[0] == "proxy"


# --- files ---


def test_a_file_is_read_as_it_was_written_but_for_half_precision(tmp_path):
    before = written(tmp_path / "new" / "mine.npz")
    after = make_estimator(str(before.path), SMALL, GRID, np.random.default_rng(0))
    assert isinstance(after, EstimatorFile)
    assert after.about == ABOUT
    assert after.array("a/b", (2, 3)).dtype == np.float32
    np.testing.assert_allclose(after.arrays["a/b"], before.arrays["a/b"], atol=1e-3)
    assert [path.name for path in before.path.parent.iterdir()] == ["mine.npz"]  # no part of it is left


def test_the_digest_tells_arrays_apart_and_nothing_else(tmp_path):
    one, same = written(tmp_path / "one.npz"), written(tmp_path / "same.npz", ABOUT | {"seed": 4})
    other = written(tmp_path / "other.npz", arrays={"a/b": np.ones((2, 3), np.float32)})
    digests = [EstimatorFile.read(file.path).digest for file in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path):
    with pytest.raises(
        GradfecError, match=r"there is no estimator .*mine\.npz: make one with gradfec train-proxy --out"
    ):
        estimator(str(tmp_path / "mine.npz"))


def test_a_folder_is_refused_by_name(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(GradfecError, match=r"cannot read the estimator .*folder\.npz: Is a directory"):
        estimator(str(tmp_path / "folder.npz"))


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GradfecError, match=r"cannot write .*mine\.npz: "):
        written(tmp_path / "file" / "mine.npz")
    (tmp_path / "mine.npz").mkdir()
    with pytest.raises(GradfecError, match=r"cannot write .*mine\.npz: "):
        written(tmp_path / "mine.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine.npz"]


def save_text(path):
    path.write_text("not an archive")


def save_nothing(path):
    path.touch()


def save_one_array(path):
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def save_without_account(path):
    np.savez(path, a=np.ones(3))


def save_wrong_account(path):
    np.savez(path, about=np.array(json.dumps({"recipe": "best"})))


def save_account_of_another_kind(path):
    np.savez(path, about=np.array(json.dumps(["recipe", "split", "rows"])))


def save_objects(path):
    np.savez(path, about=np.array(json.dumps(ABOUT)), a=np.array([{}], dtype=object))


def save_words(path):
    np.savez(path, about=np.array(json.dumps(ABOUT)), a=np.array(["word"]))


@pytest.mark.parametrize(
    "save",
    [
        *(save_text, save_nothing, save_one_array, save_without_account, save_wrong_account),
        *(save_account_of_another_kind, save_objects, save_words),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_by_name(tmp_path: Path, save):
    path = tmp_path / "mine.npz"
    save(path)
    with pytest.raises(UsageError, match=r"mine\.npz is .*not an estimator made by gradfec train-proxy"):
        EstimatorFile.read(path)


def test_a_damaged_file_is_refused_or_read_but_never_a_surprise(tmp_path):
    path = tmp_path / "mine.npz"
    whole = written(path, arrays={"a": np.random.default_rng(1).normal(size=300).astype(np.float32)}).path.read_bytes()
    refused = 0
    damaged = [whole[:length] for length in range(0, len(whole), 5)]
    damaged += [
        whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :] for at in range(len(whole)) for mask in (1, 255)
    ]
    for content in damaged:
        path.write_bytes(content)
        try:
            EstimatorFile.read(path)
        except GradfecError as error:
            assert "mine.npz" in str(error)
            refused += 1
    assert refused > 0.7 * len(damaged)


def test_an_array_that_is_missing_or_of_another_shape_is_named(tmp_path):
    file = written(tmp_path / "mine.npz")
    with pytest.raises(UsageError, match=r"mine\.npz is no best estimator of this release: c is missing, not \(2, 3\)"):
        file.array("c", (2, 3))
    with pytest.raises(UsageError, match=r"a/b is \(2, 3\), not \(3, 2\)"):
        file.array("a/b", (3, 2))


def test_one_that_you_trained_is_refused_for_other_packets_by_the_name_of_its_file(tmp_path):
    path = str(written(tmp_path / "mine.npz").path)
    with pytest.raises(UsageError, match="mine ranks packets of 7 rows of a_small_one, not of 14 rows of a_small_one"):
        estimator(path, grid=PacketGrid(SMALL.shape, 14))


def test_what_float16_cannot_hold_is_written_as_float32(tmp_path):
    file = EstimatorFile(tmp_path / "mine.npz", ABOUT, {"large": np.array([1e6], np.float32)})
    file.write()
    assert EstimatorFile.read(file.path).arrays["large"] == 1e6
