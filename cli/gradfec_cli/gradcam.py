"""Modified Grad-CAM: the oracle of importance. It needs the back-end, so it cannot run on the edge.

The map is relu(chi * d y_c / d chi), unpooled, one value an element (the paper, section 2.1; Selvaraju et al., ICCV
2017, pool the gradient over each channel, which this does not).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_cloud.backend.keras_runtime import build_model
from gradfec_common.networks import Cut
from gradfec_host.quiet import quiet_tensorflow
from gradfec_host.weights import Weights

with quiet_tensorflow():
    import keras
    import tensorflow as tf

BATCH = 8
SCORES = ("logit", "log-probability")
Floats = npt.NDArray[np.float32]
Logits = Callable[[tf.Tensor], tf.Tensor]  # chi (N, H, W, C) -> (N, classes), before the softmax


class Attribution(NamedTuple):
    """Element importances and gradients (N, H, W, C), the classes (N,) they explain, and all logits (N, classes).

    If the consumer of chi is a ReLU, the gradient is 0 wherever chi is not positive.
    """

    elements: Floats
    gradient: Floats
    classes: npt.NDArray[np.intp]
    logits: Floats


def importance_map(logits: Logits, chi: tf.Tensor, classes: tf.Tensor, score: str) -> tuple[tf.Tensor, ...]:
    """Return relu(chi * g) (N, H, W, C) with g = d y_c / d chi, g, the classes c (N,) and the logits.

    A class below 0 means the network's own top-1. y_c is the class's logit, as in Grad-CAM, or its
    log-probability, whose gradient has the direction of the probability's and does not vanish where that nears 1: it
    also counts against a feature that it supports the other likely classes.
    """
    with tf.GradientTape() as tape:
        tape.watch(chi)
        z = logits(chi)
        chosen = tf.where(classes < 0, tf.argmax(z, axis=-1), classes)
        y = z if score == "logit" else tf.nn.log_softmax(z)
        total = tf.reduce_sum(tf.gather(y, chosen, batch_dims=1))  # images do not interact: one backward pass for all
    gradient = tape.gradient(total, chi)
    return tf.nn.relu(chi * gradient), gradient, chosen, z


def logits_of(cut: Cut, weights: Weights) -> keras.Model:
    """Build the back-end from chi (N, H, W, C) to logits (N, classes): the cloud's layers without the softmax."""
    model = build_model(cut, weights)
    model.get_layer(cut.network.output.name).activation = keras.activations.linear
    return model


class GradCam:
    """The oracle for one cut, compiled for a fixed batch."""

    def __init__(self, cut: Cut, weights: Weights, score: str = SCORES[0], batch: int = BATCH) -> None:
        """Build the back-end of `cut`; `score` is one of SCORES."""
        self.cut, self.batch = cut, batch
        self.model = logits_of(cut, weights)
        signature = [tf.TensorSpec((batch, *cut.received.shape), tf.float32), tf.TensorSpec((batch,), tf.int64)]

        def run(chi: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return importance_map(lambda x: self.model(x, training=False), chi, classes, score)

        self._run = tf.function(run, input_signature=signature, jit_compile=True, autograph=False)

    def __call__(self, chi: Floats, classes: npt.NDArray[np.intp] | None = None) -> Attribution:
        """Explain chi (N, H, W, C) float32, any N; `classes` (N,) are class indices, by default the network's top-1.

        If the back-end takes a mask, it is part of chi (N, H, W, 2C).
        """
        wanted = np.full(len(chi), -1, np.int64) if classes is None else np.asarray(classes, np.int64)
        parts = []
        for start in range(0, len(chi), self.batch):
            batch, own = chi[start : start + self.batch], wanted[start : start + self.batch]
            gap = self.batch - len(batch)  # pad a short batch, because XLA would compile again for its size
            padded = np.concatenate([batch, np.zeros((gap, *self.cut.received.shape), np.float32)])
            parts.append([a.numpy()[: len(batch)] for a in self._run(padded, np.pad(own, (0, gap)))])
        return Attribution(*(np.concatenate(part) for part in zip(*parts, strict=True)))
