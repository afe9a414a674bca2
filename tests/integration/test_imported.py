"""Real daemons with networks from ONNX files: over a link that loses packets they answer as the whole network would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from tests.imported_codec import small, write_codec
from tests.onnx_files import SIDE, classifier, forked, tokens, written

from gradfec_cli.cli import main as gradfec
from gradfec_cli.daemons import Daemon, daemon, free_port
from gradfec_cli.experiment import Link, injector
from gradfec_cloud.backend import load_back_end
from gradfec_common.conceal.mask import Masked
from gradfec_common.networks.pixels import normalise
from gradfec_common.packets import PacketGrid
from gradfec_common.quantisers.laplace import Laplace
from gradfec_edge.frontend import load_front_end
from gradfec_host.models import Model
from gradfec_host.models.add import Wanted, add_model
from gradfec_host.models.graph import Graph
from gradfec_host.models.presets import preprocess_of
from gradfec_host.models.store import open_model

from .endings import ended, is_one_clear_line

pytestmark = pytest.mark.daemons
PICTURES = 8
LABELS = tuple(f"kind {n}" for n in range(10))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with three models."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("GRADFEC_HOME", str(folder))
        for name, model, labels in (("plain", classifier(), LABELS), ("neck", forked(), ()), ("tokens", tokens(), ())):
            path = written(model, folder / f"{name}.onnx")
            wanted = Wanted(name, preprocess_of("unit", (SIDE, SIDE)), labels, "raw" if name == "tokens" else None)
            add_model(path, Graph.read(path), wanted)
        yield folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of the size that the networks take, so that nothing is resized."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(np.random.default_rng(4).integers(0, 256, (PICTURES, SIDE, SIDE, 3), np.uint8)):
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


@pytest.fixture(scope="module")
def cloud(home: Path) -> Iterator[int]:
    """The port of a cloud that serves all of them, also at a cut with two tensors."""
    port = free_port()
    served = ["--split", "plain:stem,plain:deep,neck:coarse.conv+fine,tokens:mixed"]
    with daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", *served, ready="listening on"):
        yield port


def whole_answers(home: Path, name: str, pictures: Path) -> dict[str, Any]:
    """Return what the whole network says of each picture."""
    network = (model := Model.read(home / "models" / name)).network
    whole, found = load_back_end("", network.cuts[0], model, 1), {}
    for path in pictures.iterdir():
        picture = cv2.imread(str(path))[..., ::-1]
        output = whole(normalise(picture, network.preprocess)[np.newaxis])[0]
        found[path.name] = network.head.answer(output, network.class_names).record()
    return found


def records(port: int, pictures: Path, *options: str) -> list[dict[str, Any]]:
    where = ["--camera", str(pictures), "--cloud", f"127.0.0.1:{port}", "--results", "-"]
    with daemon("gradfec-edge", *where, *options) as edge:
        code, said, lines = ended(edge)
    assert code == 0, said
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(("name", "split"), [("plain", "stem"), ("neck", "coarse.conv+fine"), ("tokens", "mixed")])
def test_what_is_lost_and_repaired_leaves_no_trace_in_the_answers(
    name: str, split: str, home: Path, pictures: Path, cloud: int
) -> None:
    expected = whole_answers(home, name, pictures)
    options = ["--model", name, "--split", split, "--codec", "uniform8", "--protect", "nested:1/12", "--fps", "20"]
    options += ["--rows", "2"] if name == "tokens" else []
    with injector(Link(0.3, seed=3), cloud) as (_, port):
        found = records(port, pictures, *options)
    assert sum(record["datagrams"]["lost"] for record in found) > 0
    assert [record["outcome"] for record in found] == ["complete"] * PICTURES
    for record in found:
        of_whole = expected[record["source"]]
        assert record["head"] == of_whole["head"]
        if name == "tokens":
            data = [one["tensors"]["points"]["data"] for one in (record, of_whole)]
            assert np.allclose(*data, atol=0.05)
        else:
            best = [[line["class_index"] for line in one["top5"]][:1] for one in (record, of_whole)]
            assert best[0] == best[1]
    if name == "plain":
        assert all(record["top5"][0]["label"] in LABELS for record in found)


def test_the_default_cut_and_codec_need_no_option_but_the_model(home: Path, pictures: Path) -> None:
    port = free_port()
    with daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--model", "plain,neck", ready="listening on"):
        for name in ("plain", "neck"):
            expected = whole_answers(home, name, pictures)
            found = records(port, pictures, "--model", name, "--protect", "none")
            pairs = [(record["top5"], expected[record["source"]]["top5"]) for record in found]
            same = [there[0]["class_index"] == whole[0]["class_index"] for there, whole in pairs]
            assert sum(same) >= PICTURES - 1, same  # six bits an element
        pictures_sent = records(port, pictures, "--model", "plain", "--codec", "webp:90")
        assert [record["codec"] for record in pictures_sent] == ["webp:90"] * PICTURES


def test_a_bottleneck_in_the_models_folder_needs_no_option_either(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    path = written(classifier(), tmp_path / "plain.onnx")
    add_model(path, Graph.read(path), Wanted("plain", preprocess_of("unit", (SIDE, SIDE)), split="stem"))
    model, port = open_model("plain"), free_port()
    latents = write_codec(small(model)).latents
    front, back = (load("", latents, model) for load in (load_front_end, load_back_end))
    quantiser, grid, expected = Laplace(1.0), PacketGrid(latents.shape, latents.shape[0]), {}
    for picture in pictures.iterdir():
        chi = front(cv2.imread(str(picture))[..., ::-1]).chi
        decoded = quantiser.decode(*quantiser.encode(chi, grid)[:2], grid)
        received = Masked(latents, {})(decoded.tensor, decoded.there, grid, decoded.step)
        expected[picture.name] = int(back(received[np.newaxis])[0].argmax())
    with daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--model", "plain", ready="listening on"):
        found = records(port, pictures, "--model", "plain", "--quality", "1", "--protect", "none")
        other = str(tmp_path / "other.npz")
        write_codec(small(model), Path(other), seed=1)
        where = ["--camera", str(pictures), "--cloud", f"127.0.0.1:{port}", "--model", "plain", "--codec", other]
        code, said, _ = ended(Daemon("gradfec-edge", where))
    assert [record["codec"] for record in found] == ["bottleneck"] * PICTURES
    assert {record["source"]: record["top5"][0]["class_index"] for record in found} == expected
    assert code == 1 and "both ends must add a model from the same file, with the same options and bottlene" in said


def test_a_try_tells_what_becomes_of_the_answers(home: Path, pictures: Path) -> None:
    words = ["model", "try", "plain", "--images", str(pictures), "--loss", "20%", "--codec", "uniform8", "--json"]
    done = CliRunner().invoke(gradfec, words, catch_exceptions=False)
    found = json.loads(done.stdout)
    assert (found["frames"], found["answered"], found["codecs"]) == (PICTURES, PICTURES, {"uniform8": PICTURES})
    assert found["agreement"] >= 1 - 1 / PICTURES and found["bytes"] > 100


def test_another_version_of_a_model_is_refused_in_one_line(
    pictures: Path, cloud: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    path = written(classifier(seed=5), tmp_path / "plain.onnx")
    add_model(path, Graph.read(path), Wanted("plain", preprocess_of("unit", (SIDE, SIDE)), split="stem"))
    where = ["--camera", str(pictures), "--cloud", f"127.0.0.1:{cloud}"]
    with daemon("gradfec-edge", *where, "--model", "plain") as edge:
        code, said, _ = ended(edge)
    assert code == 1
    assert is_one_clear_line(said, "this cloud has plain ("), said
    assert "both ends must add a model from the same file, with the same options" in said


def test_a_model_that_is_not_there_or_has_no_such_cut_is_one_clear_line(home: Path, pictures: Path) -> None:
    where = ["--camera", str(pictures), "--cloud", "127.0.0.1:9"]
    for options, words in (
        (["--model", "nobody"], "no model is called 'nobody': use one of resnet50, neck, plain, tokens, or add one"),
        (["--model", "plain", "--split", "nowhere"], "plain has no split point 'nowhere'"),
        (["--model", "plain", "--codec", "bottleneck"], "there is no bottleneck for the split plain:"),
    ):
        edge = Daemon("gradfec-edge", [*where, *options])
        code, said, _ = ended(edge)
        assert (code, is_one_clear_line(said, words)) == (2, True), said
