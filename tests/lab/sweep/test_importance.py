"""`gradfec sweep importance`: what is dropped, what is said of it, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gradfec_cli.cli import main
from gradfec_lab.sweep.importance_report import correlation, differences, gap_interval
from gradfec_lab.sweep.report import Measured
from gradfec_lab.sweep.statistics import Bootstrap

from .toys import ToyModel, install, write_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 5)
    return tmp_path / "images"


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["sweep", "importance", *map(str, arguments)])


def result(*arguments: object) -> dict:
    done = sweep(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_json_says_agreement_by_estimator_fill_and_drop(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    found = result("--images", images, "--estimators", "gradcam,random", "--drop", "0,0.5,70%", "--fill", "zero")
    assert found["images"] == 5
    for members in (found, found["most_first"]):
        assert members["agreement"].keys() == members["ci"].keys() == {"gradcam", "random"}
        assert members["agreement"]["gradcam"]["zero"].keys() == {"0", "0.5", "0.7"}
        for estimator in ("gradcam", "random"):
            for drop, share in members["agreement"][estimator]["zero"].items():
                low, high = members["ci"][estimator]["zero"][drop]
                assert 0 <= low <= share <= high <= 1
    assert found["agreement"]["random"]["zero"] == {"0": 1.0, "0.5": 0.0, "0.7": 0.0}  # half the mean is another class
    assert found["spearman"]["gradcam"] == pytest.approx(1)
    assert found["mass_kept"]["random"] == pytest.approx(0.5, abs=0.05)
    assert found["spearman_ci"].keys() == found["mass_kept_ci"].keys() == {"gradcam", "random"}
    assert "top1" not in found


def test_labels_add_top1_and_leave_agreement_alone(
    images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch)
    labels = tmp_path / "labels.csv"
    labels.write_text("file,class\n" + "".join(f"{path.name},126\n" for path in sorted(images.iterdir())))
    options = ("--images", images, "--estimators", "activation", "--drop", "0,0.5", "--order", "least")
    plain, labelled = result(*options), result(*options, "--labels", labels)
    assert labelled["agreement"] == plain["agreement"]
    assert labelled["top1"]["activation"]["zero"]["0"] == labelled["lossless_top1"]
    assert labelled["top1_ci"].keys() == {"activation"}


def test_points_that_are_added_later_are_all_that_is_computed(
    images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, model = install(monkeypatch)
    options = ("--images", images, "--out", tmp_path / "out", "--order", "least", "--estimators")
    first = result(*options, "gradcam", "--drop", "0.5")
    asked = sum(model.batches)
    assert asked == 5 * 2  # lossless, and half dropped
    assert result(*options, "gradcam", "--drop", "0.5")["agreement"] == first["agreement"]
    assert (sum(model.batches), len(made)) == (asked, 1)  # not even the network was loaded
    both = result(*options, "gradcam,random", "--drop", "0.3,0.5")
    assert sum(model.batches) == asked + 5 * 3
    assert both["agreement"]["gradcam"]["zero"]["0.5"] == first["agreement"]["gradcam"]["zero"]["0.5"]
    rows = [*csv.DictReader((tmp_path / "out" / "importance.csv").open())]
    assert [(row["estimator"], row["drop"]) for row in rows] == [
        ("gradcam", "0.3"), ("gradcam", "0.5"), ("random", "0.3"), ("random", "0.5"),
    ]  # fmt: skip
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "settings.json", "answers.jsonl", "importance.json", "importance.csv", "importance.md", "importance.png",
        "rankings.csv",
    }  # fmt: skip


def test_an_interrupted_run_keeps_what_it_has_and_goes_on(
    images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Interrupted(ToyModel):
        def __call__(self, chi: np.ndarray) -> np.ndarray:
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().__call__(chi)

    options = ("--images", images, "--out", tmp_path / "out", "--drop", "0.1,0.2,0.3", "--estimators", "gradcam")
    install(monkeypatch, Interrupted())
    done = sweep(*options)
    assert done.exit_code == 130
    kept = f"interrupted: 3 of 5 images are done, and kept in {tmp_path / 'out'}: the same command resumes\n"
    assert kept in done.stderr
    _, model = install(monkeypatch)
    resumed = result(*options)
    assert sum(model.batches) == 2 * 7
    monkeypatch.undo()
    install(monkeypatch)
    assert resumed["agreement"] == result(*options[:2], *options[4:])["agreement"]


def test_skipped_images_are_counted_and_named(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    (images / "broken.png").write_bytes(b"no picture")
    found = result("--images", images, "--estimators", "gradcam", "--drop", "0.5")
    assert found["images"] == 5
    assert [*found["skipped"]] == ["broken.png"]


def test_a_sample_is_drawn_with_the_seed(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = install(monkeypatch)
    options = ("--images", images, "--estimators", "gradcam", "--drop", "0.5", "--sample")
    drawn = []
    for seed in (1, 1, 2, 3, 4):
        assert result(*options, 3, "--seed", seed)["images"] == 3
        drawn.append(made[-1].asked)
        assert drawn[-1] == sorted(set(drawn[-1]))
    assert drawn[0] == drawn[1]
    assert len({tuple(names) for names in drawn}) > 1
    assert result(*options, 30)["images"] == 5


def test_differences_are_against_the_best_free_estimator_and_the_oracle() -> None:
    agreement = {"gradcam": [1, 1, 1, 1], "proxy": [1, 1, 1, 0], "static": [1, 1, 0, 0], "activation": [1, 0, 0, 0]}
    fields = [{"order": "least", "estimator": name, "fill": "zero", "drop": 0.5} for name in agreement]
    values = np.array([*agreement.values()], float).T
    measured = Measured(fields, values, Bootstrap(4).means(values), None, None)
    found = {(row["estimator"], row["against"]): row for row in differences(measured)}
    assert found["proxy", "static"]["difference"] == 0.25
    assert found["proxy", "static"]["gap_closed"] == 0.5
    assert found["proxy", "static"]["ci"] == [0, 0.75]
    assert found["proxy", "gradcam"]["difference"] == -0.25
    assert found["gradcam", "static"]["difference"] == 0.5
    assert ("static", "static") not in found
    assert found["activation", "static"]["gap_closed"] == -0.5
    low, high = found["proxy", "static"]["gap_closed_ci"]
    assert low == 0 < high == 1  # of four images


def test_the_interval_of_the_gap_closed_leaves_out_resamples_without_a_gap() -> None:
    free, oracle = np.array([0.5, 0.5, 0.9, 0.8]), np.array([0.9, 0.9, 0.9, 0.7])
    assert gap_interval(np.array([0.7, 0.7, 1.0, 0.1]), free, oracle) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--estimators", "gradcam,foo"], "--estimators has no 'foo': use one or several of gradcam,"),
        (["--estimators", "gradcam-label"], "--estimators gradcam-label explains the label's class: give --labels"),
        (["--estimators", ","], "',' is empty"),
        (["--drop", "0.5,1"], "--drop 1 drops every packet"),
        (["--drop", "-0.1"], "--drop: '-0.1' is not a share from 0 to 1"),
        (["--drop", "half"], "--drop: 'half' is not a share from 0 to 1"),
        (["--fill", "noise"], "--fill has no 'noise': use one or several of zero,mean"),
        (["--order", "worst"], "--order has no 'worst': use one or several of least,most"),
        (["--split", "nowhere"], "nowhere"),
        (["--rows", "5"], "5 rows a packet do not divide"),
        (["--images", "nothing"], "nothing is not a folder"),
        (["--labels", "nothing.csv"], "cannot read labels from nothing.csv"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    options: list[str], said: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = install(monkeypatch)
    done = sweep("--images", images, *options)
    assert done.exit_code in {1, 2}
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not made  # before anything was loaded


def test_images_without_a_label_are_named_and_counted(
    images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch)
    labels = tmp_path / "labels.csv"
    labels.write_text("000.png,1\n003.png,2\n")
    done = sweep("--images", images, "--labels", labels)
    assert "has no label for 3 of the 5 images: 001.png, 002.png, 004.png; add them, or leave" in done.stderr
    labels.write_text("".join(f"00{i}.png,{999 + i}\n" for i in range(5)))
    done = sweep("--images", images, "--labels", labels)
    assert "has class indices outside 0 .. 999, of 001.png, 002.png, 003.png, 004.png: correct them" in done.stderr


def test_a_folder_of_nothing_but_broken_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = sweep("--images", tmp_path, "--estimators", "gradcam")
    assert done.exit_code == 2
    assert "error: none of the 1 images can be used; the first: " in done.stderr


def test_an_out_that_is_a_file_is_refused(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    (tmp_path / "file").touch()
    done = sweep("--images", images, "--out", tmp_path / "file")
    assert "file is not a folder: --out takes a folder" in done.stderr


def test_other_images_in_the_same_folder_are_refused(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    options = ("--images", images, "--estimators", "gradcam", "--drop", "0.5", "--out", tmp_path / "out")
    result(*options)
    (images / "000.png").write_bytes((images / "001.png").read_bytes())
    assert "holds a sweep with images = " in sweep(*options).stderr


def test_a_ranking_that_has_nothing_to_do_with_the_oracles_is_called_chance() -> None:
    none = {"spearman": 0.006, "spearman_low": 0.004, "spearman_high": 0.009}
    some = {"spearman": 0.06, "spearman_low": 0.04, "spearman_high": 0.08}
    assert [correlation(row) for row in (none, some)] == ["0.006 (0.004–0.009): like chance", "0.060 (0.040–0.080)"]
