"""The learned estimators as Keras models, which run in one graph with the front-end.

`best`: second-order importance, see `gradfec_edge.importance.second_order`.

`paper`: the front-end's own architecture, from the image to the map of element importances, summed by packet.
"""

from __future__ import annotations

from typing import Any

from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance import EstimatorFile
from gradfec_edge.importance.second_order import DEPTH, FLOOR, WIDTH, Ranking
from gradfec_host.quiet import quiet_tensorflow

with quiet_tensorflow():
    import keras
    import tensorflow as tf
    from keras import layers, ops

keras.config.set_image_data_format("channels_last")  # whatever the user's keras.json says


def tile_sums(elements: tf.Tensor, grid: PacketGrid) -> tf.Tensor:
    """Sum elements (N, H, W, C) over tiles: (N, groups, tiles, C)."""
    _, width, channels = grid.shape
    # (N, 56, 56, 256) -> (N, 8 groups, 7 rows, 8 tiles, 7, 256) -> (N, 8, 8, 256)
    tiles = tf.reshape(elements, (-1, grid.groups, grid.rows, grid.tiles, width // grid.tiles, channels))
    return tf.reduce_sum(tiles, axis=(2, 4))


class Offset(layers.Layer):  # type: ignore[misc]
    """Add a learned value for each place and channel: what does not depend on the image."""

    def build(self, shape: Any) -> None:
        """Make the values, (groups, tiles, C), zero at first."""
        self.values = self.add_weight(shape=shape[1:], initializer="zeros", name="values")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Add the values to inputs (N, groups, tiles, C)."""
        return inputs + self.values


class Logarithm(layers.Layer):  # type: ignore[misc]
    """log(1 + x / m) with m a mean over training images, which is kept with the weights."""

    def build(self, shape: Any) -> None:
        """Make m, (C,)."""
        self.mean = self.add_weight(shape=shape[-1:], initializer="ones", name="mean", trainable=False)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Compress the very skewed sums."""
        return ops.log1p(inputs / ops.maximum(self.mean, FLOOR))


def saliency_model(grid: PacketGrid) -> keras.Model:
    """Build the network from sums over tiles of chi and chi^2, (N, groups, tiles, C) each, to logits (N, tiles).

    The softmax of the logits is each tile's share in the squared gradient.
    """
    shape = (grid.groups, grid.tiles, grid.shape[2])
    energy, power = keras.Input(shape, name="energy"), keras.Input(shape, name="power")
    x = layers.Concatenate()([Logarithm(name="log_energy")(energy), Logarithm(name="log_power")(power)])
    x = layers.ReLU()(Offset(name="place")(layers.Dense(WIDTH, name="reduce")(x)))
    for n in range(DEPTH):
        near = layers.Conv2D(WIDTH, 3, padding="same", name=f"near_{n}")(x)
        whole = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
        whole = layers.Reshape((1, 1, WIDTH))(layers.Dense(WIDTH, name=f"whole_{n}")(whole))  # (N, 64) -> (N, 1, 1, 64)
        x = layers.Add()([x, layers.ReLU()(layers.Add()([near, whole]))])
    logits = Offset(name="prior")(layers.Dense(1, name="saliency")(x))
    return keras.Model([energy, power], layers.Reshape((-1,))(logits), name="saliency")  # (N, 8, 8, 1) -> (N, 64)


def damage(chi: tf.Tensor, saliency: tf.Tensor, sensitivity: tuple[tf.Tensor, ...], grid: PacketGrid) -> tf.Tensor:
    """Return the quadratic form d (N, groups, C, C) of chi (N, H, W, C): packets of other row groups do not interact.

    `saliency` (N, tiles) are shares, `sensitivity` P and T, (C, C) each.
    """
    _, width, channels = grid.shape
    across, groups = grid.tiles, grid.groups
    # (N, 56, 56, 256) -> (N, 8, 7, 8, 7, 256), weighted, -> (N, 8 groups, 392 positions, 256)
    tiles = tf.reshape(chi, (-1, groups, grid.rows, across, width // across, channels))
    weighted = tiles * tf.sqrt(tf.reshape(saliency, (-1, groups, 1, across, 1, 1)))
    positions = tf.reshape(weighted, (-1, groups, grid.rows * width, channels))
    means = tf.reduce_mean(weighted, axis=(2, 4))  # (N, 8, 7, 8, 7, 256) -> (N, 8 groups, 8 tiles, 256)
    by_position = tf.matmul(positions, positions, transpose_a=True) * sensitivity[0]  # (N, 8, 256, 256)
    return by_position + tf.matmul(means, means, transpose_a=True) * sensitivity[1]


def element_model(cut: Cut) -> keras.Model:
    """Build the paper's proxy: the front-end's architecture, from the normalised image to a map (N, H, W, C) >= 0."""
    first = cut.network.input
    image = keras.Input(first.shape, name=first.name)
    tensors: dict[str, Any] = {first.name: image}
    for layer in cut.front_layers:
        make = getattr(layers, layer.kind)(name=layer.name, **layer.options)
        inputs = [tensors[name] for name in layer.inbound]
        tensors[layer.name] = make(inputs if len(inputs) > 1 else inputs[0])
    return keras.Model(image, layers.ReLU()(tensors[cut.name]), name="element_importance")


class Proxy:
    """A learned estimator in the front-end's graph."""

    def __init__(self, file: EstimatorFile, cut: Cut) -> None:
        """Build it from a file; UsageError if the file is for another cut, or lacks an array."""
        self.rank = Ranking(file, cut)
        self.grid, self.of_image = self.rank.grid, self.rank.of_image
        self.model = element_model(cut) if self.of_image else saliency_model(self.grid)
        for weight in self.model.weights:
            weight.assign(file.array(weight.path, tuple(weight.shape)))
        channels = self.grid.shape[2]
        matrices = () if self.of_image else ("sensitivity/position", "sensitivity/tile")
        self.sensitivity = tuple(tf.constant(file.array(name, (channels, channels))) for name in matrices)

    def __call__(self, image: tf.Tensor, chi: tf.Tensor) -> tf.Tensor:
        """Look at normalised images (N, side, side, 3) and their features chi (N, H, W, C), in the graph.

        What comes out is for `rank`.
        """
        if self.of_image:
            tiles = tile_sums(self.model(image, training=False), self.grid)
            packets = tf.reduce_sum(tiles, axis=2)  # (N, 8, 8, 256) -> (N, 8, 256)
            return tf.reshape(tf.transpose(packets, (0, 2, 1)), (-1, self.grid.count))  # -> (N, 256, 8) -> (N, 2048)
        positive = tf.nn.relu(chi)
        sums = [tile_sums(positive, self.grid), tile_sums(tf.square(positive), self.grid)]
        saliency = tf.nn.softmax(self.model(sums, training=False))
        return damage(positive, saliency, self.sensitivity, self.grid)
