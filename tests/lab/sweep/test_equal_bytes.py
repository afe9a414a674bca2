"""`gradfec sweep protection --bytes`: its grid of plans, how one is chosen, and what is measured."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.untrained import write_codec

from gradfec_cli.cli import main
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.protect import read_policy
from gradfec_common.quantisers import Needs
from gradfec_lab.sweep.codecs import Codec
from gradfec_lab.sweep.equal_bytes.choice import Fitting
from gradfec_lab.sweep.equal_bytes.comparison import fine_codec
from gradfec_lab.sweep.equal_bytes.plans import drops, plans
from gradfec_lab.sweep.equal_bytes.sender import UNHEARD, Picture, Scheme, Sent

from .toy_ends import ToyEnds, install
from .toys import write_images

CUT = named_cut(DEFAULT_CUT)


def noise(rng: np.random.Generator) -> np.ndarray:
    """A picture that is smooth here and rough there, so that its files are of some size."""
    rough = rng.integers(0, 255, (224, 224, 3))
    return np.where(np.arange(224)[:, None] < rng.integers(20, 90), rough, rng.integers(20, 200))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 6, noise)
    return tmp_path / "images"


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["sweep", "protection", *map(str, arguments)])


def picture(codec: Codec, seed: int = 0) -> Picture:
    image = noise(np.random.default_rng(seed)).astype(np.uint8)
    return Picture(codec, ToyEnds(codec.coding).features(image))


def sent(codec: Codec, setting: str, policy: str) -> Sent:
    found = picture(codec).sent(Scheme(codec.name, setting, policy))
    assert found is not None
    return found


@pytest.mark.parametrize("bytes_a_frame", [1200, 6000, 25_000, 400_000])
@pytest.mark.parametrize("loss", [0.05, 0.3, 0.8, 0.99])
@pytest.mark.parametrize("needs", Needs)
def test_every_plan_of_the_grid_is_one_that_a_user_may_write(bytes_a_frame: int, loss: float, needs: Needs) -> None:
    found = plans(bytes_a_frame, loss, needs)
    assert [read_policy(policy).name for policy in found] == found
    assert len({*found}) == len(found) and found[-1] == "none"
    assert any("FEC" in policy for policy in found) == (needs is Needs.NOTHING)
    assert [read_policy(policy).name for policy in drops(loss)] == drops(loss)


def test_nothing_lost_needs_no_parity() -> None:
    assert plans(6000, 0.0, Needs.NOTHING) == ["none"]


def test_a_setting_is_the_finest_that_takes_so_many_bytes_on_average() -> None:
    codec = fine_codec("jpeg", CUT, 7)
    pictures = [picture(codec, seed) for seed in range(3)]
    fitting = Fitting(codec, pictures)
    for policy in ("none", "nested:12/15", "nested:9/25"):
        setting = fitting.finest(policy, 12_000)
        assert setting is not None
        finer = f"jpeg:{int(setting.removeprefix('jpeg:')) + 1}"
        mean, more = (mean_bytes(pictures, Scheme("jpeg", of, policy)) for of in (setting, finer))
        assert mean is not None and mean <= 12_000
        assert more is None or more > 12_000
    assert fitting.finest("nested:1/30", 12_000) is None


def mean_bytes(pictures: list[Picture], scheme: Scheme) -> float | None:
    found = [one.sent(scheme) for one in pictures]
    sizes = [one.wire_bytes for one in found if one is not None]
    return float(np.mean(sizes)) if len(sizes) == len(found) else None


def test_the_bytes_are_those_of_the_datagrams() -> None:
    for policy in ("none", "nested:20/30", "nested:12,40/60"):
        one = sent(fine_codec("progressive", CUT, 7), "progressive:20", policy)
        assert one.wire_bytes == one.encoded.wire_bytes


def test_plans_of_one_setting_share_the_answer_to_a_whole_frame() -> None:
    codec = fine_codec("webp", CUT, 7)
    ends = ToyEnds(codec.coding)
    patterns = set()
    for policy in ("none", "nested:30/40"):
        one = sent(codec, "webp:10", policy)
        case = one.case("point", 0, np.ones(one.plan.sent, bool), ends)
        assert case.features().any()
        patterns.add(case.pattern)
    assert len(patterns) == 1


def test_a_picture_that_is_not_whole_is_the_same_for_all_and_one_unheard_has_no_answer() -> None:
    codec = fine_codec("webp", CUT, 7)
    ends, one = ToyEnds(codec.coding), sent(codec, "webp:10", "nested:30/40")
    few = np.arange(one.plan.sent) < 29
    assert not one.case("point", 0, few, ends).features().any()
    assert (
        one.case("point", 0, few, ends).pattern
        == sent(codec, "webp:20", "none")
        .case("point", 0, np.arange(sent(codec, "webp:20", "none").plan.sent) < 3, ends)
        .pattern
    )
    assert one.case("point", 0, np.zeros(one.plan.sent, bool), ends).pattern == UNHEARD


def test_json_has_each_codecs_plan_and_answers_by_bytes_loss_and_link(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    file, out, labels = write_codec(tmp_path / "codec.npz"), tmp_path / "out", tmp_path / "labels.csv"
    labels.write_text("".join(f"{i:03}.png,{i}\n" for i in range(6)))
    options = ["--images", images, "--labels", labels, "--tune-images", 2, "--bytes", "16000", "--loss", "0,0.3"]
    options += ["--codec", f"{file},jpeg,paper", "--repetitions", 2, "--out", out, "--json"]
    done = sweep(*options)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["images"], found["tuning_images"], found["repetitions"]) == (4, 2, 2)
    assert {*found["equal_bytes"]} == {file, "jpeg", "paper"} and not found["no_plan"]
    assert [*found["equal_bytes"]["jpeg"]] == ["16000"] and len(found["equal_bytes"]["paper"]) == 1
    for codec, by_bytes in found["equal_bytes"].items():
        for size, by_loss in by_bytes.items():
            assert [*by_loss] == ["0", "0.3"]
            for loss, by_link in by_loss.items():
                assert [*by_link] == ["iid", "burst8"]
                for point in by_link.values():
                    assert {"agreement", "agreement_ci", "top1", "top1_ci", "plan", "setting"} <= point.keys()
                    assert 0 < point["mean_bytes"] <= int(size)
                    assert (point["plan"] == "none") if loss == "0" else point["plan"], codec
    assert found["equal_bytes"]["jpeg"]["16000"]["0"]["iid"]["mean_bytes"] > 14_000
    assert (out / "equal_bytes.png").read_bytes().startswith(b"\x89PNG")
    assert "The chosen plans" in (out / "equal_bytes.md").read_text()
    assert len([*csv.DictReader((out / "equal_bytes.csv").open())]) == 3 * 4


def test_a_second_run_asks_only_for_what_is_new(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = install(monkeypatch)
    options = ["--images", images, "--tune-images", 2, "--bytes", 16_000, "--burst", "iid", "--codec", "jpeg"]
    options += ["--out", tmp_path / "out", "--repetitions", 1, "--json"]
    first = sweep(*options, "--loss", "0.3")
    asked = sum(ends.asked for ends in made)
    assert json.loads(sweep(*options, "--loss", "0.3").stdout)["equal_bytes"] == json.loads(first.stdout)["equal_bytes"]
    assert sum(ends.asked for ends in made) == asked > 0
    assert sweep(*options, "--loss", "0,0.3").exit_code == 0
    assert asked < sum(ends.asked for ends in made) < 2 * asked


def test_a_frame_of_which_nothing_arrives_is_wrong(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    options = [
        "--images",
        images,
        "--tune-images",
        2,
        "--bytes",
        30000,
        "--loss",
        1,
        "--burst",
        "iid",
        "--codec",
        "webp",
    ]
    done = sweep(*options, "--repetitions", 1, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["equal_bytes"]["webp"]["30000"]["1"]["iid"]["agreement"] == 0


def test_images_for_tuning_are_not_measured(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    write_images(tmp_path / "others", 2, noise)
    out = tmp_path / "out"
    options = ["--images", images, "--bytes", 60_000, "--loss", "0", "--burst", "iid", "--codec", "jpeg", "--out", out]
    assert sweep(*options, "--tune-images", 2).exit_code == 0
    assert stored(out) == ["002.png", "003.png", "004.png", "005.png"]
    assert stored(out / "tuning") == ["000.png", "001.png"]
    assert sweep(*options[:-1], tmp_path / "second", "--tune", tmp_path / "others").exit_code == 0
    assert len(stored(tmp_path / "second")) == 6
    assert {*stored(tmp_path / "second" / "tuning")} == {"000.png", "001.png"}
    for wrong in (["--tune-images", 6], ["--tune", images]):
        done = sweep(*options, *wrong)
        assert done.exit_code == 2 and "--tune" in done.stderr


def stored(folder: Path) -> list[str]:
    return [json.loads(line)["image"] for line in (folder / "answers.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--bytes", "many"], "is not a number of bytes"), (["--bytes", "6000", "--codec", "sqrt4"], "not 'sqrt4'")],
)
def test_wrong_options_are_named_in_one_line(images: Path, options: list[str], words: str) -> None:
    done = sweep("--images", images, "--tune-images", 2, "--codec", "jpeg", *options)
    assert done.exit_code == 2 and words in done.stderr and done.stderr.count("\n") == 1
