"""`gradfec train-proxy`: from a folder to an estimator that the edge takes; resumed, and refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gradfec_cli.cli import main
from gradfec_common.errors import UsageError
from gradfec_common.networks import named_cut
from gradfec_common.packets import PacketGrid
from gradfec_edge.frontend.keras_runtime import ProxyModel
from gradfec_edge.importance import EstimatorFile, make_estimator
from gradfec_host.concealment_file import learned_for
from gradfec_lab.training.run import Schedule
from gradfec_lab.training.targets import Targets

from .toys import GRID, ROWS, SPLIT, ToyNetwork, install, shrink, write_images

COUNT = 48  # of which four are held out
EPOCHS = {"best": 3, "paper": 1, "paper-verbatim": 1, "averages": 0}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("command") / "images", COUNT)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyNetwork:
    return install(monkeypatch)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network to train, as `once` has it."""
    shrink(monkeypatch)


class Once(NamedTuple):
    """A finished training, for others to be compared with; read only."""

    out: Path
    about: dict[str, Any]
    options: tuple[object, ...]  # of which --cache has the targets computed already
    images: int  # that passed the networks


@pytest.fixture(scope="module")
def once(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Once:
    """A small network trained with the seed 1, for all tests of this module."""
    folder = tmp_path_factory.mktemp("once")
    options = ("--epochs", 3, "--cache", folder / "targets")
    with pytest.MonkeyPatch.context() as monkeypatch:
        toy = install(monkeypatch)
        shrink(monkeypatch)
        about = trained(images, folder / "mine.npz", "--seed", 1, *options)
    return Once(folder / "mine.npz", about, options, toy.images)


def train_proxy(images: Path, out: Path, *arguments: object) -> Result:
    where = ("--images", images, "--out", out, "--split", SPLIT.name, "--rows", ROWS, "--tuning", 0)
    return CliRunner().invoke(main, ["train-proxy", *map(str, (*where, *arguments))])


def trained(images: Path, out: Path, *arguments: object) -> dict[str, Any]:
    result = train_proxy(images, out, "--json", *arguments)
    assert result.exit_code == 0, result.output
    about: dict[str, Any] = json.loads(result.stdout)
    return about


def refused(result: Result, code: int = 2) -> str:
    """Return the one line that says what is wrong."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


# --- what is written ---


@pytest.mark.parametrize(
    "recipe",
    [
        "best",
        "averages",
        pytest.param("paper", marks=pytest.mark.slow),
        pytest.param("paper-verbatim", marks=pytest.mark.slow),
    ],
)
def test_each_recipe_writes_a_file_that_the_edge_takes_for_these_packets_and_no_others(toy, images, tmp_path, recipe):
    out = tmp_path / "mine.npz"
    epochs = ("--epochs", EPOCHS[recipe]) if EPOCHS[recipe] else ()
    about = trained(images, out, "--recipe", recipe, "--seed", 5, *epochs)
    expected = {"recipe": recipe, "split": SPLIT.name, "rows": ROWS, "score": "logit", "seed": 5, "images": 44}
    assert about.items() >= (expected | {"held_out": 4, "epochs": EPOCHS[recipe]}).items()
    assert toy.images == COUNT
    file = EstimatorFile.read(out)
    assert file.about == about
    assert all(np.isfinite(array).all() for array in file.arrays.values())
    for split, rows in ((SPLIT, 7), (named_cut("conv2_block1_add"), ROWS)):
        with pytest.raises(UsageError, match=f"mine ranks packets of 14 rows of pool1_pool, not of {rows} rows of"):
            make_estimator(str(out), split, PacketGrid(split.shape, rows), np.random.default_rng(0))
    if recipe == "averages":
        with pytest.raises(UsageError, match=r"mine\.npz is of the recipe 'averages', which ranks nothing"):
            make_estimator(str(out), SPLIT, GRID, np.random.default_rng(0))
    else:
        taken = make_estimator(str(out), SPLIT, GRID, np.random.default_rng(0))
        assert isinstance(taken, EstimatorFile)
        assert taken.digest == file.digest
        assert np.isfinite(about["held_out_loss"])
        assert (tmp_path / "mine.curves.png").read_bytes().startswith(b"\x89PNG")
        assert_scores(file, toy)


def assert_scores(file: EstimatorFile, toy: ToyNetwork) -> None:
    """Let a trained proxy score two images."""
    pixels = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
    scores = ProxyModel(file, SPLIT)(pixels, toy.features(pixels).chi).scores
    assert scores.shape == (2, GRID.count)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 100


def test_averages_are_for_static_deviation_and_the_mean_fill(toy, images, tmp_path):
    out, means = tmp_path / "statistics.npz", tmp_path / "means.npz"
    trained(images, out, "--recipe", "averages", "--means", means)
    file = EstimatorFile.read(out)
    assert file.array("static", (GRID.count,)).mean() == pytest.approx(1, rel=1e-2)
    assert (file.array("sensitivity", (64,)) > 0).all()
    with np.load(means) as archive:
        assert (archive["means"].shape, archive["means"].dtype) == ((64,), np.float32)
        assert "over 44 photographs" in str(archive["provenance"])
        np.testing.assert_array_equal(learned_for(SPLIT, [means])["means"], archive["means"])  # as the cloud reads it


def test_broken_and_tiny_images_are_counted_and_named(toy, tmp_path):
    images = write_images(tmp_path / "images", COUNT)
    (images / "bad.jpg").write_text("not an image")
    (images / "worse.png").touch()
    result = train_proxy(images, tmp_path / "mine.npz", "--recipe", "averages")
    assert result.exit_code == 0
    assert f"skipped: {images / 'bad.jpg'} is not an image that can be read" in result.stderr
    assert f"skipped: {images / 'worse.png'} is empty" in result.stderr
    assert "2 images skipped" in result.stderr
    assert result.stdout.strip().endswith("recipe averages, 44 images")
    assert f"{tmp_path / 'targets'} is kept for the next training" in result.stderr


def test_a_limit_takes_a_sample(toy, images, tmp_path):
    assert trained(images, tmp_path / "mine.npz", "--recipe", "averages", "--limit", 40)["images"] < 40
    assert toy.images == 40


# --- again ---


@pytest.mark.slow  # test_run.py says so of weights
def test_the_same_seed_gives_the_same_file_and_another_seed_another(toy, small, once, images, tmp_path):
    digests = []
    for seed in (1, 2):
        out = tmp_path / f"{seed}.npz"
        trained(images, out, "--seed", seed, *once.options)
        digests.append(EstimatorFile.read(out).digest)
    assert EstimatorFile.read(once.out).digest == digests[0] != digests[1]
    assert (once.images, toy.images) == (COUNT, 0)  # the targets are computed once


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_writes_what_one_that_was_not_would(
    toy, small, once, images, tmp_path, monkeypatch
):
    parts, options = tmp_path / "parts.npz", ("--seed", 1, *once.options)
    rate = Schedule.rate

    def interrupted(schedule: Schedule, epoch: int, progress: float) -> float:
        if epoch == 2:
            raise KeyboardInterrupt
        return rate(schedule, epoch, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "rate", interrupted)
        assert train_proxy(images, parts, *options).exit_code == 130
    assert not parts.exists()
    result = train_proxy(images, parts, "--json", *options)
    assert [line.split(":")[0] for line in result.stderr.splitlines() if line.startswith("epoch")] == ["epoch 3/3"]
    assert json.loads(result.stdout) == once.about
    assert EstimatorFile.read(parts).digest == EstimatorFile.read(once.out).digest
    assert trained(images, parts, *options) == once.about  # and once more, when nothing is left to do


def test_a_loss_that_is_no_number_leaves_a_file_whose_account_is_still_json(
    toy, small, once, images, tmp_path, monkeypatch
):
    monkeypatch.setattr(Schedule, "rate", lambda schedule, epoch, progress: float("nan") if epoch else 1e-3)
    about = trained(images, tmp_path / "mine.npz", *once.options)
    assert np.isfinite(about["held_out_loss"])
    assert all(np.isfinite(array).all() for array in EstimatorFile.read(tmp_path / "mine.npz").arrays.values())


# --- bad input ---


def test_a_resumed_run_with_other_settings_is_refused_by_name(toy, small, once, images, tmp_path):
    again = (images, once.out, *once.options)
    assert "with seed = 1, not 2: remove the folder, or write to another --out" in refused(
        train_proxy(*again, "--seed", 2)
    )
    assert "with rows = 14, not 7: remove the folder, or give another with --cache" in refused(
        train_proxy(*again, "--rows", 7)
    )
    assert "with score = 'logit', not 'log-probability'" in refused(train_proxy(*again, "--score=log-probability"))
    others = write_images(tmp_path / "others", 47)
    assert f"are of other photographs than those of {others}: " in refused(train_proxy(others, *again[1:]))
    elsewhere = ("--cache", tmp_path / "cache", "--seed", 1)
    said = refused(train_proxy(others, *again[1:], *elsewhere))
    assert "belong to a training with other photographs, " in said and "write to another --out" in said


def test_after_ctrl_c_it_says_how_to_go_on(toy, images, tmp_path, monkeypatch):
    def interrupt(targets, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Targets, "compute", interrupt)
    done = train_proxy(images, tmp_path / "mine.npz")
    assert done.exit_code == 130
    assert done.stderr.endswith("stopped: run the same command again to go on\n")
    assert (tmp_path / "targets" / "settings.json").exists()


def test_too_few_images_are_refused_with_how_many_it_takes(toy, tmp_path):
    images = write_images(tmp_path / "images", 12)
    line = refused(train_proxy(images, tmp_path / "mine.npz"))
    assert f"{images} has 12 images, of which " in line and "give 40 or more, one of them held out" in line


def test_where_nothing_can_be_written_is_said_by_name(toy, once, images, tmp_path):
    (tmp_path / "file").touch()
    where = tmp_path / "file" / "x.npz"
    assert f"cannot write {where}: " in refused(train_proxy(images, where), 1)
    assert toy.images == 0  # before the work
    blocked = ("--cache", tmp_path / "file" / "targets")
    assert f"cannot keep targets in {blocked[1]}: " in refused(train_proxy(images, tmp_path / "x.npz", *blocked), 1)
    means = ("--recipe", "averages", "--means", where, *once.options[2:])
    assert f"cannot write {where}: Not a directory" in refused(train_proxy(images, tmp_path / "x.npz", *means), 1)
