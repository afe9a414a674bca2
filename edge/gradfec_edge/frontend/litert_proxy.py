"""The learned estimators as LiteRT operations, in one graph with the front-end.

What they compute is told in `gradfec_edge.importance.second_order` and `gradfec_edge.frontend.keras_proxy`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance import EstimatorFile
from gradfec_edge.importance.second_order import DEPTH, FLOOR, WIDTH
from gradfec_edge.importance.shipped import OF_IMAGE
from gradfec_host.litert_graph import RELU, Graph, Tensor
from gradfec_host.litert_network import add_layers

Floats = npt.NDArray[np.float32]


def add_proxy(graph: Graph, image: Tensor, chi: Tensor, file: EstimatorFile, cut: Cut, grid: PacketGrid) -> Tensor:
    """Add what an estimator says of a normalised image (1, side, side, 3) and its features chi (1, H, W, C).

    Returns what `gradfec_edge.importance.second_order.Ranking` takes: (1, packets), or (1, groups, C, C).
    """
    if file.about["recipe"] in OF_IMAGE:
        return element_importance(graph, image, file, cut, grid)
    positive = graph.relu(chi)
    return damage(graph, positive, saliency(graph, positive, file, grid), file, grid)


def tile_means(graph: Graph, x: Tensor, grid: PacketGrid) -> Tensor:
    """Take the means of (1, H, W, C) over tiles: (1, groups, tiles, C)."""
    tile = (grid.rows, grid.shape[1] // grid.tiles)
    return graph.pool(x, tile, tile, mean=True)


def area(grid: PacketGrid) -> int:
    """Return the number of positions in a tile."""
    return grid.rows * grid.shape[1] // grid.tiles


def saliency(graph: Graph, positive: Tensor, file: EstimatorFile, grid: PacketGrid) -> Tensor:
    """Return each tile's share in the squared gradient, (1, tiles)."""
    channels, places = grid.shape[2], (grid.groups, grid.tiles)

    def layer(name: str, *shape: int) -> tuple[Floats, Floats]:
        return file.array(f"{name}/kernel", shape), file.array(f"{name}/bias", shape[-1:])

    logs = []
    for x, name in ((positive, "log_energy"), (graph.multiply(positive, positive), "log_power")):
        mean = np.maximum(file.array(f"{name}/mean", (channels,)), FLOOR)
        relative = graph.multiply(tile_means(graph, x, grid), (area(grid) / mean).astype(np.float32))
        logs.append(graph.log(graph.add(relative, np.ones(1, np.float32))))
    x = graph.dense(graph.concatenate(logs), *layer("reduce", 2 * channels, WIDTH))
    x = graph.add(x, file.array("place/values", (*places, WIDTH))[np.newaxis], RELU)
    for n in range(DEPTH):
        near = graph.convolution(x, *layer(f"near_{n}", 3, 3, WIDTH, WIDTH), padding="same")
        both = graph.concatenate([graph.over_image(x, mean=True), graph.over_image(x, mean=False)])
        whole = graph.dense(both, *layer(f"whole_{n}", 2 * WIDTH, WIDTH))
        whole = graph.reshape(whole, (1, 1, 1, WIDTH))  # (1, 64) -> (1, 1, 1, 64)
        x = graph.add(x, graph.add(near, whole, RELU))
    logits = graph.dense(x, *layer("saliency", WIDTH, 1))
    logits = graph.add(logits, file.array("prior/values", (*places, 1))[np.newaxis])
    return graph.softmax(graph.reshape(logits, (1, grid.groups * grid.tiles)))  # (1, 8, 8, 1) -> (1, 64)


def damage(graph: Graph, positive: Tensor, shares: Tensor, file: EstimatorFile, grid: PacketGrid) -> Tensor:
    """Return the quadratic form (1, groups, C, C) of the damage that absent packets do."""
    height, width, channels = grid.shape
    tiles = graph.reshape(graph.sqrt(shares), (1, grid.groups, grid.tiles, 1))  # (1, 64) -> (1, 8, 8, 1)
    weighted = graph.multiply(positive, graph.enlarge(tiles, height, width))
    positions = graph.reshape(weighted, (grid.groups, grid.rows * width, channels))  # (1, 56, 56, 256) -> (8, 392, 256)
    means = graph.reshape(tile_means(graph, weighted, grid), (grid.groups, grid.tiles, channels))  # -> (8, 8, 256)

    def products(x: Tensor, sensitivity: str) -> Tensor:
        together = graph.matrix_product(graph.transpose(x, (0, 2, 1)), x)  # (8, 256, n) x (8, n, 256)
        return graph.multiply(together, file.array(f"sensitivity/{sensitivity}", (channels, channels)))

    form = graph.add(products(positions, "position"), products(means, "tile"))
    return graph.reshape(form, (1, grid.groups, channels, channels))  # (8, 256, 256) -> (1, 8, 256, 256)


def element_importance(graph: Graph, image: Tensor, file: EstimatorFile, cut: Cut, grid: PacketGrid) -> Tensor:
    """Return the packets' sums (1, packets) of the paper's map, of the front-end's architecture."""

    def arrays(layer: str) -> list[Floats]:
        return [file.array(f"{layer}/{name}", shape) for name, shape in cut.network.by_name[layer].arrays.items()]

    first = cut.network.input.name
    elements = graph.relu(add_layers(graph, {first: image}, cut.front_layers, cut.name, arrays))
    elements = graph.reshape(elements, (1, *grid.shape))  # avg_pool's (1, C) -> (1, 1, 1, C)
    sums = graph.multiply(tile_means(graph, elements, grid), np.full(1, area(grid), np.float32))
    packets = graph.sum_over(sums, 2)  # (1, 8, 8, 256) -> (1, 8, 256)
    return graph.reshape(graph.transpose(packets, (0, 2, 1)), (1, grid.count))  # -> (1, 256, 8) -> (1, 2048)
