"""The training loop: repeatable, resumed without a trace, and what it leaves is its best."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradfec_common.errors import UsageError
from gradfec_lab.training.elements import PAPER, VERBATIM
from gradfec_lab.training.run import Curve, Schedule, train

SCHEDULE = Schedule(seed=3, epochs=5, batch=8, rates=(1e-2, 0.0), decay="cosine", weight_decay=1e-2)
FIT, HELD_OUT = np.arange(60), np.arange(60, 70)
INPUTS = np.random.default_rng(1).normal(size=(70, 6)).astype(np.float32)
WANTED = np.sin(INPUTS.sum(axis=1, keepdims=True)) + INPUTS[:, :1]


class Stop(BaseException):
    """What interrupts a training here."""


class Training:
    """A small network under training: its weights and curves at the end, and after each epoch."""

    def __init__(self, folder: Path, schedule: Schedule = SCHEDULE, stop_at: int = 0, initial: int = 0, wanted=WANTED):
        """Train; `stop_at` batches of this run it is interrupted, `initial` is the seed of the first weights."""
        keras.utils.set_random_seed(initial)
        layers = [keras.layers.Dense(8, activation="relu"), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
        self.model = keras.Sequential([keras.Input((6,)), *layers])
        self.folder, self.wanted, self.stop_at = folder, wanted, stop_at
        self.asked: list[list[int]] = []
        self.after: list[list[np.ndarray]] = []
        self.reported: list[Curve] = []
        self.advanced = 0
        optimizer = keras.optimizers.AdamW(schedule.rates[0], weight_decay=schedule.weight_decay)
        paths = (FIT, HELD_OUT, schedule, folder, self.report, self.advance)
        self.curves = train(self.model, optimizer, self.loss, self.batch, *paths)

    def loss(self, wanted, found):
        return tf.reduce_mean(tf.square(wanted - found))

    def batch(self, where):
        if len(self.asked) + 1 == self.stop_at:
            raise Stop
        self.asked.append([*where])
        return INPUTS[where], self.wanted[where]

    def report(self, curve):
        self.reported.append(curve)
        self.after.append(self.model.get_weights())

    def advance(self, images):
        self.advanced += images


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Training(tmp_path_factory.mktemp("whole"))


def test_the_same_seed_gives_the_same_weights_and_another_one_others(whole, tmp_path):
    again = Training(tmp_path / "again")
    assert same(again.model.get_weights(), whole.model.get_weights())
    assert again.curves == whole.curves
    other = Training(tmp_path / "other", replace(SCHEDULE, seed=4))
    assert not same(other.model.get_weights(), whole.model.get_weights())


# amid an epoch; before one, while it judges, before the last
STOPS = [14, *(pytest.param(step, marks=pytest.mark.slow) for step in (11, 20, 41))]


@pytest.mark.parametrize("stop_at", STOPS)
def test_an_interrupted_training_ends_exactly_as_one_that_was_not(whole, tmp_path, stop_at):
    with pytest.raises(Stop):
        Training(tmp_path, stop_at=stop_at)
    resumed = Training(tmp_path, initial=9)  # other first weights: they must come from the checkpoint
    left = SCHEDULE.epochs - (stop_at - 1) // 10
    assert resumed.asked == whole.asked[-10 * left :]
    assert resumed.reported == whole.curves[-left:]
    assert resumed.curves == whole.curves
    assert same(resumed.model.get_weights(), whole.model.get_weights())


@pytest.mark.slow
def test_interrupted_in_its_first_epoch_a_training_begins_anew(whole, tmp_path):
    with pytest.raises(Stop):
        Training(tmp_path, stop_at=10)
    again = Training(tmp_path)
    assert again.asked == whole.asked
    assert same(again.model.get_weights(), whole.model.get_weights())


def test_a_training_that_has_ended_is_not_done_again(whole):
    again = Training(whole.folder, initial=9)
    assert (again.asked, again.reported) == ([], [])
    assert again.curves == whole.curves
    assert same(again.model.get_weights(), whole.model.get_weights())


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 4), ("epochs", 6), ("batch", 9), ("rates", (1e-2, 1e-3)), ("decay", "exponential"), ("weight_decay", 0)],
)
def test_checkpoints_of_another_schedule_are_refused_by_name(whole, name, value):
    with pytest.raises(
        UsageError, match=f"belong to a training with {name} = .*: remove the folder, or write to another"
    ):
        Training(whole.folder, replace(SCHEDULE, **{name: value}))


def test_each_epoch_sees_every_image_once_in_an_order_of_its_own(whole):
    epochs = [[*chain(*whole.asked[10 * n : 10 * n + 8])] for n in range(5)]
    assert all(sorted(epoch) == [*FIT] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert all([*chain(*whole.asked[10 * n + 8 : 10 * n + 10])] == [*HELD_OUT] for n in range(5))
    assert whole.advanced == 5 * len(FIT)


def test_curves_say_for_each_epoch_the_mean_loss_over_all_held_out_images(whole):
    assert whole.reported == whole.curves
    assert [curve.epoch for curve in whole.curves] == [1, 2, 3, 4, 5]
    best = min(curve.held_out for curve in whole.curves)
    found = whole.model.predict(INPUTS[HELD_OUT], verbose=0)
    assert best == pytest.approx(np.mean((found - WANTED[HELD_OUT]) ** 2), rel=1e-4)
    assert whole.curves[-1].loss < whole.curves[0].loss


def test_the_epoch_that_was_best_on_what_is_held_out_is_what_remains(tmp_path):
    wild = Training(tmp_path, replace(SCHEDULE, rates=(1e-2, 3.0), epochs=6))
    best = int(np.argmin([curve.held_out for curve in wild.curves]))
    assert best < 5  # it gets worse at such a rate
    assert same(wild.model.get_weights(), wild.after[best])
    assert not same(wild.model.get_weights(), wild.after[-1])


def test_a_loss_that_is_no_number_does_not_win_and_does_not_stop_a_resumed_training(tmp_path):
    wanted = WANTED.copy()

    class Breaking(Training):
        def report(self, curve):
            super().report(curve)
            wanted[:] = np.nan  # from the second epoch on

    broken = Breaking(tmp_path, wanted=wanted)
    assert [np.isfinite(curve.held_out) for curve in broken.curves] == [True] + 4 * [False]
    assert same(broken.model.get_weights(), broken.after[0])
    assert all(np.isfinite(array).all() for array in broken.model.get_weights())
    again = Training(tmp_path, initial=9)
    assert same(again.model.get_weights(), broken.after[0])


def test_curves_are_kept_as_json_beside_the_checkpoints(whole):
    record = json.loads((whole.folder / "curves.json").read_text())
    assert [Curve(**point) for point in record["curves"]] == whole.curves
    assert record["settings"]["seed"] == 3
    assert not [*whole.folder.glob("*.part")]


def test_a_cosine_falls_from_the_first_rate_to_the_last():
    assert SCHEDULE.rate(0, 0.0) == 1e-2
    assert SCHEDULE.rate(2, 0.5) == pytest.approx(5e-3)
    assert SCHEDULE.rate(4, 1.0) == pytest.approx(0)
    rates = [SCHEDULE.rate(epoch, part) for epoch in range(5) for part in (0, 0.3, 0.9)]
    assert rates == sorted(rates, reverse=True)


def test_the_papers_rate_falls_by_epoch_from_a_tenth_to_1e_11_over_16_epochs():
    rates = [VERBATIM.rate(epoch, 0.0) for epoch in range(VERBATIM.epochs)]
    assert (len(rates), rates[0]) == (16, 0.1)
    assert rates[-1] == pytest.approx(1e-11)
    np.testing.assert_allclose(np.diff(np.log10(rates)), -10 / 15)
    assert VERBATIM.rate(3, 0.0) == VERBATIM.rate(3, 0.99)
    assert replace(VERBATIM, epochs=1).rate(0, 0.0) == 0.1


def test_the_papers_recipe_that_trains_has_its_epochs_and_its_decay_at_lower_rates():
    assert (PAPER.epochs, PAPER.decay) == (VERBATIM.epochs, VERBATIM.decay)
    assert max(PAPER.rates) < max(VERBATIM.rates) / 10
