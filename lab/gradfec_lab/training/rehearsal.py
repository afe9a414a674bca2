"""Training images on their way: packets are dropped as the edge would drop them, and the back-end answers to the rest.

Where its answer suffers, its gradient says what more or less of each feature would change about that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradfec_common.network import split_point
from gradfec_common.packets import PacketGrid
from gradfec_common.quiet import quiet_tensorflow
from gradfec_common.weights import WeightStore
from gradfec_edge.frontend import FrontEnd
from gradfec_edge.frontend.proxy import with_offsets
from gradfec_edge.importance import EstimatorFile
from gradfec_lab.gradcam import BATCH, logits_of
from gradfec_lab.training.targets import Targets

with quiet_tensorflow():
    import tensorflow as tf

Floats = npt.NDArray[np.float32]

DROPS = (0.35, 0.75)  # shares of the packets dropped: where there is something to learn
WORST_LOSS = 8.0  # nats; beyond that an image is lost, and teaches nothing
WHISPER = 1e-4  # of a dropped packet that the back-end hears, so that its ReLUs pass the gradient on


@dataclass(frozen=True)
class Outcome:
    """What became of a batch: features (N, H, W, C), each packet's turn and score (N, packets), the limits (N, 1) below
    which scores are dropped; the answers' cross-entropy (N,) with those to everything, in nats, 1 where the class is
    the same (N,), and the gradient (N, H, W, C) of the cross-entropy, by the features that the back-end hears.
    """

    chi: Floats
    turns: Floats
    scores: Floats
    limits: Floats
    loss: Floats
    agrees: Floats
    gradient: Floats


class Rehearsal:
    """Sends batches of training images, in a random order, through edge and cloud."""

    def __init__(self, targets: Targets, proxy: EstimatorFile, weights: WeightStore, seed: tuple[int, ...]) -> None:
        """Build both halves; `proxy` ranks, without offsets of its own."""
        self.targets, self.seed, self.grid = targets, seed, targets.grid
        self.front_end = FrontEnd(split_point(targets.settings.split), weights, proxy)
        self.answer = Answering(targets.settings.split, weights, targets.grid)
        self.order = np.random.default_rng(seed).permutation(targets.fit_indices)

    def __call__(self, step: int, offset: Floats) -> Outcome:
        """Send the batch of a step, ranked with `offset` (2, packets)."""
        where = np.take(self.order, range(BATCH * step, BATCH * (step + 1)), mode="wrap")
        chi, turns = self.front_end(self.targets.inputs(where))
        assert turns is not None, "a proxy gives scores"  # noqa: S101
        scores = with_offsets(turns, offset)
        drops = np.random.default_rng([*self.seed, step]).uniform(*DROPS, BATCH)
        limits = np.array([np.quantile(s, drop) for s, drop in zip(scores, drops, strict=True)])[:, None]
        return Outcome(chi, turns, scores, limits, *self.answer(chi, (scores >= limits).astype(np.float32)))


class Answering:
    """The back-end's answers to features with packets missing, and what each feature would change about them."""

    def __init__(self, split: str, weights: WeightStore, grid: PacketGrid) -> None:
        """Compile for a fixed batch."""
        model = logits_of(split_point(split), weights)
        groups, channels = grid.groups, grid.shape[2]

        def run(chi: tf.Tensor, kept: tf.Tensor) -> tuple[tf.Tensor, ...]:
            lossless = model(chi, training=False)
            # (N, 2048) -> (N, 256, 8) -> (N, 8, 256) -> (N, 56 rows, 256) -> (N, 56, 1, 256)
            by_group = tf.transpose(tf.reshape(kept + WHISPER * (1 - kept), (-1, channels, groups)), (0, 2, 1))
            heard = chi * tf.repeat(by_group, grid.rows, axis=1)[:, :, tf.newaxis, :]
            with tf.GradientTape() as tape:
                tape.watch(heard)
                found = model(heard, training=False)
                loss = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(lossless), found)
                total = tf.reduce_sum(tf.minimum(loss, WORST_LOSS))
            agrees = tf.argmax(found, axis=-1) == tf.argmax(lossless, axis=-1)
            return loss, tf.cast(agrees, tf.float32), tape.gradient(total, heard)

        signature = [tf.TensorSpec((BATCH, *grid.shape), tf.float32), tf.TensorSpec((BATCH, grid.count), tf.float32)]
        self._run = tf.function(run, input_signature=signature, jit_compile=True, autograph=False)

    def __call__(self, chi: Floats, kept: Floats) -> tuple[Floats, Floats, Floats]:
        """Answer chi (N, H, W, C) of which the packets `kept` (N, packets), 0 or 1, are there.

        Return the cross-entropy (N,), the agreement (N,) and the gradient (N, H, W, C), as in Outcome.
        """
        loss, agrees, gradient = (array.numpy() for array in self._run(chi, kept))
        return loss, agrees, gradient
