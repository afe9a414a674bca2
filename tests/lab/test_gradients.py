"""Gradients of networks that were added: PyTorch runs ONNX's operators, and its gradients are finite differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.onnx_files import SIDE, Drawing, classifier, forked, picture, written

from gradfec_cloud.backend import load_back_end
from gradfec_common.conceal import make_concealment
from gradfec_common.errors import UsageError
from gradfec_common.networks.carried import apart
from gradfec_common.packets import PacketGrid
from gradfec_host.models.add import Wanted, add_model
from gradfec_host.models.graph import Graph
from gradfec_host.models.halves import part
from gradfec_host.models.presets import preprocess_of
from gradfec_host.models.session import OnnxSession
from gradfec_host.models.store import BACK, Model, open_model
from gradfec_lab.gradients import Gradients
from gradfec_lab.model_learn import sensitivity_by, sensitivity_of
from gradfec_lab.training.imported_codec import OF_WHOLE_IMAGES, RUN_BY_PYTORCH, runnable

STEP = 3e-3


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))


def add(tmp_path: Path, proto: onnx.ModelProto, **wanted: Any) -> Model:
    path = written(proto, tmp_path / "small.onnx")
    add_model(path, Graph.read(path), Wanted("small", preprocess_of("unit", (SIDE, SIDE)), **wanted))
    return open_model("small")


def detector() -> onnx.ModelProto:
    """CenterNet's outputs, the heatmap behind a sigmoid, from two scales that a Resize brings together."""
    draw = Drawing(3)
    draw.node("Relu", [draw.convolution("image", "stem.conv", (3, 6), stride=2)], "stem")
    draw.node("Relu", [draw.convolution("stem", "deep.conv", (6, 6), stride=2)], "deep")
    scales = draw.array("scales", np.array([1, 1, 2, 2], np.float32))
    options = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    draw.node("Resize", ["deep", "", scales], "large", **options)
    draw.node("Concat", ["large", "stem"], "neck", axis=1)
    draw.node("Sigmoid", [draw.convolution("neck", "heat", (12, 2), size=1)], "heatmap")
    draw.convolution("neck", "wh", (12, 4), size=1)
    outputs = [("heatmap", (1, 2, 16, 16)), ("wh", (1, 4, 16, 16))]
    return draw.model([picture()], outputs)


def pose() -> onnx.ModelProto:
    """Eight numbers, of which nothing is known."""
    draw = Drawing(4)
    draw.node("Relu", [draw.convolution("image", "stem.conv", (3, 4), stride=4)], "stem")
    draw.node("Reshape", ["stem", draw.array("shape", np.array([0, -1]))], "flat")
    weights = draw.array("kernel", draw.rng.normal(size=(256, 8)).astype(np.float32) / 16)
    draw.node("MatMul", ["flat", weights], "points")
    return draw.model([picture()], [("points", (1, 8))])


def sorted_out() -> onnx.ModelProto:
    """Probabilities that are not the end: behind the softmax comes a Reshape."""
    draw = Drawing(6)
    draw.node("Relu", [draw.convolution("image", "stem.conv", (3, 4), stride=4)], "stem")
    draw.node("Flatten", ["stem"], "flat")
    weights = draw.array("kernel", draw.rng.normal(size=(256, 5)).astype(np.float32) / 16)
    draw.node("Softmax", [draw.node("MatMul", ["flat", weights], "dense")], "soft")
    draw.node("Reshape", ["soft", draw.array("shape", np.array([5]))], "probabilities")
    return draw.model([picture()], [("probabilities", (5,))])


def exported() -> onnx.ModelProto:
    """A classifier whose exporter wrote down how shapes follow from others, as PyTorch's does."""
    draw = Drawing(7)
    draw.node("Relu", [draw.convolution("image", "stem.conv", (3, 4), stride=4)], "stem")
    draw.node("Shape", ["stem"], "sides")
    draw.node("Gather", ["sides", draw.array("first", np.array([0]))], "images", axis=0)
    draw.node("Concat", ["images", draw.array("rest", np.array([-1]))], "shape", axis=0)
    draw.node("Reshape", ["stem", "shape"], "flat")
    weights = draw.array("kernel", draw.rng.normal(size=(256, 5)).astype(np.float32) / 16)
    draw.node("MatMul", ["flat", weights], "logits")
    return draw.model([picture()], [("logits", (1, 5))])


