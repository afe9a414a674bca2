"""The back-end's answers, as fast as this machine can: sweeps ask for hundreds of answers an image.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_cloud.backend import load_back_end
from gradfec_cloud.backend.keras_runtime import build_model
from gradfec_common.networks import Cut
from gradfec_host.quiet import quiet_tensorflow
from gradfec_host.runtimes import LITERT, choose_runtime
from gradfec_host.weights import Weights

with quiet_tensorflow():
    import tensorflow as tf

BATCH = 8

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.intp]


def fastest_answers(cut: Cut, weights: Weights) -> Answers | LiteRTAnswers:
    """Return a callable from feature tensors (N, H, W, C) to their most likely classes (N,), any N.

    Without a GPU it uses LiteRT, if that is installed.
    """
    if tf.config.list_physical_devices("GPU") or choose_runtime() != LITERT:
        return Answers(cut, weights)
    return LiteRTAnswers(cut, weights)


class LiteRTAnswers:
    """The most likely class of feature tensors, with LiteRT."""

    def __init__(self, cut: Cut, weights: Weights) -> None:
        """Build the layers after `cut`."""
        self._back_end = load_back_end(LITERT, cut, weights, max_batch=1)

    def __call__(self, chi: Floats) -> Classes:
        """Return the classes (N,) of chi (N, H, W, C) float32, any N."""
        return self.likeliest(chi)[0]

    def likeliest(self, chi: Floats) -> tuple[Classes, Floats]:
        """Return the classes (N,) of chi (N, H, W, C) float32, any N, and their probabilities (N,)."""
        found = np.stack([self._back_end(chi[n : n + 1])[0] for n in range(len(chi))])
        return found.argmax(axis=1), found.max(axis=1)


class Answers:
    """The most likely class of feature tensors, with TensorFlow."""

    def __init__(self, cut: Cut, weights: Weights) -> None:
        """Build the layers after `cut`, and compile them with XLA for batches of BATCH."""
        self.cut = cut
        model = build_model(cut, weights)

        def likeliest(chi: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found = model(chi, training=False)
            return tf.argmax(found, axis=-1), tf.reduce_max(found, axis=-1)

        signature = [tf.TensorSpec((BATCH, *cut.received.shape), tf.float32)]
        self._run = tf.function(likeliest, input_signature=signature, jit_compile=True, autograph=False)

    def __call__(self, chi: Floats) -> Classes:
        """Return the classes (N,) of chi (N, H, W, C) float32, any N."""
        return self.likeliest(chi)[0]

    def likeliest(self, chi: Floats) -> tuple[Classes, Floats]:
        """Return the classes (N,) of chi (N, H, W, C) float32, any N, and their probabilities (N,)."""
        classes, scores = [np.empty(0, np.intp)], [np.empty(0, np.float32)]
        for start in range(0, len(chi), BATCH):
            batch = chi[start : start + BATCH]
            gap = np.zeros(
                (BATCH - len(batch), *self.cut.received.shape), np.float32
            )  # XLA would compile again for another size
            found = self._run(np.concatenate([batch, gap]) if len(gap) else batch)
            classes.append(found[0].numpy()[: len(batch)])
            scores.append(found[1].numpy()[: len(batch)])
        return np.concatenate(classes), np.concatenate(scores)
