"""Detectors from ONNX files find through the daemons what the whole network finds, in the camera's frame.

TEST_MODELS names a folder with centernet_coco.onnx, a CenterNet for 512 x 512 RGB levels and the classes of COCO, whose
outputs are `heatmap` and `wh`. Without it, that one test is skipped.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from tests.onnx_files import spotter, written

from gradfec_cli.daemons import daemon, free_port
from gradfec_cloud.backend import load_back_end
from gradfec_common.heads import Boxes
from gradfec_common.heads.boxes import overlap
from gradfec_common.networks.carried import apart
from gradfec_common.networks.pixels import normalise
from gradfec_common.preprocess import to_input
from gradfec_edge.camera import read_image
from gradfec_edge.frontend import load_front_end
from gradfec_host.models.add import Wanted, add_model
from gradfec_host.models.graph import Graph
from gradfec_host.models.presets import preprocess_of
from gradfec_host.models.session import OnnxSession

from .endings import ended

SIDE = 64
Floats = npt.NDArray[np.float32]


@pytest.fixture
def spotting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one photograph, twice as wide as high, with a white square; and models that find it."""
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))
    path = written(spotter(SIDE), tmp_path / "spotter.onnx")
    for fit in ("crop", "pad"):
        add_model(path, Graph.read(path), Wanted(fit, preprocess_of("unit", (SIDE, SIDE), fit), ("white",)))
    folder = tmp_path / "photographs"
    folder.mkdir()
    frame = np.zeros((256, 512, 3), np.uint8)
    frame[96:160, 256:320] = 255  # 16 pixels of a crop of the middle
    cv2.imwrite(str(folder / "square.png"), frame)
    frame[64:192, 192:320] = 255  # 16 pixels of the whole width
    cv2.imwrite(str(folder / "large.png"), frame)
    return folder


@pytest.mark.daemons
@pytest.mark.parametrize(
    ("fit", "name", "box"),
    [("crop", "square.png", [0.5, 0.375, 0.625, 0.625]), ("pad", "large.png", [0.375, 0.25, 0.625, 0.75])],
)
def test_boxes_in_the_records_lie_in_the_cameras_frame(fit: str, name: str, box: list[float], spotting: Path) -> None:
    port = free_port()
    with daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--model", fit, ready="listening on"):
        where = ["--camera", str(spotting / name), "--cloud", f"127.0.0.1:{port}", "--model", fit, "--results", "-"]
        with daemon("gradfec-edge", *where, "--protect", "none") as edge:
            code, said, lines = ended(edge)
    assert code == 0, said
    (record,) = map(json.loads, lines)
    assert record["outcome"] == "complete"
    best = record["boxes"][0]
    assert (best["class_index"], best["label"]) == (0, "white")
    assert best["score"] > 0.9
    assert best["box"] == pytest.approx(box, abs=0.01)


def plain_decode(heatmap: Floats, extent: Floats) -> list[tuple[int, float, list[float]]]:
    """Return class, score and place of each box, as one would write it down for one picture."""
    found = []
    for kind, row, column in np.argwhere(heatmap >= 0.2):
        around = heatmap[kind, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        if heatmap[kind, row, column] == around.max():
            left, top, right, bottom = extent[:, row, column]
            place = [4 * column - left, 4 * row - top, 4 * column + right, 4 * row + bottom]
            found.append((int(kind), float(heatmap[kind, row, column]), [edge / 512 for edge in place]))
    kept: list[tuple[int, float, list[float]]] = []
    for one in sorted(found, key=lambda one: -one[1])[:100]:
        if all(overlap(np.array(one[2]), np.array(other[2])) <= 0.4 for other in kept):
            kept.append(one)
    return kept


def test_a_real_detector_in_two_halves_finds_what_it_finds_whole(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(os.environ.get("TEST_MODELS", ".")) / "centernet_coco.onnx"
    if not path.is_file():
        pytest.skip("TEST_MODELS names no folder with centernet_coco.onnx")
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    wanted = Wanted("centernet", preprocess_of("raw", (512, 512)))
    model = add_model(path, Graph.read(path), wanted)
    network = model.network
    assert network.facts["head"]["layout"] == "centernet"
    whole = OnnxSession(path.read_bytes(), path.name)
    front_end, back_end = load_front_end("", network.usual_cut, model), load_back_end("", network.usual_cut, model, 1)
    things = 0
    for photograph in sorted(photographs.iterdir()):
        picture = to_input(read_image(photograph), network.preprocess)
        heatmap, extent = whole(*apart((network.fed,), normalise(picture, network.preprocess)))
        expected = plain_decode(heatmap[0], extent[0])
        table = back_end(front_end(picture).chi[np.newaxis])[0]
        answer = network.head.answer(table, ())
        assert isinstance(answer, Boxes)
        assert [one.class_index for one in answer.found] == [kind for kind, _, _ in expected]
        for one, (_, score, place) in zip(answer.found, expected, strict=True):
            assert one.score == pytest.approx(score, abs=1e-3)
            np.testing.assert_allclose(one.place, np.clip(place, 0, 1), atol=1e-3)
        things += len(expected)
    assert things >= 3
