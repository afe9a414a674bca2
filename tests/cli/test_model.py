"""`gradfec model`: what people type, and what they are told."""

import csv
import json
import sys
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from tests.onnx_files import CLASSES, SIDE, Drawing, classifier, picture, tokens, written

from gradfec_cli.cli import main
from gradfec_common.conceal import make_concealment
from gradfec_common.errors import GradfecError
from gradfec_common.networks import Preprocess
from gradfec_common.packets import PacketGrid
from gradfec_common.preprocess import to_input
from gradfec_edge.importance import default_estimator, make_estimator
from gradfec_host.concealment_file import learned_for
from gradfec_host.models import network_called
from gradfec_host.models.find import learned_at
from gradfec_host.models.learned import PICTURES, learned_file
from gradfec_host.models.session import OnnxSession
from gradfec_host.models.store import added, models_folder


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))
    return tmp_path


def run(*words, code=0):
    done = CliRunner().invoke(main, ["model", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def small(home):
    return written(classifier(), home / "Small Net.onnx")


def test_a_file_is_added_listed_shown_and_removed(small):
    assert "small-net, " in run("add", small, "--preprocess", "unit").stdout
    shown = run("show", "small-net").stdout
    assert "answers: classify 10 classes, without names" in shown and "<- default" in shown
    facts = json.loads(run("show", "small-net", "--json").stdout)
    assert [cut["name"] for cut in facts["cuts"]][:2] == ["image", "stem.conv"]
    assert len(facts["cuts"]) > len(run("show", "small-net").stdout.splitlines()) - 3
    assert run("list").stdout.startswith("small-net: 32 x 32 rgb, squash, levels as in unit, classify 10 classes")
    assert run("remove", "small-net").stdout == f"removed {models_folder() / 'small-net'}\n"
    assert run("list").stdout.startswith("no model in ")


def test_a_network_of_imagenets_classes_needs_no_file_for_their_names(home):
    run("add", written(classifier(classes=1000), home / "big.onnx"), "--labels", "imagenet")
    assert network_called("big").class_names[285] == "Egyptian_cat"


def test_what_a_user_gets_wrong_is_told_in_one_line(small, home):
    run("add", small)
    labels = home / "labels.txt"
    labels.write_text("cat\ndog\n")
    for words, told in (
        (("add", small), "there is a model small-net already: give --replace, or another --name"),
        (("add", small, "--name", "Größe"), "'Größe' cannot be a model's name: use small letters"),
        (("add", small, "--name", "resnet50"), "resnet50 is built in: choose another --name"),
        (
            ("add", small, "--name", "b", "--preprocess", "torch"),
            "no preprocessing is called 'torch': use one of imagenet-",
        ),
        (("add", small, "--name", "b", "--outputs", "boxes"), "there is no output 'boxes': the outputs are logits"),
        (("add", small, "--name", "b", "--size", "big"), "'big' is not HEIGHTxWIDTH, for example 480x640"),
        (("add", small, "--name", "b", "--mean", "1,2"), "'1,2' is not three numbers, for example 127,127,127"),
        (("add", small, "--name", "b", "--mean", "nan,0,0"), "'nan,0,0' is not three numbers, for example"),
        (("add", small, "--name", "b", "--std", "1e-38,1,1"), "the input is not finite after --mean and --std"),
        (("add", small, "--name", "b", "--labels", labels), "2 labels for 10 classes"),
        (("add", small, "--name", "b", "--labels", "imagenet"), "1000 labels for 10 classes"),
        (("add", small, "--name", "b", "--split", "nowhere"), "has no split point 'nowhere'"),
        (("show", "nobody"), "no model is called 'nobody': use one of resnet50, small-net, or add one"),
        (("show", "resnet50"), "resnet50 is built in"),
        (("remove", "nobody"), "no model 'nobody' was added: there is small-net"),
        (("export", "small-net", "--half", "edge", "--out", home), f"{home} exists: choose another --out"),
    ):
        done = run(*words, code=2)
        assert told in done.stderr and len(done.stderr.strip().splitlines()[-1:]) == 1, done.stderr
    assert added() == ["small-net"]


def test_labels_are_lines_or_a_json_list(small, home):
    for number, text in enumerate(
        ("\n".join(map(str, range(CLASSES))), json.dumps([f"kind {n}" for n in range(CLASSES)]))
    ):
        labels = home / "labels"
        labels.write_text(text)
        assert "10 classes, named" in run("add", small, "--name", f"m{number}", "--labels", labels).stdout
    for text, told in (('["a", 1]', "label 2 is not a text"), ("[", "are not a JSON list"), ("", "has no labels")):
        labels.write_text(text)
        assert told in run("add", small, "--name", "x", "--labels", labels, code=2).stderr


def test_a_half_is_exported_and_taken_by_another_machine(small, home, monkeypatch):
    run("add", small)
    told = run("export", "small-net", "--half", "edge", "--split", "deep", "--out", home / "for-edge").stdout
    assert "the edge's half of small-net at deep" in told
    monkeypatch.setenv("GRADFEC_HOME", str(home / "edge"))
    assert "here is only the front at deep" in run("add", home / "for-edge", "--name", "mine").stdout
    told = run("add", home / "for-edge", "--name", "b", "--preprocess", "unit", "--iou", "0.5", code=2).stderr
    assert "for-edge was exported from a model: give --preprocess, --iou where that is added, and export it ag" in told
    (home / "for-edge" / "manifest.json").unlink()
    assert "it has no manifest.json" in run("add", home / "for-edge", "--name", "b", code=1).stderr


@pytest.fixture
def photographs(home):
    folder = home / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(12):
        coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:02}.png"), cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST))
    return folder


def true_classes(small, photographs, scale):
    """Label each photograph with what the network says if it is fed with pixels times a scale."""
    session, rows = OnnxSession(small.read_bytes(), "small"), []
    for path in sorted(photographs.iterdir()):
        image = to_input(cv2.imread(str(path)), Preprocess(SIDE, SIDE, "rgb"))
        fed = (image.transpose(2, 0, 1)[None] * np.float32(scale)).astype(np.float32)
        rows.append([path.name, int(session(fed)[0].argmax())])
    table = photographs.parent / "labels.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return table


def test_a_check_finds_the_preset_that_the_labels_speak_for(small, photographs):
    labels = true_classes(small, photographs, 1 / 255)
    run("add", small, "--preprocess", "unit")
    good = json.loads(run("check", "small-net", "--images", photographs, "--labels", labels, "--json").stdout)
    rows = {row["preset"]: row["top1"] for row in good["presets"]}
    assert rows["as it was added"] == rows["unit"] == 1.0 > min(rows.values())
    assert good["halves"] == 1.0 and good["well_fed"]
    run("add", small, "--preprocess", "imagenet-caffe", "--replace")
    bad = run("check", "small-net", "--images", photographs, "--labels", labels, code=1)
    assert "small-net is more often right with unit: if it was trained so, add it again with --replace" in bad.stderr


def test_how_sure_a_network_is_proves_nothing(small, photographs):
    run("add", small, "--preprocess", "imagenet-tf")
    bad = run("check", "small-net", "--images", photographs, code=1).stderr
    assert "small-net is surer with imagenet-caffe: if it was trained so" in bad


def test_what_is_no_number_is_one_clear_error(home, photographs):
    draw = Drawing()
    draw.node("Log", [draw.node("Neg", [draw.convolution("image", "stem", (3, 8))], "neg")], "log")
    draw.node("Flatten", [draw.node("GlobalAveragePool", ["log"], "pool")], "flat")
    run("add", written(draw.model([picture()], [("flat", (1, 8))]), home / "nan.onnx"))
    for verb in ("check", "try"):
        told = run(verb, "nan", "--images", photographs, code=1).stderr
        assert "nan does not answer with numbers: the network overflows on its features" in told


def test_what_cannot_be_tried_is_told_before_anything_runs(small, home, photographs):
    run("add", small)
    run("add", written(tokens(), home / "t.onnx"), "--head", "raw")
    labels = home / "labels.csv"
    labels.write_text("00.png,1\n")
    for name, words, told in (
        ("small-net", ("--split", "nowhere"), "small-net has no split point 'nowhere'"),
        ("small-net", ("--split=nowhere",), "small-net has no split point 'nowhere'"),
        ("small-net", ("--results", "x.jsonl"), "--results is given to the edge already: leave it out"),
        ("small-net", ("--labels", labels), "has no label for 11 of the 12 images"),
        ("t", ("--labels", labels), "t has the head raw: --labels are for classes, leave it out"),
    ):
        assert told in run("try", name, "--images", photographs, *words, code=2).stderr


def test_where_only_the_edges_half_is_what_needs_the_whole_model_says_so(small, home, photographs):
    run("add", small)
    run("export", "small-net", "--half", "edge", "--out", home / "half")
    run("add", home / "half", "--name", "mine")
    plan = ["plan", "--model", "mine", "--link", "2,5%,40", "--images", str(photographs)]
    for done, command in (
        (run("check", "mine", "--images", photographs, code=2), "model check"),
        (run("try", "mine", "--images", photographs, code=2), "model try"),
        (CliRunner().invoke(main, plan), "plan"),
    ):
        told = f"gradfec {command} needs the whole model; this machine has the edge's half of mine"
        assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, f"error: {told}")


