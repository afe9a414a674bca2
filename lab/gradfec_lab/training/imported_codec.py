"""Bottlenecks for imported networks: ONNX Runtime computes the features, and ONNX files hold encoder and decoder.

The network itself runs only in ONNX Runtime, which has no gradients. The part after the decoder also runs in PyTorch,
as far as PyTorch has the operators, so the second stage sees what features lead to deep in the network. Without that
part, training only minimises the first stage's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, TensorProto, helper, numpy_helper

from gradfec_common.bottlenecks import Bottleneck
from gradfec_common.bottlenecks.narrow import has_maps
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut, Layer
from gradfec_common.networks.carried import apart, together
from gradfec_common.networks.imported import ImportedCut
from gradfec_common.networks.network import Shape
from gradfec_edge.frontend import load_front_end
from gradfec_host.codec_file import HALVES
from gradfec_host.models import Model
from gradfec_host.models.halves import part
from gradfec_host.models.session import OnnxSession
from gradfec_host.models.store import BACK
from gradfec_lab.training.job_parts import Parts

OPSET = 17
RUN_BY_PYTORCH = {
    "Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "Div", "Elu", "Erf", "Exp",
    "Gemm", "GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Max", "MaxPool",
    "Min", "Mul", "Neg", "Pow", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
}  # fmt: skip
OF_WHOLE_IMAGES = {  # and training sees parts of them
    "ConvTranspose", "Flatten", "Gather", "InstanceNormalization", "LayerNormalization", "MatMul",
    "PRelu", "Pad", "ReduceMax", "ReduceMean", "ReduceSum", "Reshape", "Resize", "Slice", "Softmax", "Split",
    "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
POINT_BY_POINT = {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Concat"}
ONNX_KINDS = {"Conv2D": "Conv", "Conv2DTranspose": "ConvTranspose", "Activation": "Relu", "Add": "Add"}
ONNX_ORDER = {"Conv2D": (3, 2, 0, 1), "Conv2DTranspose": (3, 2, 0, 1)}  # (h, w, in, out) or (h, w, out, in)


def fitting_cut(cut: Cut) -> Cut:
    """Return a cut; UsageError if anything but the features of convolutions crosses an imported network's."""
    if not isinstance(cut, ImportedCut):
        return cut
    if cut.pixels is not None:
        raise UsageError(f"{cut.name} is the picture: a bottleneck needs features, name a --split behind it")
    if not has_maps(cut):
        dims = next(" x ".join(map(str, one.dims)) for one in cut.carried if one.layout not in ("nchw", "nhwc"))
        raise UsageError(
            f"a tensor {dims} crosses {cut.name}: a bottleneck needs features with height and width, 1 x channels x "
            f"height x width; name another --split, see gradfec model show {cut.network.name} --all"
        )
    return cut


def imported_parts(bottleneck: Bottleneck, model: Model) -> Parts:
    """Return what a job has to know: the shapes of the features, and what follows, as far as PyTorch can run it."""
    network = bottleneck.cut.network
    joins = network.cut(bottleneck.joins)
    places = {cut.name: asdict(Layer(cut.name, "", (), cut.shape)) for cut in (network.cuts[0], bottleneck.cut, joins)}
    graph = onnx.load_from_string(model.half(BACK, joins)).graph
    assert isinstance(joins, ImportedCut)  # noqa: S101
    nodes, arrays = runnable(graph, {one.name for one in joins.carried})
    made = {node["output"] for node in nodes} | {one.name for one in joins.carried}
    behind = reversed(network.cuts[network.cuts.index(joins) + 1 :])
    later = [cut.carried for cut in behind if isinstance(cut, ImportedCut)]
    maps = [[one.name for one in carried] for carried in later if {one.layout for one in carried} == {"nchw"}]
    said = {
        "layers": [*places.values()],
        "watched": [[], [names for names in maps if {*names} <= made]],  # the first stage learns as much without
        "nodes": nodes,
        "joined": [asdict(one) for one in joins.carried],
    }
    return Parts(said, arrays)


def _constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Return the weights of a graph, and its other constants that are tensors."""
    given = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    return {name: one for name, one in given.items() if one.data_type} | {one.name: one for one in graph.initializer}


def runnable(
    graph: GraphProto, sources: set[str], whole_images: bool = False
) -> tuple[list[dict[str, Any]], Callable[[], dict[str, npt.NDArray[Any]]]]:
    """Return the nodes behind some tensors that PyTorch can run, and what loads the arrays that they need.

    With `whole_images`, those are among them that cannot be run on a part of an image.
    """
    constants = _constants(graph)
    kinds = RUN_BY_PYTORCH | (OF_WHOLE_IMAGES if whole_images else set())
    there = {*sources, "", *constants}
    found = []
    for node in graph.node:
        options = {one.name: _plain(helper.get_attribute_value(one)) for one in node.attribute}
        if not {*node.input} <= there or _is_odd(node.op_type, options):
            continue
        if node.op_type not in kinds and not _enlarges(node, constants):
            continue
        sides = [side for name in node.input if name in constants for side in constants[name].dims[-2:]]
        if node.op_type in POINT_BY_POINT and max(sides, default=1) > 1 and not whole_images:
            continue  # it is for whole images
        outputs = [*node.output] if node.op_type == "Split" else [node.output[0]]
        there |= {*outputs}
        for number, output in enumerate(outputs):
            which = {"number": number, "of": len(outputs)} if node.op_type == "Split" else {}
            found.append({"kind": node.op_type, "inputs": [*node.input], "output": output, "options": options | which})
    needed = {name for node in found for name in node["inputs"]}
    arrays = {name: one for name, one in constants.items() if name in needed}
    return found, lambda: {name: numpy_helper.to_array(one).copy() for name, one in arrays.items()}


def _enlarges(node: onnx.NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Return whether a node resizes maps (N, C, H, W) by constants, which a part of an image allows, too."""
    if node.op_type != "Resize" or len(node.input) != 3 or node.input[2] not in constants:
        return False
    scales = numpy_helper.to_array(constants[node.input[2]]).tolist()
    return scales[:2] == [1, 1] and len(scales) == 4 and all(side >= 1 and side == int(side) for side in scales[2:])