def by_logit(outputs: list[Any]) -> float:
    return float(outputs[0].max())


def by_log_probability(outputs: list[Any]) -> float:
    return float(np.log(outputs[0].max()))


def by_scores(outputs: list[Any]) -> float:
    likely = outputs[0][outputs[0] >= 0.2].astype(np.float64)
    return float(np.log(likely / (1 - likely)).sum())


def by_square(outputs: list[Any]) -> float:
    return float(np.square(outputs[0]).sum())


CASES = {  # the network, the cut, the head, the tensor that is explained, and how
    "logits": (classifier, "stem", None, "logits", by_logit),
    "logits before a softmax": (forked, "stem", None, "dense", by_logit),
    "two tensors of other scales": (forked, "fine.pool+loud", None, "dense", by_logit),
    "probabilities": (sorted_out, "stem", None, "probabilities", by_log_probability),
    "shapes that are computed": (exported, "stem", None, "logits", by_logit),
    "boxes": (detector, "stem", None, "heatmap", by_scores),
    "numbers": (pose, "stem", "raw", "points", by_square),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.torch
def test_the_gradient_is_that_of_finite_differences_in_onnx_runtime(tmp_path: Path, name: str) -> None:
    pytest.importorskip("torch")
    make, split, head, output, value = CASES[name]
    model = add(tmp_path, make(), head=head)
    cut: Any = model.network.cut(split)
    back = OnnxSession(part(onnx.load_from_string(model.whole()), cut.carried, [output]), "back")
    rng = np.random.default_rng(5)
    chi = rng.uniform(0.1, 1, cut.shape).astype(np.float32)
    elements, gradient = Gradients(cut, model)(chi)
    slopes = np.zeros(chi.size)
    for at in range(chi.size):
        ends = []
        for step in (-STEP, STEP):
            other = chi.copy()
            other.flat[at] += step
            ends.append(value(back(*apart(cut.carried, other))))
        slopes[at] = (ends[1] - ends[0]) / (2 * STEP)
    near = np.isclose(gradient.ravel(), slopes, rtol=0, atol=0.02 * np.abs(gradient).max())
    assert near.mean() > 0.98, "all but where a ReLU has its corner"
    np.testing.assert_array_equal(elements, np.maximum(chi * gradient, 0))
    assert elements.max() > 0


ASYMMETRIC = {"coordinate_transformation_mode": "asymmetric"}
OPERATORS: dict[
    str, tuple[str, dict[str, Any], dict[int, Any]]
] = {  # the operator, its options, constant inputs by place
    "a Flatten": ("Flatten", {}, {}),
    "a Flatten from the third axis on": ("Flatten", {"axis": 2}, {}),
    "a Flatten of all": ("Flatten", {"axis": 0}, {}),
    "a MatMul": ("MatMul", {}, {1: np.arange(20, dtype=np.float32).reshape(5, 4)}),
    "a Reshape that keeps an axis": ("Reshape", {}, {1: np.array([0, -1, 2])}),
    "a Softmax": ("Softmax", {}, {}),
    "a Softmax over channels": ("Softmax", {"axis": 1}, {}),
    "a ConvTranspose": (
        "ConvTranspose",
        {"strides": [2, 2], "pads": [1, 0, 0, 1]},
        {1: np.linspace(-1, 1, 54, dtype=np.float32).reshape(3, 2, 3, 3), 2: np.ones(2, np.float32)},
    ),
    "a Gather of several": ("Gather", {"axis": 3}, {1: np.array([4, 0, -2])}),
    "a Gather of one": ("Gather", {"axis": 1}, {1: np.array(2)}),
    "an InstanceNormalization": (
        "InstanceNormalization",
        {},
        {1: np.array([1, 2, 3], np.float32), 2: np.array([0, 1, -1], np.float32)},
    ),
    "a LayerNormalization": (
        "LayerNormalization",
        {"axis": 2},
        {1: np.arange(20, dtype=np.float32).reshape(4, 5), 2: np.ones((4, 5), np.float32)},
    ),
    "a Pad": ("Pad", {}, {1: np.array([0, 1, 0, 2, 0, 0, 3, -1]), 2: np.array(0.5, np.float32)}),
    "a PRelu": ("PRelu", {}, {1: np.array([[[0.1]], [[0.5]], [[2]]], np.float32)}),
    "a ReduceMax": ("ReduceMax", {"axes": [1, -1]}, {}),
    "a ReduceMean that drops the axis": ("ReduceMean", {"axes": [2], "keepdims": 0}, {}),
    "a ReduceMean of all": ("ReduceMean", {}, {}),
    "a ReduceSum": ("ReduceSum", {}, {1: np.array([1])}),
    "a Slice": ("Slice", {}, {1: np.array([1, -4]), 2: np.array([9, -1]), 3: np.array([2, 3]), 4: np.array([1, 2])}),
    "a Slice from the first axes": ("Slice", {}, {1: np.array([0, 1]), 2: np.array([1, 3])}),
    "a Squeeze": ("Squeeze", {}, {1: np.array([0])}),
    "a Squeeze of all": ("Squeeze", {}, {}),
    "an Unsqueeze": ("Unsqueeze", {}, {1: np.array([-1, 1])}),
    "a Transpose": ("Transpose", {"perm": [0, 2, 3, 1]}, {}),
    "a Resize by scales": ("Resize", {"mode": "linear"} | ASYMMETRIC, {2: np.array([1, 1, 2, 3], np.float32)}),
    "a Resize from the middles": ("Resize", {"mode": "linear"}, {2: np.array([1, 1, 2, 1.5], np.float32)}),
    "a Resize to sizes": ("Resize", {"mode": "linear"}, {3: np.array([1, 3, 7, 4])}),
    "a Resize to the nearest": (
        "Resize",
        {"mode": "nearest", "nearest_mode": "floor"} | ASYMMETRIC,
        {2: np.array([1, 1, 2, 2], np.float32)},
    ),
}

POINTWISE: dict[str, tuple[str, dict[str, Any], dict[int, Any]]] = {
    "an Abs": ("Abs", {}, {}),
    "a Cast": ("Cast", {"to": onnx.TensorProto.FLOAT}, {}),
    "an Elu": ("Elu", {"alpha": 0.7}, {}),
    "an Erf": ("Erf", {}, {}),
    "an Exp": ("Exp", {}, {}),
    "a HardSigmoid": ("HardSigmoid", {"alpha": 0.3}, {}),
    "a HardSwish": ("HardSwish", {}, {}),
    "a LeakyRelu": ("LeakyRelu", {"alpha": 0.2}, {}),
    "a Max": ("Max", {}, {1: np.array(0.2, np.float32)}),
    "a Min": ("Min", {}, {1: np.array(0.2, np.float32)}),
    "a Neg": ("Neg", {}, {}),
    "a Pow": ("Pow", {}, {1: np.array(2, np.float32)}),
    "a Softplus": ("Softplus", {}, {}),
}


def lone(kind: str, options: dict[str, Any], constants: dict[int, Any]) -> onnx.ModelProto:
    draw = Drawing()
    more = [
        draw.array(f"c{at}", constants[at]) if at in constants else "" for at in range(1, max(constants, default=0) + 1)
    ]
    draw.node(kind, ["x", *more], "y", **options)
    return draw.model([picture("x", (1, 3, 4, 5))], [("y", None)])


@pytest.mark.parametrize("name", [*OPERATORS, *POINTWISE])
@pytest.mark.torch
def test_an_operator_does_what_it_does_in_onnx_runtime(name: str) -> None:
    torch = pytest.importorskip("torch")
    from gradfec_lab.codec.nodes import Nodes

    proto = lone(*(OPERATORS | POINTWISE)[name])
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 5)).astype(np.float32)
    (expected,) = OnnxSession(proto.SerializeToString(), name)(x)
    found, arrays = runnable(proto.graph, {"x"}, whole_images=True)
    made = Nodes(found, arrays())({"x": torch.from_numpy(x)}, "y").numpy()
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    assert made.shape == expected.shape
    in_training = bool(runnable(proto.graph, {"x"})[0])  # which sees parts of images
    assert in_training == (name in {*POINTWISE, "a Resize by scales", "a Resize to the nearest"})


