"""Networks as values: layers in order, the edges between them, and the places where a network may be cut."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property

from gradfec_common.errors import UsageError
from gradfec_common.heads.head import Head

Shape = tuple[int, int, int]  # (H, W, C)
DIGEST_BYTES = 16
ORDERS = ("rgb", "bgr")
FITS = ("squash", "crop", "pad")
MASKED = "Masked"  # the kind of a layer that appends a mask to a tensor; a concealment makes it, no runtime does


@dataclass(frozen=True)
class Layer:
    """One layer: `kind` is the class in `keras.layers`, `options` its arguments, `shape` its output (H, W, C)."""

    name: str
    kind: str
    inbound: tuple[str, ...]
    shape: Shape
    options: Mapping[str, object] = field(default_factory=dict, hash=False)
    arrays: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)  # in get_weights() order

    @property
    def is_relu(self) -> bool:
        """Whether the layer is a ReLU."""
        return self.kind == "Activation" and self.options.get("activation") == "relu"


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the network's input, `height` x `width` pixels.

    The input is (pixels - means) * scales, in the `order` of colours that the network was trained on: "rgb" or "bgr",
    with `means` and `scales` in that order. `fit` says what happens to a picture of another shape:

    - "squash": the whole picture, not keeping its shape;
    - "crop": the middle, of the input's shape, as large as fits times `keep`;
    - "pad": the whole picture in the middle, with grey of the level `fill` around it.
    """

    height: int
    width: int
    order: str
    means: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scales: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fit: str = "squash"
    keep: float = 1.0
    fill: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """The height and the width."""
        return self.height, self.width


@dataclass(frozen=True, eq=False)
class Cut:
    """A layer whose output is all that the rest of the network needs. It is the last layer of the front-end.

    `id` is its number on the wire (u16, never 0). `shape` is the tensor's (H, W, C), and (1, 1, C) for an output (C,).
    """

    network: Network = field(repr=False)
    id: int
    name: str
    shape: Shape

    @property
    def elements(self) -> int:
        """Elements of the tensor."""
        return math.prod(self.shape)

    @property
    def pixels(self) -> Preprocess | None:
        """How pixels become the tensor, if that is the network's input."""
        return self.network.preprocess if self.name == self.network.input.name else None

    @cached_property
    def front_layers(self) -> tuple[Layer, ...]:
        """The layers of the front-end in order, without the input; the cut's own layer is the last."""
        return self.network.above(self.name)

    @cached_property
    def back_layers(self) -> tuple[Layer, ...]:
        """The layers of the back-end, in order."""
        front = {layer.name for layer in self.front_layers} | {self.network.input.name, self.received.name}
        return tuple(layer for layer in self.network.layers if layer.name not in front)

    @cached_property
    def received(self) -> Layer:
        """The layer whose output the back-end begins with: the cut's, or the same with a mask."""
        return self._masks[0] if self.masked else self.network.by_name[self.name]

    @property
    def masked(self) -> bool:
        """Whether the back-end is told which packets are there."""
        return bool(self._masks)

    @cached_property
    def _masks(self) -> list[Layer]:
        return [layer for layer in self.network.layers if self.name in layer.inbound and layer.kind == MASKED]

    @cached_property
    def rectified(self) -> bool:
        """Whether the back-end sees nothing below zero: the tensor has no such element, or a ReLU comes first."""
        consumers = [layer for layer in self.back_layers if self.name in layer.inbound]
        return self.network.never_negative(self.name) or all(layer.is_relu for layer in consumers)