def _is_odd(kind: str, options: Mapping[str, Any]) -> bool:
    """Return whether `Nodes` lacks what the options ask for."""
    if kind == "Resize":
        way = options.get("mode", "nearest"), options.get("coordinate_transformation_mode", "half_pixel")
        rounded_down = options.get("nearest_mode") == "floor"
        known = way in {("linear", "asymmetric"), ("linear", "half_pixel")}
        return not known and not (way == ("nearest", "asymmetric") and rounded_down)
    if kind == "Cast":
        return int(options["to"]) not in FLOATS
    if kind == "Pad":
        return bool(options.get("mode", "constant") != "constant")
    padded_mean = kind == "AveragePool" and any(options.get("pads", []))
    odd = options.get("auto_pad", "NOTSET") != "NOTSET" or options.get("ceil_mode") or padded_mean
    dilated = kind == "MaxPool" and any(one != 1 for one in options.get("dilations", []))
    return bool(odd or dilated)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return [*value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def compute_features(folder: Path, bottleneck: Bottleneck, model: Model, advance: Callable[[int], None]) -> None:
    """Compute the features of a job's images, as far as they are not there yet. It needs PyTorch.

    `advance` is told of how many images they are there.
    """
    import torch

    from gradfec_lab.codec.features import Features
    from gradfec_lab.codec.job import Job

    cut, joins = bottleneck.cut, bottleneck.cut.network.cut(bottleneck.joins)
    assert isinstance(cut, ImportedCut) and isinstance(joins, ImportedCut)  # noqa: S101
    front = load_front_end("", cut, model)
    back = onnx.load_from_string(model.half(BACK, cut))
    between = OnnxSession(part(back, cut.carried, [one.name for one in joins.carried]), f"{cut.name} to {joins.name}")
    job = Job(folder)

    def compute(rows: slice) -> list[torch.Tensor]:
        at_cut = [front(image).chi for image in job.images[rows]]
        joined = [together(joins.carried, between(*apart(cut.carried, chi))) for chi in at_cut]
        return [torch.from_numpy(np.stack(one)).permute(0, 3, 1, 2) for one in (at_cut, joined)]

    Features(folder / "features", job, len(job.images)).compute(compute, advance)


def onnx_halves(bottleneck: Bottleneck, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return encoder and decoder with trained arrays, by "layer/array", as the arrays of a codec file."""
    encoder = onnx_file(bottleneck.encoder, bottleneck.cut.name, bottleneck.cut.shape, arrays)
    decoder = onnx_file(bottleneck.decoder, bottleneck.decoder[0].name, bottleneck.decoder[0].shape, arrays)
    return {name: np.frombuffer(data, np.uint8) for name, data in zip(HALVES, (encoder, decoder), strict=True)}


def onnx_file(layers: Sequence[Layer], source: str, shape: Shape, arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return layers as an ONNX file with weights in float16, from the input `source` (1, C, H, W) of `shape` (H, W, C).

    `arrays` has the weights by "layer/array", in the order of Keras.
    """
    nodes, constants = list[onnx.NodeProto](), list[TensorProto]()

    def constant(name: str, array: npt.NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float16), f"{name}/half"))
        nodes.append(helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT))
        return name

    for layer in layers:
        if not layer.inbound:
            continue
        inputs, kind, options = [*layer.inbound], layer.kind, dict[str, Any]()
        if kind in ONNX_ORDER:
            kernel = arrays[f"{layer.name}/kernel"].transpose(ONNX_ORDER[kind])
            bias = arrays[f"{layer.name}/bias"]
            inputs += [constant(f"{layer.name}/kernel", kernel), constant(f"{layer.name}/bias", bias)]
            options = {"strides": [int(str(layer.options["strides"]))] * 2}
            options |= {"auto_pad": "SAME_UPPER"} if layer.options["padding"] == "same" else {}
        nodes.append(helper.make_node(ONNX_KINDS[kind], inputs, [layer.name], **options))
    given, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, channels, height, width))
        for name, (height, width, channels) in ((source, shape), (layers[-1].name, layers[-1].shape))
    )
    graph = helper.make_graph(nodes, "bottleneck", [given], [made], constants)
    data: bytes = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", OPSET)]
    ).SerializeToString()
    return data
