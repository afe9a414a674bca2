"""Training the network of `learned`: it learns, and what the cloud runs is what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.common.learned import network_of
from tests.common.networks.folded import CUT, FOLDED, Drawn

from gradfec_common.conceal import make_concealment
from gradfec_common.conceal.learned import network_shapes
from gradfec_common.conceal.moments import COVARIANCE, MEANS
from gradfec_common.networks import NETWORKS, full_name
from gradfec_common.packets import PacketGrid
from gradfec_host.concealment_file import learned_for, write_concealment_file
from gradfec_lab.training.fill_command import train_fill
from gradfec_lab.training.moments import Moments

CHANNELS = CUT.shape[2]
GRID = PacketGrid(CUT.shape, 4)
RNG = np.random.default_rng(4)
FEATURES = RNG.normal(0.5, 2, (8, *CUT.shape)).astype(np.float32)


@pytest.fixture(autouse=True)
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, FOLDED.name, FOLDED)
    monkeypatch.setattr("gradfec_host.codec_file.weights_of", lambda network, path, progress: Drawn())


def statistics() -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    moments = Moments(CHANNELS)
    for one in FEATURES:
        moments.add(one)
    return moments.learned()


def invoke(images: Path, out: Path, *options: object) -> Result:
    arguments = ["--images", images, "--out", out, "--split", full_name(CUT), "--rows", 4, *options]
    return CliRunner().invoke(train_fill, [str(one) for one in arguments])


def test_a_cut_without_statistics_is_refused_in_one_line(tmp_path: Path) -> None:
    ended = invoke(tmp_path, tmp_path / "mine.npz")
    assert ended.exit_code == 2
    assert "no statistics of the channels of 'first_relu'" in ended.output
    assert "gradfec train-concealment" in ended.output and "Traceback" not in ended.output


@pytest.mark.torch
def test_the_cloud_fills_as_the_network_that_was_trained() -> None:
    torch = pytest.importorskip("torch")
    from gradfec_lab.training.fill import FillNetwork

    known = statistics()
    network = FillNetwork(known[MEANS][0], np.sqrt(np.diagonal(known[COVARIANCE][0])))
    there = RNG.random(GRID.count) < 0.5
    gaussian = make_concealment("gaussian", CUT, known)(FEATURES[0].copy(), there, GRID)
    rows = np.repeat(there.reshape(CHANNELS, GRID.groups), 4, axis=1)[None, :, :, None].astype(np.float32)

    def trained() -> np.ndarray:  # type: ignore[type-arg]
        with torch.no_grad():
            found = network(torch.from_numpy(gaussian.transpose(2, 0, 1)[None].copy()), torch.from_numpy(rows))
        return found[0].permute(1, 2, 0).numpy()  # type: ignore[no-any-return]

    np.testing.assert_array_equal(trained(), gaussian)  # at first, it changes nothing
    torch.nn.init.normal_(network.leave.weight)
    torch.nn.init.normal_(network.leave.bias)
    arrays = network.arrays()
    assert {name: array.shape for name, array in arrays.items()} == network_shapes(CHANNELS)
    filled = make_concealment("learned", CUT, {**known, **arrays})(FEATURES[0].copy(), there, GRID)
    assert not np.allclose(filled, gaussian, atol=0.1)
    np.testing.assert_allclose(filled, trained(), rtol=1e-3, atol=1e-3)


@pytest.mark.torch
def test_the_command_writes_statistics_and_a_network_that_has_learned(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    images = tmp_path / "photographs"
    images.mkdir()
    for number in range(60):
        small = RNG.integers(0, 256, (4, 4, 3), np.uint8)
        cv2.imwrite(str(images / f"{number}.png"), small.repeat(8, 0).repeat(8, 1))
    known, file, out = statistics(), tmp_path / "statistics.npz", tmp_path / "mine.npz"
    write_concealment_file(file, CUT, known, "made up")
    options = ["--learned", file, "--steps", 75, "--batch", 8, "--until", "third_relu"]
    ended = invoke(images, out, *options, "--json")
    assert ended.exit_code == 0, ended.output
    about = json.loads(ended.stdout.splitlines()[-1])
    assert about["fill"] == "gaussian" and about["images"] + about["measured_images"] == 60
    assert about["parameters"] == sum(array.size for array in network_of(CHANNELS).values())
    lines = [line for line in ended.stderr.splitlines() if "features" in line]
    errors = [float(line.split("features ")[1].split(",")[0]) for line in lines]
    assert errors[-1] < errors[0]
    learned = learned_for(CUT, [out])
    assert learned.keys() == known.keys() | network_shapes(CHANNELS)
    np.testing.assert_array_equal(learned[COVARIANCE], known[COVARIANCE])
    again = invoke(images, out, *options[:-1], "second_relu")
    assert again.exit_code == 2 and "is of a training with joint = 'third_relu', not 'second_relu'" in again.output
