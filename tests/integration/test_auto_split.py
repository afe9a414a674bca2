"""Real daemons with --split auto: on a slow link the edge changes the split, within its session and without a gap."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.onnx_files import SIDE
from tests.split_tables import DEEP, EARLY, LATE, NAME, save, small_model

from gradfec_cli.daemons import daemon, free_port

from .endings import ended, is_one_clear_line
from .hasty import HASTY

pytestmark = pytest.mark.daemons
FRAMES = 60


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(np.random.default_rng(4).integers(0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8)):
        cv2.imwrite(str(folder / f"{number:03}.png"), image)
    return folder


def test_the_split_changes_with_the_link_in_one_session_and_every_frame_is_answered(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    save(small_model(tmp_path))  # planned for a fast link, and the link is slow
    cloud, relay = free_port(), free_port()
    served = ["--split", ",".join(f"{NAME}:{way.cut}" for way in (EARLY, DEEP, LATE))]
    slow = ["--rate", "0.3", "--delay", "5", "--back-delay", "5"]
    edge = ["--camera", pictures, "--cloud", f"127.0.0.1:{relay}", "--model", NAME, "--split", "auto", "--fps", "10"]
    with (
        daemon("gradfec-cloud", "--listen", f"127.0.0.1:{cloud}", *served, ready="listening on"),
        daemon(
            "gradfec-netem", "--listen", f"127.0.0.1:{relay}", "--to", f"127.0.0.1:{cloud}", *slow, ready="listening on"
        ),
        daemon(
            "gradfec-edge",
            *map(str, edge),
            *("--results", "-", "--timeout-ms", "60000"),
            program=HASTY,
        ) as hasty,
    ):
        code, said, lines = ended(hasty)
    assert code == 0, said
    records = [json.loads(line) for line in lines]
    assert len(records) == FRAMES
    assert {record["outcome"] for record in records} <= {"complete", "partial"}
    assert len({record["session"] for record in records}) == 1
    cuts = [record["split"] for record in sorted(records, key=lambda record: int(record["frame"]))]
    assert (cuts[0], cuts[-1]) == (EARLY.cut, LATE.cut)
    assert cuts == sorted(cuts, key=cuts.index)  # it changes once each, and never back
    assert f"split: {LATE.name}, " in said


def test_without_measurements_the_edge_names_the_command(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    with daemon("gradfec-edge", "--camera", pictures, "--cloud", "127.0.0.1:9", "--split", "auto") as edge:
        code, said, _ = ended(edge)
    assert code == 2
    assert is_one_clear_line(said, "run gradfec plan --model resnet50 --link RATE,LOSS,RTT --images DIR --save"), said
