"""A network's layers as LiteRT operations: either half of it, for any cut, built from the weights.

So an edge needs neither TensorFlow nor a converted model file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gradfec_common.networks import Cut, Layer
from gradfec_host.litert_graph import NO_ACTIVATION, RELU, Graph, Tensor
from gradfec_host.weights import Weights

Floats = npt.NDArray[np.float32]
Arrays = Callable[[str], list[Floats]]  # a layer's arrays, in Keras's order


def front_end(graph: Graph, image: Tensor, cut: Cut, weights: Weights) -> Tensor:
    """Add the layers from the normalised image (1, height, width, 3) to chi (1, H, W, C)."""
    chi = add_layers(graph, {cut.network.input.name: image}, cut.front_layers, cut.name, weights.arrays)
    # avg_pool's (1, C) -> (1, 1, 1, C); a cut at the input needs at least one operation
    return graph.reshape(chi, (1, *cut.shape)) if chi.shape != (1, *cut.shape) or chi is image else chi


def back_end(graph: Graph, chi: Tensor, cut: Cut, weights: Weights) -> Tensor:
    """Add the layers from chi (1, H, W, C) to the output, for a classifier probabilities (1, classes)."""
    return add_layers(graph, {cut.received.name: chi}, cut.back_layers, cut.network.output.name, weights.arrays)


def add_layers(graph: Graph, there: Mapping[str, Tensor], layers: Sequence[Layer], last: str, arrays: Arrays) -> Tensor:
    """Add layers and return the output of `last`; `there` holds the outputs, by layer, that exist already.

    A convolution absorbs the normalisation and the ReLU after it, and a sum its ReLU, unless another layer needs the
    tensor in between.
    """
    tensors = dict(there)
    consumers: dict[str, list[Layer]] = {}
    for layer in layers:
        for source in layer.inbound:
            consumers.setdefault(source, []).append(layer)

    def follower(layer: Layer, kind: str) -> Layer | None:
        """Return the only layer that takes this one's output, if its kind is `kind`."""
        after = consumers.get(layer.name, [])
        return after[0] if layer.name != last and len(after) == 1 and after[0].kind == kind else None

    for layer in layers:
        if layer.name in tensors:
            continue  # absorbed
        sources = [tensors[name] for name in layer.inbound]
        end = layer
        if layer.kind == "Conv2D":
            kernel, bias = arrays(layer.name)
            if normalisation := follower(layer, "BatchNormalization"):
                scale, shift = affine(normalisation, arrays)
                kernel, bias, end = kernel * scale, bias * scale + shift, normalisation
            activation = follower(end, "Activation")
            out = graph.convolution(
                sources[0], kernel, bias, number(layer, "strides"), str(layer.options["padding"]), fused(activation)
            )
        elif layer.kind == "Conv2DTranspose":
            activation = follower(layer, "Activation")
            kernel, bias = arrays(layer.name)
            out = graph.enlarging_convolution(sources[0], kernel, bias, number(layer, "strides"), fused(activation))
        elif layer.kind == "Add":
            activation = follower(layer, "Activation")
            out = graph.add(sources[0], sources[1], fused(activation))
        else:
            activation = None
            out = operation(graph, layer, sources[0], arrays)
        for name in {layer.name, end.name, (activation or end).name}:
            tensors[name] = out
    return tensors[last]


def operation(graph: Graph, layer: Layer, x: Tensor, arrays: Arrays) -> Tensor:
    """Add a layer with one input that absorbs nothing."""
    match layer.kind:
        case "BatchNormalization":
            scale, shift = affine(layer, arrays)
            return graph.add(graph.multiply(x, scale), shift)
        case "Activation":
            return graph.relu(x)
        case "ZeroPadding2D":
            return graph.pad(x, number(layer, "padding"))
        case "MaxPooling2D":
            size, strides = number(layer, "pool_size"), number(layer, "strides")
            return graph.pool(x, (size, size), (strides, strides))
        case "GlobalAveragePooling2D":
            return graph.over_image(x, mean=True)
        case "Dense":
            kernel, bias = arrays(layer.name)
            flat = graph.reshape(x, (1, kernel.shape[0]))  # (1, 1, 1, C) or (1, C) -> (1, C)
            return graph.softmax(graph.dense(flat, kernel, bias))
    raise NotImplementedError(f"{layer.name} is a {layer.kind}, which has no LiteRT operation here")


def affine(layer: Layer, arrays: Arrays) -> tuple[Floats, Floats]:
    """Return a trained batch normalisation as a scale and a shift (C,)."""
    gamma, beta, mean, variance = arrays(layer.name)
    scale = gamma / np.sqrt(variance + np.float32(str(layer.options["epsilon"])))
    return scale, beta - mean * scale


def fused(activation: Layer | None) -> int:
    """Return the activation of an operation that absorbs a ReLU, or none."""
    return int(RELU if activation else NO_ACTIVATION)


def number(layer: Layer, option: str) -> int:
    """Return an option as a whole number."""
    return int(str(layer.options[option]))
