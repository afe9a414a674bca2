"""Cutting a graph in two."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from gradfec_common.networks import Cut
from gradfec_common.networks.carried import Carried
from gradfec_common.networks.imported import Imported, ImportedCut
from gradfec_host.models.graph import needed_by
from gradfec_host.models.store import FRONT


def cut_half(whole: bytes, side: str, cut: Cut) -> bytes:
    """Return the "front" or "back" half of a graph for a cut, as an ONNX file."""
    assert isinstance(cut, ImportedCut) and isinstance(cut.network, Imported)  # noqa: S101
    proto = _parsed(whole)
    if side == FRONT:
        return part(proto, (cut.network.fed,), [one.name for one in cut.carried])
    return part(proto, cut.carried, cut.network.outputs)


def part(proto: ModelProto, inputs: Sequence[Carried], outputs: Sequence[str]) -> bytes:
    """Return the part from `inputs` to `outputs`, as an ONNX file; an output that is an input passes through."""
    there = {one.name for one in inputs}
    needed, kept = set(outputs) - there, list[NodeProto]()
    for node in reversed(proto.graph.node):
        if needed.isdisjoint(node.output):
            continue
        kept.append(node)
        needed |= needed_by(node) - there
    nodes = kept[::-1]
    taken = there | needed | {name for node in nodes for name in node.output}
    made = {name: _free(name, taken) if name in there else name for name in outputs}
    nodes += [helper.make_node("Identity", [name], [out]) for name, out in made.items() if name in there]
    graph = helper.make_graph(
        nodes,
        proto.graph.name or "half",
        [helper.make_tensor_value_info(one.name, TensorProto.FLOAT, one.dims) for one in inputs],
        [onnx.ValueInfoProto(name=out) for out in made.values()],
        [one for one in proto.graph.initializer if one.name in needed],
        sparse_initializer=[one for one in proto.graph.sparse_initializer if one.values.name in needed],
    )
    half = helper.make_model(
        graph, ir_version=proto.ir_version, opset_imports=proto.opset_import, functions=proto.functions
    )
    data: bytes = half.SerializeToString()
    return data


def _free(name: str, taken: set[str]) -> str:
    """Return a name for a copy of a tensor, which no other has."""
    while name in taken:
        name += "/out"
    return name


@lru_cache(1)
def _parsed(whole: bytes) -> ModelProto:
    return onnx.load_from_string(whole)
