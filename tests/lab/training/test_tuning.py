"""The offsets learn from the back-end's answers: here from a toy whose answer rests on packets that are ranked last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradfec_common.errors import UsageError
from gradfec_common.networks import named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance import EstimatorFile
from gradfec_host.weights import ensure_weights
from gradfec_lab.training import tuning
from gradfec_lab.training.targets import DONE, Targets
from gradfec_lab.training.tuning import Answering, tune

from .toys import GRID, Features, ToyNetwork, targets_of, write_images

PROXY = EstimatorFile(Path("toy.npz"), {"recipe": "best", "split": "pool1_pool", "rows": 14}, {"x": np.zeros(1)})
MATTERS = slice(0, 8)  # two channels of four packets, which the toy proxy ranks just below the limit


@pytest.fixture
def targets(tmp_path, monkeypatch):
    made = targets_of(tmp_path / "targets", write_images(tmp_path / "images", 48))
    made.state[:] = DONE
    toy = ToyNetwork()
    turns = np.linspace(0, 1, GRID.count, endpoint=False, dtype=np.float32)
    turns[MATTERS] = 0.4

    def front_end(images: np.ndarray) -> Features:
        return Features(toy.features(images).chi, np.tile(turns, (len(images), 1)))

    def answer(chi: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, ...]:
        gradient = np.zeros_like(kept)
        gradient[:, MATTERS] = -1.0
        missing = 8 - kept[:, MATTERS].sum(axis=1)
        return missing, (missing == 0).astype(np.float32), gradient

    monkeypatch.setattr(tuning, "KerasFrontEnd", lambda split, weights, proxy: front_end)
    monkeypatch.setattr(tuning, "Answering", lambda split, weights, grid: answer)
    return made


def run(targets: Targets, folder: Path, steps: int = 60, proxy: EstimatorFile = PROXY, seed: int = 0) -> Any:
    reports: list[tuple[int, float, float]] = []
    found = tune(targets, proxy, None, seed, steps, folder, lambda *point: reports.append(point), lambda images: None)
    return found, reports


def test_packets_that_the_answer_rests_on_rise_and_the_others_stay(targets, tmp_path):
    offsets, reports = run(targets, tmp_path / "checkpoints")
    assert offsets.shape == (GRID.count,)
    assert (offsets[MATTERS] > 0.03).all()
    assert np.abs(offsets[8:]).max() < 1e-6
    assert [step for step, _, _ in reports] == [25, 50, 60]
    assert reports[-1][1] < reports[0][1]  # the loss falls
    assert reports[-1][2] > reports[0][2]  # more answers stand


def test_an_interrupted_tuning_goes_on_as_if_it_had_not_been(targets, tmp_path, monkeypatch):
    whole, _ = run(targets, tmp_path / "whole")
    save, saved = tuning._save, []

    def interrupted(*arguments: Any) -> None:
        save(*arguments)
        saved.append(1)
        if len(saved) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "_save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(targets, tmp_path / "parts")
    parts, reports = run(targets, tmp_path / "parts")
    assert [step for step, _, _ in reports] == [50, 60]
    np.testing.assert_array_equal(parts, whole)


def test_a_checkpoint_of_another_tuning_is_refused_by_name(targets, tmp_path):
    run(targets, tmp_path / "checkpoints", steps=5)
    other = replace(PROXY, arrays={"x": np.ones(1, np.float32)})
    for name, arguments in (("seed", {"seed": 1}), ("steps", {"steps": 6}), ("proxy", {"proxy": other})):
        with pytest.raises(UsageError, match=f"belongs to a tuning with {name} = "):
            run(targets, tmp_path / "checkpoints", **({"steps": 5} | arguments))


def test_the_back_ends_gradient_says_what_a_dropped_packet_would_have_changed():
    split = named_cut("conv5_block3_out")  # the last: little to compute
    grid = PacketGrid(split.shape, 7)
    answer = Answering(split, ensure_weights(RESNET50, None, lambda *step: None), grid)
    rng = np.random.default_rng(0)
    chi = np.maximum(rng.normal(size=(8, *split.shape)), 0).astype(np.float32) * 2
    everything = np.ones((8, grid.count), np.float32)
    loss, agrees, _ = answer(chi, everything)
    assert agrees.all()
    half = (rng.random((8, grid.count)) < 0.5).astype(np.float32)
    loss, _, gradient = answer(chi, half)
    packet = int(np.abs(gradient[0] * (half[0] == 1)).argmax())
    nudged = half.copy()
    nudged[0, packet] -= 0.02
    changed, _, _ = answer(chi, nudged)
    assert changed[0] - loss[0] == pytest.approx(-0.02 * gradient[0, packet], rel=0.1)
    np.testing.assert_allclose(changed[1:], loss[1:], rtol=1e-4)
    assert (gradient[half == 0] != 0).mean() > 0.5  # the dropped are heard of too
