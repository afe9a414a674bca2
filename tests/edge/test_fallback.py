"""The model that answers on the edge while the cloud is away."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.onnx_files import classifier, spotter, written

from gradfec_cli.daemons import free_port
from gradfec_common.errors import UsageError
from gradfec_common.heads import Boxes
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_edge.cameras import CameraSession, fallbacks, sessions_of
from gradfec_edge.cli import main
from gradfec_edge.fallback import Fallback, fallback_model
from gradfec_host.logs import Log
from gradfec_host.models import Model
from gradfec_host.models.add import Wanted, add_model
from gradfec_host.models.graph import Graph
from gradfec_host.models.presets import preprocess_of

SIDE = 64


def added(name: str, path: Path, side: int) -> Model:
    return add_model(path, Graph.read(path), Wanted(name, preprocess_of("unit", (side, side), "crop")))


@pytest.fixture
def spotting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))
    return added("spotter", written(spotter(SIDE), tmp_path / "spotter.onnx"), SIDE)


def test_the_whole_network_answers_in_the_cameras_frame(spotting: Model) -> None:
    frame = np.zeros((256, 512, 3), np.uint8)
    frame[96:160, 256:320] = 255  # 16 pixels of a crop of the middle
    answer = Fallback(spotting)(frame)
    assert isinstance(answer, Boxes)
    assert answer.found[0].place == pytest.approx((0.5, 0.375, 0.625, 0.625), abs=0.01)


def test_a_network_that_overflows_has_no_answer(spotting: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    fallback = Fallback(spotting)
    run = fallback._run
    monkeypatch.setattr(fallback, "_run", lambda *fed: [np.full_like(one, np.nan) for one in run(*fed)])
    assert fallback(np.zeros((SIDE, SIDE, 3), np.uint8)) is None


def test_only_added_models_with_the_same_kind_of_answers_can_take_over(spotting: Model, tmp_path: Path) -> None:
    assert fallback_model("spotter", spotting.network) is not None
    added("classes", written(classifier(), tmp_path / "classes.onnx"), 32)
    assert fallback_model("classes", RESNET50).network.name == "classes"
    with pytest.raises(UsageError, match="--fallback spotter answers with detect, and resnet50 with classify"):
        fallback_model("spotter", RESNET50)
    with pytest.raises(UsageError, match="resnet50 is built in"):
        fallback_model("resnet50", RESNET50)
    with pytest.raises(UsageError, match="no model is called 'none'"):
        fallback_model("none", RESNET50)


def session(**given: object) -> CameraSession:
    command = ["--camera", "0", "--cloud", "127.0.0.1:9", "--insecure", "--model", "spotter"]
    options = main.make_context("gradfec-edge", command).params
    (made,) = sessions_of([{**options, **given}], Log("gradfec-edge"))
    return made


def opened(one: CameraSession) -> Any:
    with contextlib.ExitStack() as stack:
        one.open(stack, {})
        return one.source


def test_cameras_with_the_same_fallback_share_it(spotting: Model) -> None:
    sessions = [session(fallback=name) for name in ("spotter", None, "spotter")]
    first, none, third = fallbacks(sessions)
    assert first is third is not None
    assert none is None


def test_who_asks_decides_how_often(spotting: Model) -> None:
    pytest.importorskip("zmq")
    camera = f"zmq://127.0.0.1:{free_port()}"
    assert opened(session(camera=camera)).live
    for one in ({"fps": 2.0}, {"loop": True}):
        with pytest.raises(UsageError, match="--fps and --loop do not go with zmq://"):
            opened(session(camera=camera, **one))
