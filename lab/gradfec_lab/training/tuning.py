"""The last step of the recipe `best`: offsets to the ranking, learned from the back-end's answers to the kept packets.

The second-order form is an approximation, and half a tensor is a large disturbance. So we drop packets as the edge
would, and run the back-end. If its answer suffers, the gradient says which packets near the limit should change sides.
The step from score to kept or dropped has no gradient; we use the gradient of a logistic curve around the limit instead
(the straight-through estimator: Bengio, Leonard, Courville, arXiv:1308.3432).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_cli.gradcam import BATCH, logits_of
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut, named_cut
from gradfec_common.packets import PacketGrid
from gradfec_edge.frontend.keras_runtime import KerasFrontEnd
from gradfec_edge.importance import EstimatorFile
from gradfec_host.quiet import quiet_tensorflow
from gradfec_host.weights import WeightStore
from gradfec_lab.training.targets import Targets

with quiet_tensorflow():
    import tensorflow as tf

Floats = npt.NDArray[np.float32]

DROPS = (0.45, 0.75)  # range of dropped shares while learning
LIMIT_WIDTH = 0.1  # of the logistic curve, in shares of the ranking
RATE_CHANNEL, RATE_PACKET = (
    0.001,
    0.001,
)  # for the part that the packets of a channel share, and for each packet's own part
DECAYS = (0.9, 0.99)  # Adam's (Kingma, Ba, ICLR 2015)
WORST_LOSS = 8.0  # nats; beyond it, an image is lost and teaches nothing
WHISPER = 1e-4  # the back-end gets this share of a dropped packet, so that its ReLUs pass the gradient on
SAVE_EVERY = 25  # steps


@dataclass
class State:
    """Everything that a step changes, (channels + packets,) each: parameters, Adam's moments, and the sum of the later
    parameters, whose mean is less noisy than the last ones.
    """

    step: int
    parameters: Floats
    first: Floats
    second: Floats
    total: Floats
    counted: int


def tune(
    targets: Targets,
    proxy: EstimatorFile,
    weights: WeightStore,
    seed: int,
    steps: int,
    checkpoints: Path,
    report: Callable[[int, float, float], None],
    advance: Callable[[int], None],
) -> Floats:
    """Return the offset (packets,) of each packet's place, in shares of the ranking.

    `report` gets the step, and loss (nats) and agreement since its last call; `advance` gets the number of images.
    """
    cut, grid = named_cut(targets.settings.split), targets.grid
    front_end, answer = KerasFrontEnd(cut, weights, proxy), Answering(cut, weights, grid)
    path = checkpoints / "tuning.npz"
    run = {"seed": seed, "steps": steps, "proxy": proxy.digest}
    state = _restore(path, grid, run)
    advance(BATCH * state.step)
    order = np.random.default_rng([seed, 1]).permutation(targets.fit_indices)
    history: list[tuple[float, float]] = []
    while state.step < steps:
        where = np.take(order, range(BATCH * state.step, BATCH * (state.step + 1)), mode="wrap")
        chi, turns, _ = front_end(targets.inputs(where))
        assert turns is not None, "a proxy gives scores"  # noqa: S101
        scores = turns + offsets(state.parameters, grid)
        drops = np.random.default_rng([seed, 2, state.step]).uniform(*DROPS, BATCH)
        limits = np.array([np.quantile(s, drop) for s, drop in zip(scores, drops, strict=True)])[:, None]
        loss, agrees, gradient = answer(chi, (scores >= limits).astype(np.float32))
        logistic = 1 / (1 + np.exp((limits - scores) / LIMIT_WIDTH))
        slope = (gradient * logistic * (1 - logistic)).sum(axis=0)  # (N, packets) -> (packets,)
        by_channel = slope.reshape(grid.shape[2], grid.groups).sum(axis=1)  # (2048,) -> (256, 8) -> (256,)
        _adam(state, np.concatenate([by_channel, slope]), steps, grid)
        history.append((float(loss.mean()), float(agrees.mean())))
        advance(BATCH)
        if state.step % SAVE_EVERY == 0 or state.step == steps:
            _save(path, state, run)
            report(state.step, *np.mean(history, axis=0))
            history = []
    return offsets(state.total / np.float32(state.counted), grid)


class Answering:
    """The back-end's answers to features with missing packets, and how each packet would change them."""

    def __init__(self, cut: Cut, weights: WeightStore, grid: PacketGrid) -> None:
        """Compile for a fixed batch."""
        model = logits_of(cut, weights)
        groups, channels = grid.groups, grid.shape[2]

        def run(chi: tf.Tensor, kept: tf.Tensor) -> tuple[tf.Tensor, ...]:
            lossless = model(chi, training=False)
            with tf.GradientTape() as tape:
                tape.watch(kept)
                heard = kept + tf.stop_gradient(WHISPER * (1 - kept))
                # (N, 2048) -> (N, 256, 8) -> (N, 8, 256) -> (N, 56 rows, 256) -> (N, 56, 1, 256)
                by_group = tf.transpose(tf.reshape(heard, (-1, channels, groups)), (0, 2, 1))
                rows = tf.repeat(by_group, grid.rows, axis=1)[:, :, tf.newaxis, :]
                found = model(chi * rows, training=False)
                loss = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(lossless), found)
                total = tf.reduce_sum(tf.minimum(loss, WORST_LOSS))
            agrees = tf.argmax(found, axis=-1) == tf.argmax(lossless, axis=-1)
            return loss, tf.cast(agrees, tf.float32), tape.gradient(total, kept)

        signature = [tf.TensorSpec((BATCH, *grid.shape), tf.float32), tf.TensorSpec((BATCH, grid.count), tf.float32)]
        self._run = tf.function(run, input_signature=signature, jit_compile=True, autograph=False)

    def __call__(self, chi: Floats, kept: Floats) -> tuple[Floats, Floats, Floats]:
        """Answer chi (N, H, W, C) with only the packets `kept` (N, packets), 0 or 1.

        Return the cross-entropy (N,) with the answer to all of chi, in nats; (N,) 1 if the class is the same; and the
        gradient (N, packets) of the cross-entropy.
        """
        loss, agrees, gradient = (array.numpy() for array in self._run(chi, kept))
        return loss, agrees, gradient


