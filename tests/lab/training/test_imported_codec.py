"""Training a bottleneck for an imported network; without PyTorch: where it may sit, and what a job has."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from tests.imported_codec import small, write_codec
from tests.onnx_files import SIDE, Drawing, classifier, forked, picture, tokens, written

from gradfec_cli.cli import main as gradfec
from gradfec_cloud.backend.onnx_runtime import DecodingBackEnd
from gradfec_common.bottlenecks.narrow import best_joins
from gradfec_common.errors import UsageError
from gradfec_common.networks.carried import Carried, apart, common_shape
from gradfec_edge.coding import coding_of
from gradfec_edge.frontend.onnx_runtime import EncodingFrontEnd
from gradfec_host.codec_file import CodecFile
from gradfec_host.models.add import Wanted, add_model
from gradfec_host.models.graph import Graph
from gradfec_host.models.presets import preprocess_of
from gradfec_host.models.session import OnnxSession
from gradfec_host.models.store import BACK, FRONT, Model, open_model
from gradfec_lab.training import codec_job
from gradfec_lab.training.imported_codec import fitting_cut, imported_parts

PICTURES = 44


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))


def add(tmp_path: Path, proto: Any, name: str = "small", **wanted: Any) -> Model:
    path = written(proto, tmp_path / f"{name}.onnx")
    add_model(path, Graph.read(path), Wanted(name, preprocess_of("unit", (SIDE, SIDE)), **wanted))
    return open_model(name)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, image in enumerate(np.random.default_rng(2).integers(0, 256, (PICTURES, 4, 4, 3), np.uint8)):
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(image, (SIDE, SIDE)))
    return folder


@pytest.mark.parametrize(
    ("make", "split", "says"),
    [
        (classifier, "image", "image is the picture: a bottleneck needs features, name a --split behind it"),
        (classifier, "pool", "a tensor 1 x 16 x 1 x 1 crosses pool: a bottleneck needs features with height and width"),
        (tokens, "mixed", "a tensor 1 x 16 x 24 crosses mixed: a bottleneck needs features with height and width"),
    ],
)
def test_it_sits_only_where_features_cross(tmp_path: Path, make: Any, split: str, says: str) -> None:
    network = add(tmp_path, make(), head="raw" if make is tokens else None).network
    with pytest.raises(UsageError, match=says):
        fitting_cut(network.cut(split))
    words = ["train-codec", "--model", "small", "--split", split, "--images", str(tmp_path / "none")]
    ended = CliRunner().invoke(gradfec, words)
    assert ended.exit_code == 2 and "Traceback" not in ended.output


def test_the_decoder_ends_at_the_last_of_the_narrowest_cuts_that_fit(tmp_path: Path) -> None:
    network = add(tmp_path, classifier()).network
    assert best_joins(network.cut("stem")).name == "block"
    assert best_joins(network.cut("deep")).name == "deep", "behind the first two thirds it gives the cut itself back"
    with pytest.raises(UsageError, match="narrow needs a tensor whose sides are 16 x 16, or 2, 4, 8 times as long"):
        small(open_model("small"), "stem", "deep")


def test_what_options_ask_for_is_refused_in_one_line(tmp_path: Path, photographs: Path) -> None:
    add(tmp_path, classifier(), split="stem")
    for options, says in (
        ([], "--out is missing: name the codec to write"),
        (["--model", "nobody"], "no model is called 'nobody'"),
        (["--model", "small", "--bottleneck", "tight"], "no bottleneck is called 'tight': use compact, narrow"),
        (["--model", "small", "--joins", "nowhere"], "small has no split point 'nowhere'"),
        (["--model", "small", "--split", "block", "--joins", "stem"], "--joins stem is before the split block: name a"),
        (["--model", "small", "--joins", "pool"], "narrow needs a tensor whose sides are 16 x 16, or 2, 4, 8 times"),
        (
            ["--joins", "conv5_block1_out", "--out", "a.npz"],
            "compact decodes to 14 x 14, and conv5_block1_out is 7 x 7",
        ),
        (["--model", "small", "--rows", "5"], "5 rows a packet do not divide the 16 rows"),
        (["--model", "small"], "44 images are too few: give at least 400"),
    ):
        ended = CliRunner().invoke(gradfec, ["train-codec", "--images", str(photographs), *options])
        assert ended.exit_code == 2 and says in ended.output, ended.output


def test_a_job_has_the_shapes_and_what_pytorch_can_run_of_the_rest(tmp_path: Path) -> None:
    model = add(tmp_path, classifier())
    parts = imported_parts(small(model), model)
    assert [layer["name"] for layer in parts.said["layers"]] == ["image", "stem", "block"]
    assert [node["kind"] for node in parts.said["nodes"]] == ["Conv", "Relu", "GlobalAveragePool"]
    assert parts.said["watched"] == [[], [["deep"], ["deep.conv"]]]
    assert [one["name"] for one in parts.said["joined"]] == ["block"]
    assert parts.arrays().keys() == {"deep.conv/kernel"}
    json.dumps(parts.said)


def busy() -> onnx.ModelProto:
    """A network with all operators that PyTorch is to run."""
    draw = Drawing()
    draw.convolution("image", "a", (3, 4))
    draw.array("low", np.array(-1, np.float32))
    draw.array("high", np.array(1.5, np.float32))
    draw.node("Clip", ["a", "low", "high"], "b")
    statistics = [
        draw.array(name, np.full(4, value, np.float32)) for name, value in zip("wxyz", (2, 1, 0.5, 3), strict=True)
    ]
    draw.node("BatchNormalization", ["b", *statistics], "c", epsilon=1e-3)
    for number, (kind, source) in enumerate((("Relu", "c"), ("Sigmoid", "c"), ("Tanh", "c"), ("HardSwish", "c"))):
        draw.node(kind, [source], f"d{number}")
    draw.node("Mul", ["d0", "d1"], "e0")
    draw.node("Sub", ["d2", "d3"], "e1")
    draw.node("Add", ["e0", draw.array("one", np.ones((1, 4, 1, 1), np.float32))], "f0")
    draw.node("Div", ["e1", draw.array("three", np.array(3, np.float32))], "f1")
    draw.node("Concat", ["f0", "f1"], "g", axis=1)
    draw.node("MaxPool", ["g"], "h", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0])
    draw.node("AveragePool", ["h"], "i", kernel_shape=[2, 2], strides=[2, 2])
    shape = (8, 1, 3, 3)
    kernel = draw.array("by channel", draw.rng.normal(size=shape).astype(np.float32))
    draw.node("Conv", ["i", kernel], "j", group=8, strides=[2, 2], pads=[0, 0, 1, 1])
    draw.node("GlobalAveragePool", [draw.node("Identity", ["j"], "k")], "l")
    return draw.model([picture()], [("l", (1, 8, 1, 1))])


@pytest.mark.torch
def test_pytorch_goes_on_as_onnx_runtime_does(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from gradfec_lab.codec.nodes import Nodes

    model = add(tmp_path, busy())
    a, last = model.network.cut("a"), "l"
    parts = imported_parts(small(model, "a", "a"), model)
    assert parts.said["nodes"][-1]["output"] == last, "all can be run"
    chi = np.random.default_rng(0).normal(size=(1, 4, SIDE, SIDE)).astype(np.float32)
    (expected,) = OnnxSession(model.half(BACK, a), "back")(chi)
    made = Nodes(parts.said["nodes"], parts.arrays())({"a": torch.from_numpy(chi)}, last)
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-4, atol=1e-5)


def train(photographs: Path, *options: object) -> dict[str, Any]:
    words = ["train-codec", "--model", "small", "--images", photographs, "--feature-steps", 4, "--deep-steps", 2]
    ended = CliRunner().invoke(gradfec, [*map(str, (*words, *options)), "--json"], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    assert f"features: {PICTURES} of {PICTURES} images" in ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of few images."""
    pytest.importorskip("torch")
    from gradfec_lab.codec import train as training
    from gradfec_lab.training import codec_ranking

    monkeypatch.setattr(codec_job, "MIN_IMAGES", PICTURES)
    monkeypatch.setattr(training, "SCALE_IMAGES", 16)
    monkeypatch.setattr(training, "CALIBRATION_STEPS", 2)
    monkeypatch.setattr(codec_ranking, "RUNS", 64)


