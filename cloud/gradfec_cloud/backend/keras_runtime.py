"""The back-end on TensorFlow, through Keras, as one compiled function. The cloud's only Keras.

Importing this module imports TensorFlow, which takes seconds: import it where it is needed, not at start-up.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfec_cloud.backend import check_features
from gradfec_common.networks import Cut
from gradfec_host.quiet import quiet_tensorflow
from gradfec_host.weights import Weights

with quiet_tensorflow():
    import keras
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # already in use: too late, but harmless
            tf.config.experimental.set_memory_growth(gpu, True)  # take memory as needed, not the whole card

keras.config.set_image_data_format("channels_last")  # whatever the user's keras.json says


def build_model(cut: Cut, weights: Weights) -> keras.Model:
    """Build the Keras model from chi (N, H, W, C) float32 to the outputs, for a classifier (N, classes)."""
    chi = keras.Input(cut.received.shape, name="chi")
    tensors: dict[str, Any] = {cut.received.name: chi}
    for layer in cut.back_layers:
        blank = {"kernel_initializer": "zeros"} if "kernel" in layer.arrays else {}  # drawing values takes 0.3 s
        make = getattr(keras.layers, layer.kind)(name=layer.name, **layer.options, **blank)
        inputs = [tensors[name] for name in layer.inbound]
        tensors[layer.name] = make(inputs if len(inputs) > 1 else inputs[0])
        make.set_weights(weights.arrays(layer.name))
    output = cut.network.output
    # With a cut after the pooling, chi is (N, 1, 1, C), and so the output is (N, 1, 1, classes).
    flat = keras.layers.Reshape(output.shape[-1:], name="outputs")(tensors[output.name])
    return keras.Model(chi, flat, name="back_end")


class KerasBackEnd:
    """Feature tensors in, outputs out; any batch of 1 to `max_batch` without compiling again."""

    def __init__(self, cut: Cut, weights: Weights, max_batch: int = 8) -> None:
        """Build the layers after `cut`; GradfecError if `weights` lacks one of their arrays."""
        self.cut = cut
        self.max_batch = max_batch
        self.model = build_model(cut, weights)
        # Not XLA: it would compile for seconds at each new batch size, to win a tenth at batch 1 and nothing at 8.
        signature = [tf.TensorSpec((None, *cut.received.shape), tf.float32)]
        self._run = tf.function(lambda chi: self.model(chi, training=False), input_signature=signature, autograph=False)

    def warm_up(self) -> None:
        """Trace and optimise, so that the first tensor is served as fast as the rest; batches cost nothing extra."""
        self(np.zeros((1, *self.cut.received.shape), np.float32))

    def __call__(self, chi: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 outputs (N, classes) of chi (N, H, W, C) float32; ValueError for any other shape or N."""
        check_features(chi, self.cut, self.max_batch)
        outputs: NDArray[np.float32] = self._run(chi).numpy()
        return outputs
