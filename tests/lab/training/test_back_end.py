"""Training a back-end that expects gaps: it learns, resumes as if it had not stopped, and is not taken for another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.common.networks.folded import CUT, FOLDED, Drawn

from gradfec_common.errors import UsageError
from gradfec_common.networks import NETWORKS
from gradfec_common.packets import PacketGrid
from gradfec_host.tuned import BackEndFile
from gradfec_lab.training.backend_command import train_backend


@pytest.fixture(autouse=True)
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, FOLDED.name, FOLDED)
    monkeypatch.setattr("gradfec_host.codec_file.weights_of", lambda network, path, progress: Drawn())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(5)
    for number in range(60):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1))
    return folder


def invoke(images: Path, out: Path, *options: object) -> Result:
    arguments = ["--images", images, "--out", out, "--split", "folded:first_relu", "--rows", 4, *options]
    return CliRunner().invoke(train_backend, [str(one) for one in arguments])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--losses", "rain"], "--losses has no 'rain'"),
        (["--rows", 5], "5 rows a packet do not divide"),
        (["--fill", "mean"], "there are no channel means for the split 'first_relu'"),
        (["--codec", "mp3"], "mp3"),
        (["--limit", 40, "--batch", 100], "give 40 or more, 100 of them to learn from"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(
    images: Path, tmp_path: Path, options: list[object], says: str
) -> None:
    ended = invoke(images, tmp_path / "mine.npz", *options)
    assert ended.exit_code == 2 and says in ended.output and "Traceback" not in ended.output
    assert invoke(images, tmp_path / "mine.txt").exit_code == 2


@pytest.mark.torch
def test_the_command_writes_a_back_end_for_its_cut(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "mine.npz"
    ended = invoke(images, out, "--steps", 5, "--batch", 4, "--until", "second_relu", "--json")
    assert ended.exit_code == 0, ended.output
    about = json.loads(ended.stdout.splitlines()[-1])
    file = BackEndFile.read(out)
    assert file.cut is CUT and file.stored.keys() == {"second_conv/kernel", "second_conv/bias"}
    assert about == {**file.about, "parameters": file.parameters}
    assert [loss for loss, _ in about["agreement"]] == [0.0, 0.3, 0.5]
    again = invoke(images, out, "--steps", 6, "--batch", 4, "--until", "second_relu")
    assert again.exit_code == 2 and "is of a training with steps = 5, not 6" in again.output


@pytest.mark.torch
def test_an_unusable_image_is_named(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in images.iterdir():
        (folder / path.name).write_bytes(path.read_bytes() if path.name != "7.png" else b"no picture")
    ended = invoke(folder, tmp_path / "mine.npz", "--steps", 30, "--batch", 20, "--until", "second_relu")
    assert ended.exit_code == 1 and "7.png" in ended.output and "Traceback" not in ended.output


# --- the training itself ---


def tuning(checkpoint: Path, **others: object):  # type: ignore[no-untyped-def]
    """A training on pictures of noise, which knows no files but its checkpoint."""
    pytest.importorskip("torch")
    from gradfec_common.conceal import make_concealment
    from gradfec_common.quantisers import chosen_quantiser
    from gradfec_lab.training.back_end import Settings, Tuning

    settings = Settings(
        "of noise", "folded:first_relu", "third_relu", 4, "uniform8", "zero", ["random"], 0.7, 40, 20, 8, 3e-3, 0
    )
    pictures = np.random.default_rng(9).integers(0, 256, (64, 4, 4, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    return Tuning(
        replace(settings, **others),  # type: ignore[arg-type]
        CUT,
        Drawn(),
        lambda rows: pictures[list(rows)],
        chosen_quantiser("uniform8", CUT),
        make_concealment("zero", CUT, {}),
        checkpoint,
    )


@pytest.mark.torch
def test_answers_to_tensors_with_gaps_become_those_to_whole_ones(tmp_path: Path) -> None:
    made = tuning(tmp_path / "checkpoint", steps=150, feature_steps=60)
    before = dict(made.agreement(range(48, 64), lambda _: None))
    lines: list[str] = []
    made.run(range(48), lines.append, lambda _: None)
    after = dict(made.agreement(range(48, 64), lambda _: None))
    assert before[0.0] >= 0.9
    assert after[0.5] > before[0.5]
    errors = [float(line.split("features ")[1].split(",")[0]) for line in lines]
    assert errors[-1] < errors[0]


@pytest.mark.torch
def test_an_interrupted_training_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuning(tmp_path / "whole")
    whole.run(range(48), lambda _: None, lambda _: None)
    monkeypatch.setattr("gradfec_lab.training.back_end.CHECKPOINT_S", 0.0)
    stopped = tuning(tmp_path / "parts")

    def advance(images: int, seen: list[int] = []) -> None:  # noqa: B006
        seen.append(images)
        if len(seen) == 27:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.run(range(48), lambda _: None, advance)
    done: list[int] = []
    resumed = tuning(tmp_path / "parts")
    resumed.run(range(48), lambda _: None, done.append)
    assert done[0] == 25 * 8 and sum(done) == 40 * 8
    for name, array in whole.tuned.arrays().items():
        np.testing.assert_allclose(resumed.tuned.arrays()[name], array, rtol=1e-3, atol=1e-4)


@pytest.mark.torch
def test_the_joint_is_the_last_cut_up_to_which_few_parameters_are_tuned() -> None:
    pytest.importorskip("torch")
    from gradfec_lab.training.back_end import joint_of, tuned_parameters

    second, third = (3 * 3 * 6 * 8 + 8), (3 * 3 * 8 * 8 + 8)
    assert joint_of(CUT, second).name == "second_relu"
    assert tuned_parameters(CUT, joint_of(CUT, second + third)) == second + third
    with pytest.raises(UsageError, match="no few layers after first_relu can be tuned: name the last one with --until"):
        joint_of(CUT, second - 1)


@pytest.mark.torch
def test_a_window_is_a_quarter_of_a_tensor_unless_that_is_small() -> None:
    pytest.importorskip("torch")
    from gradfec_lab.training.back_end import quarter

    rng = np.random.default_rng(0)
    windows = [quarter(PacketGrid((56, 56, 3), 7), rng) for _ in range(60)]
    assert {(window[2].start, window[2].stop) for window in windows} == {(0, 28), (14, 42), (28, 56)}
    assert quarter(PacketGrid((7, 7, 3), 7), rng) == (slice(None),) * 4
    assert quarter(PacketGrid((56, 56, 3), 8), rng)[2] == slice(None)