@pytest.mark.torch
@pytest.mark.parametrize(
    "carried",
    [
        (Carried("a", (1, 5, 8, 12), "nchw", 3.0),),
        (Carried("a", (1, 5, 16, 24), "nchw", 3.0), Carried("b", (1, 8, 12, 7), "nhwc", 0.5)),
    ],
)
def test_tensors_that_lie_together_are_taken_apart_as_at_the_cloud(carried: tuple[Carried, ...]) -> None:
    torch = pytest.importorskip("torch")
    from gradfec_lab.codec.nodes import apart as apart_in_training

    shape = common_shape(carried)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = apart_in_training([asdict(one) for one in carried], torch.from_numpy(x.transpose(2, 0, 1)[np.newaxis]))
    for one, expected in zip(carried, apart(carried, x), strict=True):
        np.testing.assert_array_equal(found[one.name].numpy(), expected)


@pytest.mark.torch
def test_a_bottleneck_for_several_tensors_is_trained_and_used(tmp_path: Path, photographs: Path, short: None) -> None:
    model = add(tmp_path, forked(), split="coarse.conv+fine.conv")
    about = train(photographs, "--joins", "coarse.conv+fine")
    assert (about["cut"], about["joins"]) == ("coarse.conv+fine.conv", "coarse.conv+fine")
    assert about["latents"] == [8, 8, 64]
    latents = coding_of(model.network.usual_cut, None, "bottleneck", None, "zfec").cut
    sent = EncodingFrontEnd(latents, model)(np.zeros((SIDE, SIDE, 3), np.uint8)).chi
    answer = DecodingBackEnd(latents, model)(np.concatenate([sent, np.ones_like(sent)], axis=2)[np.newaxis])
    assert answer.shape[0] == 1 and np.isfinite(answer).all()


