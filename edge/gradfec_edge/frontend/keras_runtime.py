"""The front-end on TensorFlow, through Keras: one function, compiled by XLA.

Importing this module imports TensorFlow, which takes seconds: import it where it is needed, not at start-up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfec_common.networks import Cut
from gradfec_common.networks.pixels import normalise
from gradfec_edge.frontend import Features
from gradfec_edge.importance import EstimatorFile
from gradfec_host.quiet import quiet_tensorflow
from gradfec_host.weights import Weights

with quiet_tensorflow():
    import keras
    import tensorflow as tf

    from gradfec_edge.frontend.keras_proxy import Proxy

keras.config.set_image_data_format("channels_last")  # whatever the user's keras.json says


def build_model(cut: Cut, weights: Weights) -> keras.Model:
    """Build the Keras model from the normalised image (N, side, side, 3) to chi (N, H, W, C) float32.

    Only the layers before the cut are built, and only their arrays are read.
    """
    first = cut.network.input
    image = keras.Input(first.shape, name=first.name)
    tensors: dict[str, Any] = {first.name: image}
    for layer in cut.front_layers:
        make = getattr(keras.layers, layer.kind)(name=layer.name, **layer.options)
        inputs = [tensors[name] for name in layer.inbound]
        tensors[layer.name] = make(inputs if len(inputs) > 1 else inputs[0])
        make.set_weights(weights.arrays(layer.name))
    chi = keras.layers.Reshape(cut.shape, name="chi")(tensors[cut.name])  # avg_pool's (N, C) -> (N, 1, 1, C)
    return keras.Model(image, chi, name="front_end")


class KerasFrontEnd:
    """Images in, feature tensors chi out, and their packets' importance; one image at a time or a batch."""

    def __init__(self, cut: Cut, weights: Weights, proxy: EstimatorFile | None = None) -> None:
        """Build the layers up to `cut`, and `proxy` with them; GradfecError if `weights` lacks an array."""
        self.cut = cut
        self.model = build_model(cut, weights)
        self.proxy = Proxy(proxy, cut) if proxy else None

        def run(image: tf.Tensor) -> tuple[tf.Tensor, ...]:
            chi = self.model(image, training=False)
            return (chi, self.proxy(image, chi)) if self.proxy else (chi,)

        # XLA fuses normalisation and ReLU into the convolutions, measured at 0.7 of the time. It compiles once for each
        # batch size, of which the edge uses one.
        self._run = tf.function(run, jit_compile=True, autograph=False)

    def warm_up(self) -> None:
        """Compile for one image, so that the first frame is as fast as the rest."""
        self(np.zeros(self.cut.network.input.shape, np.uint8))

    def __call__(self, image: NDArray[np.uint8]) -> Features:
        """Return the features of an RGB image (h, w, 3) uint8, or of N, with arrays that then have N entries."""
        batch = image if image.ndim == 4 else image[np.newaxis]  # (224, 224, 3) -> (1, 224, 224, 3)
        chi, *seen = (array.numpy() for array in self._run(normalise(batch, self.cut.network.preprocess)))
        found = Features(chi, *self.proxy.rank(seen[0])) if self.proxy else Features(chi)
        if image.ndim == 4:
            return found
        return Features(chi[0], *(None if array is None else array[0] for array in (found.scores, found.damage)))


class ProxyModel:
    """A learned estimator alone, of features that are already there: for comparing several of the same images."""

    def __init__(self, file: EstimatorFile, cut: Cut) -> None:
        """Build it from a file; UsageError if the file is for another cut, or lacks an array."""
        self._preprocess = cut.network.preprocess
        self._proxy = Proxy(file, cut)
        self._run = tf.function(self._proxy, jit_compile=True, autograph=False)

    def __call__(self, images: NDArray[np.uint8], chi: NDArray[np.float32]) -> Features:
        """Add to features chi (N, H, W, C) of RGB images (N, side, side, 3) what the estimator says of them."""
        seen = self._run(normalise(images, self._preprocess), chi)
        return Features(chi, *self._proxy.rank(seen.numpy()))