@pytest.mark.torch
def test_every_operator_that_is_taken_is_there() -> None:
    pytest.importorskip("torch")
    from gradfec_lab.codec.operators import OPERATORS as BY_PYTORCH

    assert {*BY_PYTORCH} == RUN_BY_PYTORCH | OF_WHOLE_IMAGES


@pytest.mark.torch
@pytest.mark.parametrize("sizes", [[1, 3, 1], None])
def test_each_part_of_a_split_is_that_of_onnx_runtime(sizes: list[int] | None) -> None:
    torch = pytest.importorskip("torch")
    from gradfec_lab.codec.nodes import Nodes

    draw = Drawing()
    side = 5 if sizes else 6
    parts = ["a", "b", "c"]
    draw.nodes.append(
        onnx.helper.make_node("Split", ["x", *([draw.array("sizes", np.array(sizes))] if sizes else [])], parts, axis=3)
    )
    proto = draw.model([picture("x", (1, 3, 4, side))], [(part, None) for part in parts])
    x = np.random.default_rng(0).normal(size=(1, 3, 4, side)).astype(np.float32)
    expected = OnnxSession(proto.SerializeToString(), "split")(x)
    found, arrays = runnable(proto.graph, {"x"}, whole_images=True)
    for made, wanted in zip(Nodes(found, arrays()).all({"x": torch.from_numpy(x)}, parts), expected, strict=True):
        np.testing.assert_array_equal(made.numpy(), wanted)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Round", {}),
        ("Cast", {"to": onnx.TensorProto.INT32}),
        ("Resize", {"mode": "cubic"}),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}),
    ],
)
@pytest.mark.torch
def test_what_pytorch_cannot_run_is_named(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    pytest.importorskip("torch")
    draw = Drawing()
    draw.convolution("image", "conv", (3, 2), stride=8)
    more = ["", draw.array("scales", np.array([1, 1, 2, 2], np.float32))] if kind == "Resize" else []
    draw.node(kind, ["conv", *more], "odd", **options)
    draw.node("Relu", ["odd"], "points")
    model = add(tmp_path, draw.model([picture()], [("points", [*"nchw"])]), head="raw", split="conv")
    with pytest.raises(UsageError, match=f"^small has a {kind} behind conv, which has no gradient here$"):
        Gradients(model.network.usual_cut, model)


@pytest.mark.torch
def test_a_network_that_pytorch_computes_otherwise_has_no_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from gradfec_lab.codec import nodes

    model = add(tmp_path, classifier(), split="stem")
    for wrong in (lambda sources, _: sources[0], lambda sources, _: sources[0][:, :, 1:]):  # a value, and an error
        monkeypatch.setattr(nodes, "OPERATORS", {**nodes.OPERATORS, "Relu": wrong})
        with pytest.raises(UsageError, match=r"^PyTorch computes something else than ONNX Runtime behind stem$"):
            Gradients(model.network.usual_cut, model)


@pytest.mark.torch
def test_changes_are_those_of_leaving_out_one_packet_after_the_other(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    model = add(tmp_path, pose(), head="raw", split="stem")
    cut: Any = model.network.usual_cut
    grid, back = PacketGrid(cut.shape, 2), OnnxSession(model.half(BACK, cut), "back")
    rng = np.random.default_rng(7)
    chi, deviations = rng.uniform(0.5, 1, (2, *cut.shape)).astype(np.float32)
    deviations /= 10  # no element falls below zero
    (whole,) = back(*apart(cut.carried, chi))
    expected = np.zeros(grid.count)
    for packet in range(grid.count):
        without = grid.split(chi).copy()
        without[packet] -= grid.split(deviations)[packet]
        (other,) = back(*apart(cut.carried, grid.join(without)))
        expected[packet] = np.square(whole - other).sum() / np.square(whole).sum()
    gradients = Gradients(cut, model)
    found = np.mean([gradients.changes(chi, deviations, grid, seed) for seed in range(2000)], axis=0)
    np.testing.assert_allclose(found, expected, rtol=0.2)


@pytest.mark.torch
def test_gradients_find_how_sensitive_an_answer_is_to_a_channel_as_leaving_it_out_does(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    model = add(tmp_path, pose(), head="raw", split="stem")
    network, cut = model.network, model.network.usual_cut
    rng = np.random.default_rng(8)
    sizes = np.array([0.1, 1, 3, 1], np.float32)  # how far the channels stray from their means
    features = [(5 + sizes * rng.normal(size=cut.shape)).astype(np.float32) for _ in range(60)]
    means = np.full(4, 5, np.float32)
    grid, conceal = PacketGrid(cut.shape, 2), make_concealment("mean", cut, {"means": means})
    found = sensitivity_by(Gradients(cut, model), features, means, grid, conceal)  # type: ignore[arg-type]
    expected = sensitivity_of(features, means, network, load_back_end("", cut, model, 1))
    np.testing.assert_allclose(found, expected, rtol=0.3)