def test_a_check_of_tensors_compares_the_halves_alone(home, photographs):
    run("add", written(tokens(), home / "t.onnx"), "--head", "raw")
    assert (
        "answers with tensors, which do not tell how well it is fed"
        in run("check", "t", "--images", photographs).stdout
    )
    labels = photographs.parent / "labels.csv"
    labels.write_text("00.png,1\n")
    told = run("check", "t", "--images", photographs, "--labels", labels, code=2).stderr
    assert "t has the head raw: --labels are for classes, leave it out" in told


def test_without_pytorch_channels_are_left_out_to_see_what_matters(small, photographs, monkeypatch):
    for path in sorted(photographs.iterdir()):
        (photographs / f"again-{path.name}").write_bytes(path.read_bytes())
    run("add", small, "--preprocess", "unit", "--split", "deep")
    monkeypatch.setitem(sys.modules, "torch", None)
    options = "learn", "small-net", "--images", photographs, "--count", "24"
    learned = run(*options)
    assert "24 photographs, by occlusion: " in learned.stdout
    assert "leaving out channels: PyTorch is not installed: pip install torch" in learned.stderr
    assert "PyTorch" not in run(*options, "--by", "occlusion").stderr
    assert run(*options, "--by", "gradients", code=2).stderr == "error: PyTorch is not installed: pip install torch\n"


