"""The learned estimators as Keras models, which run in one graph with the front-end.

`best`: second-order importance. The oracle knows the gradient g of the answer, the edge does not. But training images
tell how g varies and goes together between channels, and a small network tells where in the picture it is large. To
second order, leaving out a set D of packets disturbs the answer by

    d(D) = sum over tiles of w [ sum over positions of x^T P x + m^T T m ]

with x the features of D and m their mean over the tile, P and T the parts of E[g g^T] that are of one position and
common to a tile, and w the tile's saliency. This counts that some absences cancel and others add up (LeCun, Denker,
Solla, "Optimal Brain Damage", NIPS 1989, keep the diagonal; Hassibi, Stork, "Second Order Derivatives for Network
Pruning: Optimal Brain Surgeon", NIPS 1992, the whole form, of weights instead of features). Packets are left out in
rounds, cheapest first given those already gone. Their importance is their turn, as a share of all, plus an offset of
each place, learned from the back-end's answers to what is kept.

`paper`: the front-end's own architecture, from the image to the map of element importances, summed by packet.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers, ops

from gradfec_common.network import INPUT, LAYER, SplitPoint, front_layers
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance import EstimatorFile

Floats = npt.NDArray[np.float32]

# Shares of the packets that have gone after each round of elimination: few rounds where nobody drops.
ROUNDS = (0.25, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 1.0)
WIDTH, DEPTH = 64, 3  # channels and residual blocks of the saliency network
FLOOR = 1e-6  # of a channel's mean: five of the 256 channels are never positive


def tile_sums(elements: tf.Tensor, grid: PacketGrid) -> tf.Tensor:
    """Sum elements (N, H, W, C) over tiles: (N, groups, tiles, C)."""
    _, width, channels = grid.shape
    # (N, 56, 56, 256) -> (N, 8 groups, 7 rows, 8 tiles, 7, 256) -> (N, 8, 8, 256)
    tiles = tf.reshape(elements, (-1, grid.groups, grid.rows, grid.tiles, width // grid.tiles, channels))
    return tf.reduce_sum(tiles, axis=(2, 4))


class Offset(layers.Layer):  # type: ignore[misc]
    """Add a learned value for each place and channel: what is so wherever the camera looks."""

    def build(self, shape: Any) -> None:
        """Make the values, (groups, tiles, C), zero at first."""
        self.values = self.add_weight(shape=shape[1:], initializer="zeros", name="values")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Add them."""
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


def eliminate(form: Floats) -> Floats:
    """Return each packet's turn (packets,), 0 .. packets - 1, to be left out under a quadratic form (groups, C, C).

    Not in the graph: XLA takes several times as long to sort.
    """
    groups, channels, _ = form.shape
    count = groups * channels
    cost = np.diagonal(form, axis1=1, axis2=2).reshape(count) / 2  # (8, 256) -> (2048,): of one absence alone
    turn = np.empty(count, np.float32)
    waiting = np.arange(count)
    start = 0
    for end in (round(share * count) for share in ROUNDS):
        order = np.argsort(cost[waiting], kind="stable")
        gone, waiting = waiting[order[: end - start]], np.sort(waiting[order[end - start :]])
        turn[gone] = np.arange(start, end)
        absent = np.zeros(count, np.float32)
        absent[gone] = 1
        # What is gone makes the loss of what is like it dearer. (8, 256, 256) x (8, 256, 1) -> (2048,)
        cost = cost + np.matmul(form, absent.reshape(groups, channels, 1)).reshape(count)
        start = end
    return np.ascontiguousarray(turn.reshape(groups, channels).T).reshape(count)  # (8, 256) -> (256, 8) -> (2048,)


def element_model(split: SplitPoint) -> keras.Model:
    """Build the paper's proxy: the front-end's architecture, from the normalised image to a map (N, H, W, C) >= 0."""
    image = keras.Input(LAYER[INPUT].shape, name=INPUT)
    tensors: dict[str, Any] = {INPUT: image}
    for layer in front_layers(split.name):
        make = getattr(layers, layer.kind)(name=layer.name, **layer.options)
        inputs = [tensors[name] for name in layer.inbound]
        tensors[layer.name] = make(inputs if len(inputs) > 1 else inputs[0])
    return keras.Model(image, layers.ReLU()(tensors[split.name]), name="element_importance")


class Proxy:
    """A learned estimator in the front-end's graph."""

    def __init__(self, file: EstimatorFile, split: SplitPoint) -> None:
        """Build it from a file; UsageError where the file is for another split, or lacks an array."""
        self.grid = grid = PacketGrid(split.shape, file.about["rows"])
        file.check_fits(split, grid)
        self.of_image = file.about["recipe"] == "paper"
        self.model = element_model(split) if self.of_image else saliency_model(grid)
        for weight in self.model.weights:
            weight.assign(file.array(weight.path, tuple(weight.shape)))
        channels = grid.shape[2]
        self.offset = np.zeros(grid.count, np.float32) if self.of_image else file.array("offset", (grid.count,))
        matrices = () if self.of_image else ("sensitivity/position", "sensitivity/tile")
        self.sensitivity = tuple(tf.constant(file.array(name, (channels, channels))) for name in matrices)

    def __call__(self, image: tf.Tensor, chi: tf.Tensor) -> tf.Tensor:
        """Look at normalised images (N, 224, 224, 3) and their features chi (N, H, W, C), in the graph.

        What comes out is for `importance`.
        """
        if self.of_image:
            tiles = tile_sums(self.model(image, training=False), self.grid)
            packets = tf.reduce_sum(tiles, axis=2)  # (N, 8, 8, 256) -> (N, 8, 256)
            return tf.reshape(tf.transpose(packets, (0, 2, 1)), (-1, self.grid.count))  # -> (N, 256, 8) -> (N, 2048)
        positive = tf.nn.relu(chi)
        sums = [tile_sums(positive, self.grid), tile_sums(tf.square(positive), self.grid)]
        saliency = tf.nn.softmax(self.model(sums, training=False))
        return damage(positive, saliency, self.sensitivity, self.grid)

    def importance(self, seen: Floats) -> tuple[Floats, Floats | None]:
        """Turn what the graph gave into scores (N, packets), and the form (N, groups, C, C) where it was that."""
        if self.of_image:
            return seen, None
        turns = np.stack([eliminate(form) for form in seen])
        return turns / np.float32(self.grid.count) + self.offset, seen
