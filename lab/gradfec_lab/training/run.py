"""The training loop: seeded, with a checkpoint after each epoch, from which an interrupted run resumes unchanged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_host.quiet import quiet_tensorflow

with quiet_tensorflow():
    import keras
    import tensorflow as tf

Indices = npt.NDArray[np.intp]
Batch = Callable[[Indices], tuple[Any, npt.NDArray[np.float32]]]  # indices -> inputs, targets
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # targets, outputs -> scalar

TARGETS = "targets"  # what identifies them, among a training's settings


@dataclass(frozen=True)
class Schedule:
    """How to train; `rates` are the learning rates at the first and the last step."""

    seed: int
    epochs: int
    batch: int
    rates: tuple[float, float]
    decay: str  # cosine, or exponential by epoch (the paper, section 3.1)
    weight_decay: float = 0.0

    def rate(self, epoch: int, progress: float) -> float:
        """Return the learning rate in an epoch, counted from 0, after the share `progress` of it."""
        first, last = self.rates
        if self.decay == "cosine":
            return last + (first - last) * (1 + math.cos(math.pi * (epoch + progress) / self.epochs)) / 2
        return float(first * (last / first) ** (epoch / max(self.epochs - 1, 1)))


@dataclass(frozen=True)
class Curve:
    """One point of the learning curves."""

    epoch: int
    rate: float
    loss: float
    held_out: float


def train(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: Loss,
    batch: Batch,
    fit: Indices,
    held_out: Indices,
    schedule: Schedule,
    checkpoints: Path,
    report: Callable[[Curve], None],
    advance: Callable[[int], None] = lambda images: None,
    data: str = "",
) -> list[Curve]:
    """Train `model` in place on the images `fit`, and restore the best epoch on `held_out`; return the curves.

    `report` is called after each epoch, `advance` after each batch with the number of images. The order of the images
    depends only on seed and epoch. Checkpoints of another schedule or other `data` are refused.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    curves = _continue(checkpoints, {**asdict(schedule), TARGETS: data})
    advance(len(curves) * len(fit))
    optimizer.build(model.trainable_variables)
    state = tf.train.Checkpoint(model=model, optimizer=optimizer)
    if curves:
        state.read(str(checkpoints / f"epoch-{len(curves)}")).expect_partial()

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(inputs: Any, wanted: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(wanted, model(inputs, training=True))
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
        return value

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def judge(inputs: Any, wanted: tf.Tensor) -> tf.Tensor:
        return loss(wanted, model(inputs, training=False))

    for epoch in range(len(curves), schedule.epochs):
        order = np.random.default_rng([schedule.seed, epoch]).permutation(fit)
        losses = []
        for start in range(0, len(order), schedule.batch):
            rate = schedule.rate(epoch, start / len(order))
            optimizer.learning_rate.assign(rate)
            where = order[start : start + schedule.batch]
            losses.append(float(step(*batch(where))) * len(where))
            advance(len(where))
        parts = [held_out[start : start + schedule.batch] for start in range(0, len(held_out), schedule.batch)]
        judged = [float(judge(*batch(where))) * len(where) for where in parts]
        curves.append(Curve(epoch + 1, rate, sum(losses) / len(order), sum(judged) / max(len(held_out), 1)))
        state.write(str(checkpoints / f"epoch-{epoch + 1}"))
        _remember(checkpoints, {**asdict(schedule), TARGETS: data}, curves)
        report(curves[-1])
    best = min(range(len(curves)), key=lambda n: (not np.isfinite(curves[n].held_out), curves[n].held_out))
    tf.train.Checkpoint(model=model).read(str(checkpoints / f"epoch-{best + 1}")).expect_partial()
    return curves


def _continue(checkpoints: Path, settings: Mapping[str, Any]) -> list[Curve]:
    """Return the curves so far; UsageError if they belong to another training, or are damaged."""
    path = checkpoints / "curves.json"
    if not path.exists():
        return []
    try:
        record = json.loads(path.read_text())
        curves = [Curve(**point) for point in record["curves"]]
        found = dict(record["settings"])
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{path} is damaged: remove the folder {checkpoints}") from None
    for name, value in settings.items():
        theirs = found.get(name)
        if theirs != (list(value) if isinstance(value, tuple) else value):
            if name == TARGETS:
                raise UsageError(
                    f"the checkpoints in {checkpoints} belong to a training with other photographs, or with another "
                    "split, --rows or --score: remove the folder, or write to another --out"
                )
            raise UsageError(
                f"the checkpoints in {checkpoints} belong to a training with {name} = {theirs!r}, not {value!r}: "
                "remove the folder, or write to another --out"
            )
    return curves


def _remember(checkpoints: Path, settings: Mapping[str, Any], curves: Sequence[Curve]) -> None:
    """Write the curves completely or not at all; they say which checkpoints are complete."""
    partial = checkpoints / "curves.json.part"
    partial.write_text(json.dumps({"settings": dict(settings), "curves": [asdict(point) for point in curves]}))
    partial.replace(checkpoints / "curves.json")
