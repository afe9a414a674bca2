"""Several cameras in one edge: each has its own session, and one that fails does not end the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from gradfec_cli.daemons import free_port
from gradfec_cli.experiment import top1

from .endings import ended, untimed
from .patient import patient
from .stubbed import stubbed

FRAMES = 6


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of alike pictures for each of two cameras: the toy network tells them by their shade."""
    folders = {}
    for name, level in (("door", 30), ("yard", 200)):
        folders[name] = tmp_path_factory.mktemp(name)
        for n in range(FRAMES):
            cv2.imwrite(str(folders[name] / f"{n}.png"), np.full((224, 224, 3), level, np.uint8))
    return folders


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    port, results = free_port(), tmp_path_factory.mktemp("cloud") / "cloud.jsonl"
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--results", results):
        yield port, results


def settings(path: Path, port: int, cameras: dict[str, Path], **own: str) -> Path:
    text = f'cloud = "127.0.0.1:{port}"\nresults = "{path.with_suffix(".jsonl")}"\nlog_level = "debug"\n'
    for name, camera in cameras.items():
        text += f'[[camera]]\nname = "{name}"\ncamera = "{camera}"\n{own.get(name, "")}\n'
    path.write_text(text)
    return path


def records_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_two_cameras_share_a_process_and_each_gets_its_own_answers(
    cloud: tuple[int, Path], shades: dict[str, Path], tmp_path: Path
) -> None:
    port, of_cloud = cloud
    file = settings(tmp_path / "edge.toml", port, shades, yard='protect = "none"')
    with stubbed("gradfec-edge", "--config", file, "--json") as edge:
        code, said, output = ended(edge)
    assert code == 0, said
    records = records_of(tmp_path / "edge.jsonl")
    for name in shades:
        mine = [record for record in records if record["edge"] == name]
        theirs = [record for record in records_of(of_cloud) if record["edge"] == name]
        assert sorted(record["frame"] for record in mine) == [*range(FRAMES)]
        assert len(theirs) == FRAMES
        assert {record["outcome"] for record in mine} == {"complete"}
        assert f"gradfec-edge: {name}: connected to 127.0.0.1:{port}" in said
        assert said.count(f"gradfec-edge: {name}: 0.png: ") == 1  # debug
    answers = {name: {top1(record) for record in records if record["edge"] == name} for name in shades}
    assert all(len(classes) == 1 for classes in answers.values())
    assert answers["door"] != answers["yard"]
    totals = json.loads(output[-1])
    assert [*totals] == [*shades]
    assert all(one["frames"] == {"complete": FRAMES, "skipped": 0} for one in totals.values())
    assert totals["yard"]["packets"]["dropped_by_plan"] == 0 < totals["door"]["packets"]["dropped_by_plan"]


def test_a_camera_that_cannot_go_on_does_not_end_the_other_but_the_exit_code_tells(
    cloud: tuple[int, Path], shades: dict[str, Path], tmp_path: Path
) -> None:
    file = settings(tmp_path / "edge.toml", cloud[0], shades, door='results = "/dev/full"')
    with stubbed("gradfec-edge", "--config", file) as edge:
        code, said, _ = ended(edge)
    assert code == 1
    assert "gradfec-edge: door: error: this camera has ended: cannot write results to /dev/full: " in said
    assert f"gradfec-edge: yard: frames: {FRAMES} complete\n" in said
    assert untimed(said.splitlines()[-1]) == "error: 1 of 2 cameras failed: door"
    assert sorted(record["frame"] for record in records_of(tmp_path / "edge.jsonl")) == [*range(FRAMES)]


@pytest.mark.daemons
@pytest.mark.slow
def test_two_cameras_on_one_real_front_end_are_not_mixed_up(photographs: Path, tmp_path: Path) -> None:
    port = free_port()
    cameras = {"cat": "chelsea.png", "cup": "coffee.png"}
    for name, photograph in cameras.items():
        (tmp_path / name).mkdir()
        for n in range(4):
            (tmp_path / name / f"{n}.png").symlink_to(photographs / photograph)
    file = settings(tmp_path / "edge.toml", port, {name: tmp_path / name for name in cameras})
    with (
        patient("gradfec-cloud", "--listen", f"127.0.0.1:{port}", ready="listening on"),
        patient("gradfec-edge", "--config", file) as edge,
    ):
        code, said, _ = ended(edge)
    assert code == 0, said
    records = records_of(tmp_path / "edge.jsonl")
    labels = {name: {record["top5"][0]["label"] for record in records if record["edge"] == name} for name in cameras}
    assert {name: len(found) for name, found in labels.items()} == {"cat": 1, "cup": 1}
    assert "cat" in labels["cat"].pop().lower()
    assert labels["cup"].pop() in {"espresso", "cup", "coffee_mug", "soup_bowl"}