def offsets(parameters: Floats, grid: PacketGrid) -> Floats:
    """Add the channels' parts to the packets' own: (channels + packets,) -> (packets,)."""
    channels = grid.shape[2]
    return np.repeat(parameters[:channels], grid.groups) + parameters[channels:]


def _adam(state: State, gradient: Floats, steps: int, grid: PacketGrid) -> None:
    """Take one step, with a rate that falls linearly to 0."""
    state.step += 1
    first, second = DECAYS
    state.first = first * state.first + (1 - first) * gradient
    state.second = second * state.second + (1 - second) * gradient**2
    direction = state.first / (1 - first**state.step) / (np.sqrt(state.second / (1 - second**state.step)) + 1e-8)
    rates = np.repeat([RATE_CHANNEL, RATE_PACKET], [grid.shape[2], grid.count])
    state.parameters = (state.parameters - rates * (1 - (state.step - 1) / steps) * direction).astype(np.float32)
    if 2 * state.step > steps:
        state.total = state.total + state.parameters
        state.counted += 1


def _restore(path: Path, grid: PacketGrid, run: Mapping[str, Any]) -> State:
    """Return the saved state, or a new one; UsageError if it belongs to another run."""
    if not path.exists():
        nothing = np.zeros(grid.shape[2] + grid.count, np.float32)
        return State(0, nothing, nothing, nothing, nothing, 0)
    try:
        with np.load(path) as file:
            saved = {name: file[name] for name in file.files}
        parameters, first, second, total = (saved[name] for name in ("parameters", "first", "second", "total"))
        state = State(int(saved["step"]), parameters, first, second, total, int(saved["counted"]))
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile):
        raise UsageError(f"the checkpoint {path} is damaged: remove it") from None
    for name, ours in run.items():
        theirs = saved.get(name, "unknown")
        if theirs != ours:
            raise UsageError(
                f"the checkpoint {path} belongs to a tuning with {name} = {theirs}, not {ours}: remove it, or write "
                "to another --out"
            )
    return state


def _save(path: Path, state: State, run: Mapping[str, Any]) -> None:
    """Write the state completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("tuning.part.npz")
    np.savez(partial, **run, **vars(state))
    partial.replace(path)