@dataclass(frozen=True, eq=False)
class Network:
    """A network: its `layers`, the input first and the output last, its preprocessing, and its head.

    `title` is its name for people. Layers name their inputs, and come after them. `labels` names the list of its
    classes' names, if the cloud has one.
    """

    name: str
    title: str
    layers: tuple[Layer, ...]
    preprocess: Preprocess
    head: Head
    labels: str = ""

    @property
    def input(self) -> Layer:
        """The input layer."""
        return self.layers[0]

    @property
    def output(self) -> Layer:
        """The last layer."""
        return self.layers[-1]

    @cached_property
    def by_name(self) -> Mapping[str, Layer]:
        """The layers by name."""
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def manifest(self) -> bytes:
        """Everything but the weights that determines what a tensor and its answer mean, as canonical JSON."""
        parts = {
            "name": self.name,
            "layers": [asdict(layer) for layer in self.layers],
            "preprocess": asdict(self.preprocess),
            "head": self.head.name,
        }
        return json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()

    @cached_property
    def digest(self) -> bytes:
        """The 16 bytes that name the network on the wire: SHA-256 of the manifest, cut short."""
        return hashlib.sha256(self.manifest).digest()[:DIGEST_BYTES]

    def above(self, name: str) -> tuple[Layer, ...]:
        """Return the layers that the output of layer `name` needs, in order, without the input."""
        needed = {name}
        for layer in reversed(self.layers):
            if layer.name in needed:
                needed.update(layer.inbound)
        return tuple(layer for layer in self.layers if layer.name in needed and layer.inbound)

    def never_negative(self, name: str) -> bool:
        """Return whether no element of a layer's output can be below zero."""
        layer = self.by_name[name]
        if layer.kind in {"MaxPooling2D", "GlobalAveragePooling2D", "ZeroPadding2D"}:
            return self.never_negative(layer.inbound[0])
        return layer.is_relu

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """The layers through which every path from the input to the output goes: the dominators of the output."""
        dominators: dict[str, frozenset[str]] = {}
        for layer in self.layers:
            above = [dominators[name] for name in layer.inbound]
            dominators[layer.name] = frozenset.intersection(*above) | {layer.name} if above else frozenset({layer.name})
        found = dominators[self.output.name] - {self.output.name}  # nothing is left to run after the output
        # The number is the layer's place, from 1. It is on the wire, so a test pins ResNet-50's whole table.
        return tuple(
            Cut(self, n, layer.name, layer.shape) for n, layer in enumerate(self.layers, 1) if layer.name in found
        )

    def cut(self, name: str) -> Cut:
        """Return the cut at layer `name`; UsageError, with the reason and other cuts, if there is none."""
        for cut in self.cuts:
            if cut.name == name:
                return cut
        if name not in self.by_name:
            near = difflib.get_close_matches(name, self.by_name, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"for example {self.cuts[len(self.cuts) // 4].name}"
            raise UsageError(f"{self.title} has no layer {name!r}: {hint}")
        if name == self.output.name:
            raise UsageError(f"cannot split at {name!r}: it is the last layer, nothing is left for the back-end to run")
        source, target = self._bypass(name)
        order = [layer.name for layer in self.layers]
        at = order.index(name)
        before = [cut.name for cut in self.cuts if order.index(cut.name) < at][-1]
        after = next((cut.name for cut in self.cuts if order.index(cut.name) > at), None)
        nearest = (
            f"the nearest split points are {before} and {after}" if after else f"the nearest split point is {before}"
        )
        raise UsageError(
            f"cannot split at {name!r}: the back-end needs more than its output, because the branch from {source} to "
            f"{target} goes around it; {nearest}"
        )

    def cut_by_id(self, id: int) -> Cut | None:
        """Return the cut of that number on the wire, or None."""
        return next((cut for cut in self.cuts if cut.id == id), None)

    def _bypass(self, name: str) -> tuple[str, str]:
        """Return one edge (source, target) that leads around layer `name`, which is not a cut."""
        front = {layer.name for layer in self.above(name)} | {self.input.name}
        return next(
            (source, layer.name)
            for layer in self.layers
            if layer.name not in front
            for source in layer.inbound
            if source in front and source != name
        )


def parameters(layers: tuple[Layer, ...]) -> int:
    """Count the float32 parameters of `layers`."""
    return sum(math.prod(shape) for layer in layers for shape in layer.arrays.values())
