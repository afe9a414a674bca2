"""An ONNX file becomes a model with halves that answer as the whole does, wherever it is cut."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.onnx_files import CLASSES, SIDE, Drawing, classifier, forked, picture, tokens, written

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks.carried import Carried, apart, common_shape, together
from gradfec_common.networks.pixels import normalise
from gradfec_common.packets import PacketGrid, usual_rows
from gradfec_host.models import cut_called, model_of, network_called
from gradfec_host.models.add import Seen, Wanted, _carried, add_model
from gradfec_host.models.find import learned_at
from gradfec_host.models.graph import Graph
from gradfec_host.models.halves import part
from gradfec_host.models.presets import PRESETS, preprocess_of
from gradfec_host.models.session import OnnxSession
from gradfec_host.models.store import (
    BACK,
    FRONT,
    Model,
    added,
    export_half,
    models_folder,
    open_model,
    remove_model,
    take_folder,
)  # fmt: skip

KINDS = {"classifier": classifier, "forked": forked, "tokens": tokens}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))


def add(tmp_path, model, name="small", *, preset="unit", size=None, **wanted):
    path = written(model, tmp_path / f"{name}.onnx")
    graph = Graph.read(path, size)
    return add_model(path, graph, Wanted(name, preprocess_of(preset, (SIDE, SIDE)), **wanted))


def photograph(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_both_halves_together_answer_as_the_whole_at_every_cut(tmp_path, kind):
    model = add(tmp_path, KINDS[kind]())
    network = model.network
    (fed,) = apart((network.fed,), normalise(photograph(), network.preprocess))
    expected = network.head.condense(OnnxSession(model.whole(), "whole")(fed))
    assert len(network.cuts) > 4
    for cut in network.cuts:
        crossing = together(cut.carried, OnnxSession(model.half(FRONT, cut), "front")(fed))
        assert crossing.shape == cut.shape and crossing.dtype == np.float32
        PacketGrid(cut.shape, usual_rows(cut.shape))
        outputs = OnnxSession(model.half(BACK, cut), "back")(*apart(cut.carried, crossing))
        np.testing.assert_allclose(network.head.condense(outputs), expected, rtol=1e-4, atol=1e-5, err_msg=cut.name)


def test_cuts_of_one_tensor_are_the_dominators_and_those_of_several_lie_across_branches(tmp_path):
    cuts = {cut.name: cut for cut in add(tmp_path, classifier()).network.cuts}
    alone = [name for name in cuts if "+" not in name]
    assert alone == ["image", "stem.conv", "stem", "block", "deep.conv", "deep", "pool", "logits"]
    assert [name for name in cuts if "+" in name] == ["stem+block.conv1", "stem+block.relu", "stem+block.conv2"]
    neck = {cut.name: cut for cut in add(tmp_path, forked(), "forked").network.cuts}
    assert neck["coarse.conv+fine"].shape == (8, 8, 12 + 4 * 4)  # the coarser one, and the finer one's four phases
    assert neck["coarse.conv+fine"].network.cut("fine+coarse.conv") is neck["coarse.conv+fine"]


def test_a_scale_is_a_power_of_two_so_that_machines_agree_and_a_lone_tensor_has_none(tmp_path):
    network = add(tmp_path, forked()).network
    fine, loud = network.cut("fine.pool+loud").carried
    assert loud.scale >= 16 * fine.scale and {np.frexp(one.scale)[0] for one in (fine, loud)} == {0.5}
    assert [one.scale for one in network.cut("stem").carried] == [1.0]


def test_it_is_known_where_the_back_end_sees_nothing_below_zero(tmp_path):
    rectified = {cut.name: cut.rectified for cut in add(tmp_path, classifier()).network.cuts}
    assert {name for name, positive in rectified.items() if positive} == {
        "stem.conv", "stem", "stem+block.conv1", "stem+block.relu", "deep.conv", "deep", "pool",
    }  # fmt: skip


def test_the_head_is_found_out(tmp_path):
    assert add(tmp_path, classifier(), "a").said["head"] == {"name": "classify", "classes": CLASSES, "logits": True}
    assert add(tmp_path, forked(), "b").said["head"] == {"name": "classify", "classes": CLASSES, "logits": False}
    raw = add(tmp_path, tokens(), "c", head="raw")
    assert raw.said["head"] == {"name": "raw", "outputs": [["points", [1, 4]]]}
    with pytest.raises(UsageError, match=r"no head is called 'guess': use one of classify, .*raw"):
        add(tmp_path, tokens(), "d", head="guess")


def test_the_digest_is_that_of_the_file_and_its_meaning_and_not_of_names(tmp_path):
    first = add(tmp_path, classifier(), "one").network.digest
    labels = tuple(f"class {n}" for n in range(CLASSES))
    assert add(tmp_path, classifier(), "two", labels=labels, split="deep").network.digest == first
    assert add(tmp_path, classifier(1), "three").network.digest != first
    assert add(tmp_path, classifier(), "four", preset="raw").network.digest != first


def test_a_half_goes_to_another_machine_alone(tmp_path, monkeypatch):
    model = add(tmp_path, classifier())
    export_half(model, FRONT, model.network.cut("stem"), tmp_path / "for-edge")
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "edge"))
    taken = take_folder(tmp_path / "for-edge", "mine")
    assert added() == ["mine"] and open_model("mine").network.digest == model.network.digest
    assert taken.half(FRONT, taken.network.cut("stem")) == model.half(FRONT, model.network.cut("stem"))
    assert taken.network.usual_cut.name == "stem" and not taken.is_whole
    with pytest.raises(
        GradfecError, match=r"^the back of mine at stem is not here, only the front of stem: where the "
    ):
        taken.half(BACK, taken.network.cut("stem"))


@pytest.mark.parametrize("name", ["model.onnx", "front", "back"])
def test_a_file_that_was_tampered_with_is_refused(tmp_path, name):
    model = add(tmp_path, classifier())
    cut = model.network.usual_cut
    file = model.folder / (name if name == "model.onnx" else f"{name}-{cut.id}.onnx")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(GradfecError, match=r"is not what was added: its SHA-256 is \w{12}\.\.\., not \w{12}\.\.\."):
        model.whole() if name == "model.onnx" else model.half(name, cut)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda said: said.update(format=9), "its format is 9"),
        (lambda said: said["preprocess"].update(width=33), r"pictures of \(32, 33\) do not become"),
        (lambda said: said["head"].update(name="guess"), "no head is called 'guess'"),
        (lambda said: said["cuts"][1]["tensors"][0].update(layout="tokens"), "is not tokens"),
        (lambda said: said["cuts"][1]["tensors"][0].update(scale=-1), "no scale is -1"),
        (lambda said: said["cuts"][1]["tensors"][0].update(scale=1e-40), "no scale is 1e-40"),
        (lambda said: said.pop("labels"), "KeyError"),
        (lambda said: said.update(cuts=7), "TypeError"),
        (lambda said: said.update(outputs=[]), "IndexError"),
        (lambda said: said["cuts"][1]["tensors"][0].update(dims=[1, 2**20, 2**10, 1]), "has more than 268435456 ele"),
        (lambda said: said["cuts"][1]["tensors"][0].update(dims=[1, 8, 16, float("inf")]), "OverflowError"),
        (lambda said: said["preprocess"].update(order="gbr"), "no picture becomes gbr by squash"),
        (lambda said: said["preprocess"].update(fit="stretch"), "no picture becomes rgb by stretch"),
        (lambda said: said["preprocess"].update(scales=[1, 1]), "no picture becomes rgb"),
        (lambda said: said["preprocess"].update(scales=[1, 0, 1]), "no picture is normalised by"),
        (lambda said: said["preprocess"].update(means=[float("nan")] * 3), "no picture is normalised by"),
        (lambda said: said.update(labels=["x" * 161] * CLASSES), "a label has more than 160 bytes"),
        (lambda said: said.pop("files"), "KeyError"),
        (lambda said: said.update(files=["model"]), "AttributeError"),
        (lambda said: said.update(files={"model": None}), "no hash of a file"),
        (lambda said: said.update(split="nowhere"), "is damaged, .* no split point 'nowhere'"),
        (lambda said: said.update(split="x" * 300_000), r"is damaged, .* no split point 'x{80}': for example \w+"),
        (lambda said: said.update(split=["stem"] * 2), "its split is not a name"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_one_clear_error(tmp_path, damage, why):
    model = add(tmp_path, classifier())
    damage(said := json.loads((model.folder / "manifest.json").read_text()))
    (model.folder / "manifest.json").write_text(json.dumps(said))
    with pytest.raises(GradfecError, match=why):
        Model.read(model.folder)


@pytest.mark.parametrize("largest", [0.0, 1e-45, 3e38])
def test_tensors_of_any_size_come_apart_as_they_were(largest):
    small, usual = np.full((1, 2, 4, 4), largest, np.float32), np.ones((1, 2, 4, 4), np.float32)
    seen = Seen(small.shape, small.dtype, float(small.max()))
    both = [_carried("small", seen, "nchw"), Carried("usual", usual.shape, "nchw")]
    tensor = together(both, [small, usual])
    assert np.isfinite(tensor).all()
    for found, whole in zip(apart(both, tensor), (small, usual), strict=True):
        np.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-44)


def test_a_manifest_names_no_file_outside_its_folder(tmp_path):
    folder = tmp_path / "half"
    export_half(add(tmp_path, classifier()), FRONT, open_model("small").network.usual_cut, folder)
    (half,) = folder.glob("*.onnx")
    half.rename(tmp_path / half.name)
    said = json.loads((folder / "manifest.json").read_text())
    said["files"] = {f"../{name}": sha256 for name, sha256 in said["files"].items()}
    (folder / "manifest.json").write_text(json.dumps(said))
    with pytest.raises(GradfecError, match="has a manifest, and no half of the model"):
        take_folder(folder, "mine")


def test_a_model_has_the_name_of_its_folder_also_if_it_was_copied_by_hand(tmp_path):
    model = add(tmp_path, classifier())
    shutil.copytree(model.folder, model.folder.with_name("other"))
    assert added() == ["other", "small"] and network_called("other").name == "other"
    assert network_called("other").digest == model.network.digest


def test_what_was_read_of_a_model_is_not_mixed_with_what_has_replaced_it(tmp_path):
    network = add(tmp_path, classifier()).network
    assert model_of(network).network is network_called("small")
    add(tmp_path, classifier(seed=1))
    with pytest.raises(GradfecError, match="the model small was replaced meanwhile: start again"):
        model_of(network)
    with pytest.raises(GradfecError, match="was replaced meanwhile"):
        learned_at(network.usual_cut)


@pytest.mark.parametrize("verb", ["write_text", "rename"])
def test_a_model_that_cannot_be_written_leaves_the_one_before_and_nothing_else(tmp_path, monkeypatch, verb):
    before, possible = add(tmp_path, classifier()).network.digest, getattr(Path, verb)

    def full(path, *words):
        if ".small.part" in str(path):
            raise OSError(28, "No space left on device")
        return possible(path, *words)

    with monkeypatch.context() as patched, pytest.raises(GradfecError, match=r"cannot write .*No space left on device"):
        patched.setattr(Path, verb, full)
        add(tmp_path, classifier(seed=1))
    assert [path.name for path in models_folder().iterdir()] == ["small"]
    assert open_model("small").network.digest == before
    after = add(tmp_path, classifier(seed=1)).network.digest
    assert open_model("small").network.digest == after != before
    assert [path.name for path in models_folder().iterdir()] == ["small"]


def sparse():
    """The classifier, whose last weights are written as the few that are not zero."""
    model = classifier()
    dense = next(one for one in model.graph.initializer if one.name == "dense/kernel")
    values = onnx.numpy_helper.to_array(dense).copy()
    model.graph.initializer.remove(dense)
    at = onnx.numpy_helper.from_array(np.arange(values.size), "at")
    kept = onnx.numpy_helper.from_array(values.reshape(-1), "dense/kernel")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(kept, at, values.shape))
    return model


def with_inner_graph():
    """One that decides, by a tensor from before, what it does to another one."""
    draw = Drawing()
    draw.node("Relu", [draw.convolution("image", "stem.conv", (3, 16), stride=2)], "stem")
    draw.node("Relu", [draw.convolution("stem", "deep.conv", (16, 16), stride=2)], "deep")
    draw.node("ReduceMean", ["stem"], "mean", keepdims=0)
    draw.node("Greater", ["mean", draw.array("zero", np.array(0, np.float32))], "bright")
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(kind, ["deep", "mean"], [name])], name, [], [onnx.ValueInfoProto(name=name)]
        )
        for name, kind in (("then", "Mul"), ("else", "Sub"))
    }
    draw.node("If", ["bright"], "either", **branches)
    draw.node("Flatten", [draw.node("GlobalAveragePool", ["either"], "pool")], "flat")
    return draw.model([picture()], [("flat", (1, 16))])


def of_halves():
    """One that computes with float16 in its middle, which no cut carries, and leaves an output of a node unnamed."""
    draw = Drawing()
    draw.node("Relu", [draw.convolution("image", "stem.conv", (3, 16), stride=2)], "stem")
    draw.nodes.append(helper.make_node("Dropout", ["stem"], ["kept", ""]))
    draw.node("Cast", ["kept"], "kept16", to=TensorProto.FLOAT16)
    draw.node("Cast", [draw.node("Sigmoid", ["kept16"], "open16")], "open", to=TensorProto.FLOAT)
    draw.node("Flatten", [draw.node("GlobalAveragePool", ["open"], "pool")], "flat")
    return draw.model([picture()], [("flat", (1, 16))])


def with_outputs(*names):
    model = classifier()
    del model.graph.output[:]
    shapes = {"flat": (1, 16), "dense/kernel": (16, CLASSES)}
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name, (1, CLASSES))) for name in names]
    model.graph.output.extend(made)
    return model


def renamed(model, old, new):
    for node in model.graph.node:
        node.output[:] = [new if name == old else name for name in node.output]
    return model


ODD = {
    "sparse": sparse,
    "inner graph": with_inner_graph,
    "of halves": of_halves,
    "an output in the middle": lambda: with_outputs("logits", "flat"),
    "an output that is a constant": lambda: with_outputs("logits", "dense/kernel"),
    "an output twice": lambda: with_outputs("logits", "logits"),
    "a name that a copy would have": lambda: renamed(with_outputs("flat", "flat/out"), "logits", "flat/out"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_graphs_are_cut_as_well(tmp_path, kind):
    model = add(tmp_path, ODD[kind](), head="raw", outputs=())
    network = model.network
    (fed,) = apart((network.fed,), normalise(photograph(), network.preprocess))
    expected = OnnxSession(model.whole(), "whole")(fed)[: len(network.outputs)]
    assert len(network.cuts) > 2 and "kept16" not in str(network.cuts)
    for cut in network.cuts:
        crossing = together(cut.carried, OnnxSession(model.half(FRONT, cut), "front")(fed))
        outputs = OnnxSession(model.half(BACK, cut), "back")(*apart(cut.carried, crossing))
        for found, whole in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5, err_msg=cut.name)


def test_a_copy_of_a_tensor_gets_a_name_that_no_other_has():
    model = renamed(with_outputs("flat", "flat/out"), "logits", "flat/out")
    half = onnx.load_from_string(part(model, (Carried("flat", (1, 16), "vector"),), ["flat", "flat/out"]))
    assert [one.name for one in half.graph.output] == ["flat/out/out", "flat/out"]


def test_a_network_without_any_cut_but_its_input_is_split_there(tmp_path):
    draw = Drawing()
    draw.node("ReduceMean", ["image"], "colour", axes=[0, 2, 3], keepdims=0)
    network = add(tmp_path, draw.model([picture()], [("colour", (3,))]), head="raw").network
    assert [cut.name for cut in network.cuts] == ["image"] and network.usual_cut.pixels


def test_no_cut_carries_what_is_no_number(tmp_path):
    draw = Drawing()
    draw.node("Log", [draw.node("Neg", [draw.convolution("image", "stem", (3, 8))], "neg")], "log")
    draw.node("Flatten", [draw.node("GlobalAveragePool", ["log"], "pool")], "flat")
    cuts = add(tmp_path, draw.model([picture()], [("flat", (1, 8))])).network.cuts
    assert [cut.name for cut in cuts] == ["image", "stem", "neg"]


def two_inputs():
    draw = Drawing()
    draw.node("Add", ["a", "b"], "out")
    return draw.model([picture("a"), picture("b")], [("out", (1, 3, SIDE, SIDE))])


def with_input(shape, kind=TensorProto.FLOAT):
    model = classifier()
    model.graph.input[0].CopyFrom(picture(shape=shape, kind=kind))
    return model


def unknown_operator():
    model = classifier()
    model.graph.node[1].CopyFrom(helper.make_node("Swirl", ["stem.conv"], ["stem"], domain="example"))
    model.opset_import.append(helper.make_opsetid("example", 1))
    return model


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (two_inputs(), r"has 2 inputs \(a, b\): gradfec feeds one, the picture"),
        (with_input((1, 3, "height", "width")), r"is 1 x 3 x \? x \?: give --size HEIGHTxWIDTH"),
        (with_input((1, 4, SIDE, SIDE)), r"is 1 x 4 x 32 x 32, not a picture"),
        (with_input((1, 3, 20_000, 20_000)), "is 1 x 3 x 20000 x 20000: export it for pictures of at most 89478485 "),
        (with_input((1, 3, -5, SIDE)), "is 1 x 3 x -5 x 32: export it for pictures of at most"),
        (with_input((1, 3, SIDE, SIDE), TensorProto.UINT8), "takes uint8 at its input image: export it with a float32"),
        (unknown_operator(), "ONNX Runtime cannot run small.onnx: .*Swirl"),
    ],
    ids=["two inputs", "open size", "four colours", "too large", "negative", "uint8", "unknown operator"],
)
def test_a_graph_that_cannot_be_used_is_one_clear_error(tmp_path, model, why):
    with pytest.raises(GradfecError, match=why) as caught:
        add(tmp_path, model)
    assert "\n" not in str(caught.value) and added() == []


def test_an_open_size_can_be_given(tmp_path):
    assert add(tmp_path, with_input(("n", 3, "height", "width")), size=(SIDE, SIDE)).network.fed.dims == (
        1,
        3,
        SIDE,
        SIDE,
    )


def test_files_that_are_not_onnx_or_not_whole_are_refused(tmp_path):
    path = written(classifier(), tmp_path / "small.onnx")
    whole = path.read_bytes()
    for data, why in (
        (b"", "is not an ONNX file, or has no layers"),
        (b"GIF89a and more", "is not an ONNX file"),
        (whole[: len(whole) // 2], "is not an ONNX file, or is cut short|is not valid ONNX"),
    ):
        path.write_bytes(data)
        with pytest.raises(UsageError, match=why):
            Graph.read(path)
    with pytest.raises(GradfecError, match=r"^cannot read .*nowhere\.onnx: No such file"):
        Graph.read(tmp_path / "nowhere.onnx")
    with pytest.raises(UsageError, match="/dev/zero is not a regular file"):
        Graph.read(Path("/dev/zero"))


def test_external_data_belongs_to_the_file_and_is_missed(tmp_path):
    path = tmp_path / "small.onnx"
    onnx.save(classifier(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    alone = add(tmp_path / "..", classifier(), f"{tmp_path.name}-alone")
    graph = Graph.read(path)
    model = add_model(path, graph, Wanted("external", preprocess_of("unit", (SIDE, SIDE))))
    cut = model.network.usual_cut
    assert OnnxSession(model.half(FRONT, cut), "front") and alone.network.cut(cut.name).shape == cut.shape
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(GradfecError, match=r"weights\.bin"):
        Graph.read(path)


def test_labels_must_be_one_a_class(tmp_path):
    with pytest.raises(UsageError, match="3 labels for 10 classes"):
        add(tmp_path, classifier(), labels=("a", "b", "c"))


def test_networks_and_cuts_are_found_by_name(tmp_path):
    model = add(tmp_path, classifier())
    assert network_called("small") is open_model("small").network
    assert cut_called("small:deep") is cut_called("deep", "small")
    assert cut_called("conv2_block1_add").network is network_called("resnet50")
    for text, chosen, why in (
        ("deep", None, "ResNet-50 has no layer 'deep'"),
        ("large:deep", None, "no model is called 'large': use one of resnet50, small, or add one"),
        ("small:deep", "resnet50", "--split small:deep is of the model small, and --model is resnet50"),
        ("dee", "small", "small has no split point 'dee': for example deep"),
    ):
        with pytest.raises(UsageError, match=why):
            cut_called(text, chosen)
    assert remove_model("small") == model.folder
    with pytest.raises(UsageError, match="no model 'small' was added: there is none"):
        remove_model("small")


@pytest.mark.parametrize("seed", range(5))
def test_several_tensors_become_one_and_come_apart_again(seed):
    rng = np.random.default_rng(seed)
    carried = [
        Carried("a", (1, 5, 8, 16), "nchw", 4.0),
        Carried("b", (1, 16, 16, 3), "nhwc", 0.5),
        Carried("c", (1, 2, 8, 8), "nchw", 1.0),
    ]
    tensors = [rng.normal(size=one.dims).astype(np.float32) for one in carried]
    whole = together(carried, tensors)
    assert whole.shape == common_shape(carried) == (8, 8, 5 * 2 + 3 * 4 + 2)
    for tensor, back in zip(tensors, apart(carried, whole), strict=True):
        np.testing.assert_array_equal(tensor, back)  # scales are powers of two
    np.testing.assert_array_equal(whole[2, 3, 5:10], tensors[0][0, :, 2, 7] / 4)  # the second column of each pair
    assert common_shape([carried[0], Carried("d", (1, 1, 9, 9), "nchw")]) is None


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_says_all_but_the_size(preset):
    chosen = preprocess_of(preset, (48, 64))
    assert chosen.size == (48, 64)
    assert preprocess_of(preset, (48, 64), fit="squash").keep == 1.0
    with pytest.raises(UsageError, match="a deviation is above zero"):
        preprocess_of(preset, (48, 64), deviations=(1.0, 0.0, 1.0))


def test_what_is_pooled_travels_as_a_vector_and_not_an_element_a_packet(tmp_path):
    pool = add(tmp_path, classifier()).network.cut("pool")
    assert (pool.carried[0].layout, pool.shape) == ("pooled", (1, 16, 1))


def test_a_branch_that_gets_wider_is_computed_late_so_that_little_crosses_a_cut(tmp_path):
    names = [cut.name for cut in add(tmp_path, forked()).network.cuts]
    assert "fine+coarse" not in names  # `fine` is pooled to four numbers before `coarse` needs any room
    assert [name for name in names if "fine.pool" in name][1] == "fine.pool+coarse"
