"""A network that a user has brought as an ONNX file: what its manifest says of it.

The graph itself is a file of the model store; a runtime of its own runs it. The manifest has all that both ends must
agree on, and its digest names the network on the wire: the file's hash, how pictures become its input, what crosses
each cut, and what its outputs mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from gradfec_common.errors import UsageError
from gradfec_common.heads import Describable, head_of
from gradfec_common.heads.classify import MAX_LABEL_BYTES
from gradfec_common.networks.carried import Carried, common_shape
from gradfec_common.networks.network import FITS, ORDERS, Cut, Layer, Network, Preprocess

FORMAT = 1  # of manifests
LAYER = "Imported"  # the kind of the layers of such a network: no runtime here builds them


@dataclass(frozen=True, eq=False)
class ImportedCut(Cut):
    """A cut of an imported network: the tensors that are `carried` across it, as one of `shape`.

    `never_below_zero` says that the back-end sees nothing below zero.
    """

    carried: tuple[Carried, ...] = ()
    never_below_zero: bool = False

    @property
    def front_layers(self) -> tuple[Layer, ...]:
        """One layer that stands for all, or none at the input."""
        return () if self.pixels else (self.received,)

    @property
    def back_layers(self) -> tuple[Layer, ...]:
        """One layer that stands for all."""
        return (self.network.output,)

    @property
    def received(self) -> Layer:
        """The tensor that the back-end begins with."""
        return Layer(self.name, LAYER, (), self.shape)

    @property
    def masked(self) -> bool:
        """False."""
        return False

    @property
    def rectified(self) -> bool:
        """Whether the back-end sees nothing below zero."""
        return self.never_below_zero


@dataclass(frozen=True, eq=False)
class Imported(Network):
    """A network from a file: `facts` is what its manifest says, checked.

    A runtime feeds the tensor `fed`, and fetches those called `outputs`. `class_names` are the user's labels.
    """

    head: Describable
    facts: Mapping[str, Any] = field(kw_only=True, repr=False)
    fed: Carried = field(kw_only=True)
    outputs: tuple[str, ...] = field(kw_only=True)
    class_names: tuple[str, ...] = field(default=(), kw_only=True, repr=False)

    @property
    def manifest(self) -> bytes:
        """What determines the meaning of a tensor and its answer, as canonical JSON: neither names nor labels."""
        facts = {key: self.facts[key] for key in ("file", "input", "preprocess", "head", "outputs", "cuts")}
        return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """The places where it can be cut, from the input on; each one's number is its place in the manifest, from 1.

        ValueError if the tensors of one do not go together.
        """
        found = []
        for number, said in enumerate(self.facts["cuts"], 1):
            carried = tuple(_carried(one) for one in said["tensors"])
            name = self.input.name if carried == (self.fed,) else "+".join(one.name for one in carried)
            shape = common_shape(carried)
            if shape is None:
                raise ValueError(f"the tensors of cut {number} do not go together")
            found.append(ImportedCut(self, number, name, shape, carried, bool(said["rectified"])))
        return tuple(found)

    @property
    def usual_cut(self) -> Cut:
        """The default cut."""
        return self.cut(str(self.facts["split"]))

    @cached_property
    def narrowing(self) -> tuple[Cut, ...]:
        """The default cut, and those across which fewer elements travel than across any before, from the input on."""
        found: list[Cut] = []
        for cut in self.cuts:
            if cut is self.usual_cut or not found or cut.elements < min(one.elements for one in found):
                found.append(cut)
        return tuple(found)

    def cut(self, name: str) -> Cut:
        """Return the cut of that name, its tensors in any order; UsageError, with others, if there is none."""
        parts = sorted(name.split("+"))
        for cut in self.cuts:
            if cut.name == name or sorted(cut.name.split("+")) == parts:
                return cut
        near = sorted(self.cuts, key=lambda cut: -_alike(name, cut.name))[:3]
        raise UsageError(
            f"{self.name} has no split point {name[:80]!r}: for example {', '.join(cut.name for cut in near)}; "
            f"gradfec model show {self.name} --all lists them"
        )


def _alike(asked: str, name: str) -> int:
    return max((size for size in range(min(len(asked), len(name)), 2, -1) if asked[:size] in name), default=0)


def imported_network(said: Mapping[str, Any]) -> Imported:
    """Return the network of a manifest; ValueError, KeyError or TypeError if it is not one that this version writes."""
    if said["format"] != FORMAT:
        raise ValueError(f"its format is {said['format']!r}, and this version of gradfec reads {FORMAT}")
    fed = _carried(said["input"])
    preprocess = _preprocess(said["preprocess"])
    if fed.shape != (*preprocess.size, 3):
        raise ValueError(f"pictures of {preprocess.size} do not become {fed.shape}")
    outputs = tuple(str(one["name"]) for one in said["outputs"])
    labels = tuple(str(label) for label in said["labels"])
    if any(len(label.encode()) > MAX_LABEL_BYTES for label in labels):
        raise ValueError(f"a label has more than {MAX_LABEL_BYTES} bytes")
    layers = (
        Layer(fed.name, LAYER, (), fed.shape),
        Layer(outputs[0], LAYER, (fed.name,), (1, 1, math.prod(said["outputs"][0]["dims"]))),
    )
    network = Imported(
        str(said["name"]),
        str(said["name"]),
        layers,
        preprocess,
        head_for(said["head"], labels),
        facts=said,
        fed=fed,
        outputs=outputs,
        class_names=labels,
    )
    if not isinstance(said["split"], str):
        raise ValueError("its split is not a name")
    _ = network.cuts, network.usual_cut  # read them all, so that a wrong one is found here
    return network


def head_for(said: Mapping[str, Any], labels: tuple[str, ...]) -> Describable:
    """Return the head of a manifest; ValueError if there is none, or if there are labels but not one a class."""
    head = head_of(said, labels)
    classes = said.get("classes")
    if labels and classes is not None and len(labels) != classes:
        raise ValueError(f"{len(labels)} labels for {classes} classes")
    return head


def manifest_of_carried(carried: Carried) -> dict[str, Any]:
    """Return what a manifest says of a tensor."""
    return {**asdict(carried), "dims": list(carried.dims)}


def _carried(said: Mapping[str, Any]) -> Carried:
    return Carried(str(said["name"]), tuple(map(int, said["dims"])), str(said["layout"]), float(said["scale"]))


def _preprocess(said: Mapping[str, Any]) -> Preprocess:
    """Return a preprocessing; ValueError or TypeError if pictures cannot be prepared so."""
    made = Preprocess(
        **{**said, **{name: tuple(map(float, said[name])) for name in ("means", "scales")}}  # lists in JSON
    )
    if made.order not in ORDERS or made.fit not in FITS or len(made.means) != 3 or len(made.scales) != 3:
        raise ValueError(f"no picture becomes {made.order} by {made.fit}, {made.means} and {made.scales}")
    if not all(map(math.isfinite, (*made.means, *made.scales))) or min(made.scales) <= 0:
        raise ValueError(f"no picture is normalised by {made.means} and {made.scales}")
    if not 0 < made.keep <= 1 or not 0 <= made.fill <= 255:
        raise ValueError(f"no picture keeps {made.keep} of itself, with {made.fill} around it")
    return made
