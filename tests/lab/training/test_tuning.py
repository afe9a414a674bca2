"""What is learned from the back-end's answers: here from a toy whose answer rests on packets that are ranked last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradfec_common.errors import UsageError
from gradfec_common.network import split_point
from gradfec_common.packets import PacketGrid
from gradfec_common.weights import ensure_weights
from gradfec_edge.importance import EstimatorFile
from gradfec_edge.importance.free import packet_sums
from gradfec_lab.training import checkpoint, rehearsal, sensitivity, tuning
from gradfec_lab.training.rehearsal import Answering, Rehearsal
from gradfec_lab.training.sensitivity import measure_sensitivities, separated
from gradfec_lab.training.targets import DONE, Targets, gradient_products
from gradfec_lab.training.tuning import tune

from .toys import GRID, Features, ToyNetwork, targets_of, write_images

PROXY = EstimatorFile(Path("toy.npz"), {"recipe": "best", "split": "pool1_pool", "rows": 14}, {"x": np.zeros(1)})
MATTERS = slice(0, 8)  # two channels of four packets, which the toy proxy ranks just below the limit


@pytest.fixture
def targets(tmp_path, monkeypatch):
    made = targets_of(tmp_path / "targets", write_images(tmp_path / "images", 48))
    made.state[:] = DONE
    toy = ToyNetwork()
    turns = np.linspace(0, 1, GRID.count, endpoint=False, dtype=np.float32)
    turns[MATTERS] = 0.35

    def front_end(images: np.ndarray) -> Features:
        chi = np.abs(toy.features(images).chi) + 0.1
        return Features(chi, np.tile(turns, (len(images), 1)))

    def answer(chi: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, ...]:
        gradient = np.zeros_like(chi)
        gradient[..., :2] = -1.0  # more of the first two channels, and the loss would be less
        missing = 8 - kept[:, MATTERS].sum(axis=1)
        return missing, (missing == 0).astype(np.float32), gradient

    monkeypatch.setattr(rehearsal, "FrontEnd", lambda split, weights, proxy: front_end)
    monkeypatch.setattr(rehearsal, "Answering", lambda split, weights, grid: answer)
    return made


def run(targets: Targets, folder: Path, steps: int = 60, proxy: EstimatorFile = PROXY, seed: int = 0) -> Any:
    reports: list[tuple[int, float, float]] = []
    sent = Rehearsal(targets, proxy, None, (seed, 2))
    found = tune(sent, proxy, steps, folder, lambda *point: reports.append(point), lambda images: None)
    return found, reports


def interrupt(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    """Stop the run after its first checkpoint."""

    def interrupted(*arguments: Any) -> None:
        checkpoint.save(*arguments)
        monkeypatch.setattr(module, "save", checkpoint.save)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save", interrupted)


# --- offsets ---


def test_packets_that_the_answer_rests_on_rise_and_the_others_stay(targets, tmp_path):
    offsets, reports = run(targets, tmp_path / "checkpoints")
    assert offsets.shape == (2, GRID.count)
    assert (offsets[0, MATTERS] > 0.03).all()
    assert np.abs(offsets[:, 8:]).max() < 1e-6
    assert not offsets[1].any()  # their turn is early
    assert [step for step, _, _ in reports] == [25, 50, 60]
    assert reports[-1][1] < reports[0][1]  # the loss falls
    assert reports[-1][2] > reports[0][2]  # more answers stand


def test_an_interrupted_tuning_goes_on_as_if_it_had_not_been(targets, tmp_path, monkeypatch):
    whole, _ = run(targets, tmp_path / "whole")
    interrupt(monkeypatch, tuning)
    with pytest.raises(KeyboardInterrupt):
        run(targets, tmp_path / "parts")
    parts, reports = run(targets, tmp_path / "parts")
    assert [step for step, _, _ in reports] == [50, 60]
    np.testing.assert_array_equal(parts, whole)


def test_a_checkpoint_of_another_tuning_is_refused_by_name(targets, tmp_path):
    run(targets, tmp_path / "checkpoints", steps=5)
    other = replace(PROXY, arrays={"x": np.ones(1, np.float32)})
    for name, arguments in (("seed", {"seed": 1}), ("steps", {"steps": 6}), ("proxy", {"proxy": other})):
        with pytest.raises(UsageError, match=f"is of a run with {name} = "):
            run(targets, tmp_path / "checkpoints", **({"steps": 5} | arguments))


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all"])
def test_a_damaged_checkpoint_is_refused_by_name(targets, tmp_path, content):
    (tmp_path / "tuning.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"tuning\.npz is damaged: remove it"):
        run(targets, tmp_path)


# --- sensitivities where packets are dropped ---


def measure(targets: Targets, folder: Path, seed: int = 0, steps: int = 30) -> Any:
    sent = Rehearsal(targets, PROXY, None, (seed, 1))
    return measure_sensitivities(sent, PROXY, steps, folder, lambda images: None)


def test_sensitivities_are_of_the_gradients_where_packets_are_dropped(targets, tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    drawn = rng.normal(size=(5, 8, *GRID.shape)).astype(np.float32) * rng.uniform(0, 3, (1, 8, 1, 1, 1))
    answers = iter(drawn)
    nothing = np.zeros(8, np.float32)
    monkeypatch.setattr(rehearsal, "Answering", lambda *_: lambda chi, kept: (nothing, nothing, next(answers)))
    found = measure(targets, tmp_path, steps=5)
    products = gradient_products(drawn.reshape(-1, *GRID.shape), GRID).sum(axis=0)  # a large gradient counts more
    expected = separated(products * GRID.shape[2] / np.trace(products[0]), 14 * 14)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-3)


def test_an_interrupted_measurement_goes_on_as_if_it_had_not_been(targets, tmp_path, monkeypatch):
    whole = measure(targets, tmp_path / "whole")
    interrupt(monkeypatch, sensitivity)
    with pytest.raises(KeyboardInterrupt):
        measure(targets, tmp_path / "parts")
    parts = measure(targets, tmp_path / "parts")
    for name, array in whole.items():
        np.testing.assert_array_equal(parts[name], array)
    with pytest.raises(UsageError, match="is of a run with seed = 0, not 1"):
        measure(targets, tmp_path / "parts", seed=1)


# --- the back-end ---


def test_the_back_ends_gradient_says_what_a_dropped_packet_would_have_changed():
    split = split_point("conv5_block3_out")  # the last: little to compute
    grid = PacketGrid(split.shape, 7)
    answer = Answering(split.name, ensure_weights(None, lambda *step: None), grid)
    rng = np.random.default_rng(0)
    chi = np.maximum(rng.normal(size=(8, *split.shape)), 0).astype(np.float32) * 2
    everything = np.ones((8, grid.count), np.float32)
    loss, agrees, _ = answer(chi, everything)
    assert agrees.all()
    half = (rng.random((8, grid.count)) < 0.5).astype(np.float32)
    loss, _, elements = answer(chi, half)
    gradient = packet_sums(chi * elements, grid)
    packet = int(np.abs(gradient[0] * (half[0] == 1)).argmax())
    nudged = half.copy()
    nudged[0, packet] -= 0.02
    changed, _, _ = answer(chi, nudged)
    assert changed[0] - loss[0] == pytest.approx(-0.02 * gradient[0, packet], rel=0.1)
    np.testing.assert_allclose(changed[1:], loss[1:], rtol=1e-4)
    assert (gradient[half == 0] != 0).mean() > 0.5  # the dropped are heard of too