def test_what_is_learned_ranks_packets_fills_gaps_and_travels_with_the_half(small, photographs, monkeypatch):
    for path in sorted(photographs.iterdir()):
        (photographs / f"again-{path.name}").write_bytes(path.read_bytes())
    run("add", small, "--preprocess", "unit", "--split", "deep")
    found = json.loads(run("learn", "small-net", "--images", photographs, "--count", "24", "--json").stdout)
    assert found["photographs"] == 24 and found["kept"][-1] == [1.0, 1.0]
    assert found["by"] == ("gradients" if find_spec("torch") else "occlusion")
    assert [share for share, _ in found["kept"]] == sorted(share for share, _ in found["kept"])
    sizes, agreements = ([one[key] for one in found["pictures"]] for key in ("bytes", "agreement"))
    assert sizes == sorted({*sizes}) and agreements[-1] > 0.8
    cut = network_called("small-net").usual_cut
    grid, rng = PacketGrid(cut.shape, 2), np.random.default_rng(0)
    assert default_estimator(cut, grid) == "deviation"
    learned, chi = learned_at(cut), rng.random(cut.shape, np.float32)
    chi[:2, :, 3] = learned.means[3]  # as if it were filled already
    scores = make_estimator("deviation", cut, grid, rng)(None, chi)
    assert scores.argmin() == 3 * grid.groups and scores.min() < 1e-9
    assert make_estimator("static", cut, grid, rng)(None, chi).shape == (grid.count,)
    filled = make_concealment("mean", cut, learned_for(cut))(chi.copy(), np.zeros(grid.count, bool), grid)
    np.testing.assert_allclose(filled, np.broadcast_to(learned.means, cut.shape), rtol=1e-6)
    run("export", "small-net", "--half", "edge", "--out", photographs.parent / "half")
    monkeypatch.setenv("GRADFEC_HOME", str(photographs.parent / "edge"))
    run("add", photographs.parent / "half", "--name", "mine")
    there = learned_at(network_called("mine").usual_cut)
    assert (there.kept, there.pictures) == (learned.kept, learned.pictures)
    assert [one.bytes for one in there.pictures] == sizes
    assert "is gone: gradfec model learn mine" in run("add", small, "--name", "mine", "--replace").stderr
    run("add", photographs.parent / "half", "--name", "mine", "--replace")
    path, mine = learned_file(models_folder() / "mine", cut), network_called("mine").usual_cut
    good = path.read_bytes()
    with np.load(path) as archive:
        arrays = dict(archive)
    for damaged in (b"?", b"PK\x03\x04", good[:500], good[:300] + b"?????" + good[305:]):
        path.write_bytes(damaged)
        with pytest.raises(GradfecError, match="learn again with gradfec model learn"):
            learned_at(mine)
    curves = [
        {"kept": np.reshape(kept, (-1, 2))} for kept in ([], [0.5, 0.9], [0.5, 0.9, 0.3, 0.5, 1, 1], [0.5, 2, 1, 1])
    ]
    odd = (
        [50, 10, 2.0],
        [0, 10, 0.5],
        [50, 0, 0.5],
        [50, 10, 0.5, 50, 20, 0.6],
        [50, 10, 0.5, 60, 9, 0.6],
        [50, np.inf, 1],
    )
    curves += [{PICTURES: np.reshape(pictures, (-1, 3)).astype(float)} for pictures in odd]
    for curve in (*curves, {PICTURES: np.ones((1, 2))}):
        np.savez_compressed(path, **{**arrays, **curve})
        with pytest.raises(GradfecError, match="learn again with gradfec model learn"):
            learned_at(mine)
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if name != PICTURES})
    assert learned_at(mine).pictures == ()  # learned by an earlier version