def unet(steps: int) -> onnx.ModelProto:
    """A network that halves its sides `steps` times, and brings the last one together with the one before."""
    draw = Drawing(5)
    draw.node("Relu", [draw.convolution("image", "stem.conv", (3, 6), stride=2)], "stem")
    last = "stem"
    for step in range(steps):
        before, last = last, f"down{step}"
        draw.node("Relu", [draw.convolution(before, f"{last}.conv", (6, 6), stride=2)], last)
    scales = draw.array("scales", np.array([1, 1, 2, 2], np.float32))
    options = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    draw.node("Resize", [last, "", scales], "large", **options)
    draw.node("Concat", ["large", before], "neck", axis=1)
    draw.convolution("neck", "answer", (12, 2), size=1)
    side = SIDE >> steps
    return draw.model([picture()], [("answer", (1, 2, side, side))])


@pytest.mark.torch
@pytest.mark.parametrize(("steps", "watched"), [(2, ["answer"]), (4, ["down2", "large"])])
def test_the_second_stage_watches_the_deepest_layers_that_a_part_of_an_image_reaches(
    tmp_path: Path, photographs: Path, short: None, steps: int, watched: list[str]
) -> None:
    from gradfec_lab.codec.coder import Settings
    from gradfec_lab.codec.job import Job
    from gradfec_lab.codec.train import Training

    model = add(tmp_path, unet(steps), split="stem.conv", head="raw")
    train(photographs, "--joins", "stem")
    training = Training(
        Job(model.folder / f"codec-{model.network.usual_cut.id}.job"), tmp_path / "again", Settings(), print
    )
    assert [sorted(names) for names in training.watched] == [[], watched]


@pytest.mark.torch
def test_a_training_ends_in_the_models_folder_and_edge_and_cloud_use_it(
    tmp_path: Path, photographs: Path, short: None
) -> None:
    model = add(tmp_path, classifier(), split="stem")
    about = train(photographs)
    cut = model.network.usual_cut
    path = model.folder / f"codec-{cut.id}.npz"
    assert dict(CodecFile.read(path).about) == about
    assert (about["cut"], about["joins"], about["latents"]) == ("stem", "block", [16, 16, 64])
    assert [quality for quality, _, _ in about["worth"]["quality"]] == [*range(1, 10)]
    assert CodecFile.read(path).latents.network.ranking.keys() == {"ranking/offset", "ranking/power"}
    assert coding_of(cut, None, "bottleneck", None, "zfec").cut.network.base is model.network
    shown = CliRunner().invoke(gradfec, ["model", "show", "small"]).output
    assert "bottleneck at stem, decoded to block, " in shown
    listed = json.loads(CliRunner().invoke(gradfec, ["model", "show", "small", "--json"]).output)["cuts"]
    assert [one["name"] for one in listed if "bottleneck" in one] == ["stem"]
    assert train(photographs, "--seed", 0) == about, "nothing is left to do"
    exported = CliRunner().invoke(
        gradfec, ["model", "export", "small", "--half", "cloud", "--out", str(tmp_path / "c")]
    )
    assert "the cloud's half of small at stem, with its bottleneck" in exported.output
    assert {path.name for path in (tmp_path / "c").iterdir()} >= {"back-3.onnx", "back-7.onnx", "codec-3.npz"}


def test_what_a_replaced_model_loses_is_said(tmp_path: Path) -> None:
    model = add(tmp_path, classifier(), split="stem")
    write_codec(small(model))
    again = CliRunner().invoke(gradfec, ["model", "add", str(tmp_path / "small.onnx"), "--replace"])
    assert "gradfec train-codec --model small" in again.output
    assert model.half(FRONT, model.network.usual_cut)
