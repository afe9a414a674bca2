"""The last step of the recipe `best`: offsets to the ranking, learned from the back-end's answers to what is kept.

Where an answer suffers from what is dropped, the gradient says which of the packets near the limit should change sides.
The step from score to kept or dropped has no gradient; in its place stands that of a logistic curve around the limit
(the straight-through estimator: Bengio, Leonard, Courville, arXiv:1308.3432).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradfec_common.packets import PacketGrid
from gradfec_edge.frontend.proxy import lateness
from gradfec_edge.importance import EstimatorFile
from gradfec_edge.importance.free import packet_sums
from gradfec_lab.gradcam import BATCH
from gradfec_lab.training.checkpoint import SAVE_EVERY, restore, save
from gradfec_lab.training.rehearsal import Outcome, Rehearsal

Floats = npt.NDArray[np.float32]

LIMIT_WIDTH = 0.1  # of the logistic curve, in shares of the ranking
RATE = 0.001  # of what the packets of a channel share, and of each packet's own
DECAYS = (0.9, 0.99)  # Adam's (Kingma, Ba, ICLR 2015)


@dataclass
class State:
    """Everything that a step changes, (2, channels + packets) each: parameters, Adam's moments, and the sum of the
    later parameters, whose mean is less noisy than the last.
    """

    step: int
    parameters: Floats
    first: Floats
    second: Floats
    total: Floats
    counted: int


def tune(
    rehearsal: Rehearsal,
    proxy: EstimatorFile,
    steps: int,
    checkpoints: Path,
    report: Callable[[int, float, float], None],
    advance: Callable[[int], None],
) -> Floats:
    """Return the offsets (2, packets) of the packets' places for `proxy`, that of the rehearsal, which has none yet.

    `report` is told steps, loss (nats) and agreement of those since it was last called; `advance` how many images.
    """
    grid = rehearsal.grid
    path, run = checkpoints / "tuning.npz", {"seed": rehearsal.seed[0], "steps": steps, "proxy": proxy.digest}
    nothing = np.zeros((2, grid.shape[2] + grid.count), np.float32)
    saved = restore(path, run)
    parameters, first, second, total = (saved.get(name, nothing) for name in ("parameters", "first", "second", "total"))
    state = State(int(saved.get("step", 0)), parameters, first, second, total, int(saved.get("counted", 0)))
    advance(BATCH * state.step)
    history: list[tuple[float, float]] = []
    while state.step < steps:
        outcome = rehearsal(state.step, offsets(state.parameters, grid))
        _adam(state, slope(outcome, grid), steps)
        history.append((float(outcome.loss.mean()), float(outcome.agrees.mean())))
        advance(BATCH)
        if state.step % SAVE_EVERY == 0 or state.step == steps:
            save(path, run, vars(state))
            report(state.step, *np.mean(history, axis=0))
            history = []
    return offsets(state.total / np.float32(state.counted), grid)


def slope(outcome: Outcome, grid: PacketGrid) -> Floats:
    """Return how the loss of a batch changes with the parameters, (2, channels + packets)."""
    logistic = 1 / (1 + np.exp((outcome.limits - outcome.scores) / LIMIT_WIDTH))
    by_score = packet_sums(outcome.chi * outcome.gradient, grid) * logistic * (1 - logistic)
    late = lateness(outcome.turns)
    by_packet = np.stack([(by_score * (1 - late)).sum(axis=0), (by_score * late).sum(axis=0)])  # -> (2, packets)
    by_channel = by_packet.reshape(2, grid.shape[2], grid.groups).sum(axis=2)  # (2, 2048) -> (2, 256, 8) -> (2, 256)
    return np.concatenate([by_channel, by_packet], axis=1)


def offsets(parameters: Floats, grid: PacketGrid) -> Floats:
    """Add what is a channel's to what is each packet's own: (2, channels + packets) -> (2, packets)."""
    channels = grid.shape[2]
    return np.repeat(parameters[:, :channels], grid.groups, axis=1) + parameters[:, channels:]


def _adam(state: State, gradient: Floats, steps: int) -> None:
    """Take one step, at a rate that falls linearly to nothing."""
    state.step += 1
    first, second = DECAYS
    state.first = first * state.first + (1 - first) * gradient
    state.second = second * state.second + (1 - second) * gradient**2
    direction = state.first / (1 - first**state.step) / (np.sqrt(state.second / (1 - second**state.step)) + 1e-8)
    rate = RATE * (1 - (state.step - 1) / steps)
    state.parameters = (state.parameters - rate * direction).astype(np.float32)
    if 2 * state.step > steps:
        state.total = state.total + state.parameters
        state.counted += 1
