"""The wheel in an empty environment: an edge alone gets its first answer, and the demo runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gradfec_cli.daemons import free_port
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_host.weights import WeightStore

pytestmark = pytest.mark.wheel
ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 400e6  # of an edge's environment, pip included
OF_OTHERS = ("h5py", "keras", "matplotlib", "nicegui", "pillow", "scikit-image", "tensorflow")
PATIENCE_S = 120


class Box:
    """A machine with nothing but an environment of its own and a home."""

    def __init__(self, folder: Path) -> None:
        """Make the environment, and the wheel to be installed into it."""
        self.place, self.folder = folder / "environment", folder
        venv.create(self.place, with_pip=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRADFEC_", "PYTHON"))}
        self.settings = {**clean, "GRADFEC_HOME": str(folder / "home"), "GRADFEC_CONFIG": os.devnull}
        subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT], check=True)
        (self.wheel,) = folder.glob("gradfec-*.whl")

    def run(self, program: str, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; return what it said."""
        command = [self.place / "bin" / program, *map(str, arguments)]
        environment = self.settings | settings
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def install(self, extra: str) -> None:
        """Install the wheel with an extra."""
        wheel = f"gradfec[{extra}] @ {self.wheel.as_uri()}"
        self.run("pip", "install", "-q", "--disable-pip-version-check", "-c", ROOT / "constraints.txt", wheel)

    @contextmanager
    def cloud(self, port: int, **settings: str) -> Iterator[None]:
        """Run a cloud."""
        command = [self.place / "bin" / "gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--insecure"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=self.settings | settings) as running:
            assert running.stderr is not None
            try:
                assert any("listening on" in line for line in running.stderr)
                yield
            finally:
                running.terminate()
                running.communicate(timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Box:
    """A box with an edge alone."""
    made = Box(tmp_path_factory.mktemp("box"))
    made.install("edge")
    return made


@pytest.fixture(scope="module")
def home(weights: WeightStore) -> dict[str, str]:
    """The setting with which this machine's weights are found."""
    assert weights.path.name == f"{RESNET50.name}-imagenet.npz"
    return {"GRADFEC_HOME": str(weights.path.parent.parent)}


def test_an_edge_installs_nothing_of_a_server_or_a_lab(box: Box) -> None:
    packages = {one["name"].lower() for one in json.loads(box.run("pip", "list", "--format", "json").stdout)}
    assert {"gradfec", "ai-edge-litert", "opencv-python-headless"} <= packages
    assert not packages & {*OF_OTHERS}
    assert sum(path.lstat().st_size for path in box.place.rglob("*")) < MOST_BYTES


def test_an_edge_without_a_download_gets_its_first_answer(box: Box, home: dict[str, str], photographs: Path) -> None:
    port = free_port()
    with box.cloud(port, **home):
        where = ("--camera", photographs / "chelsea.png", "--cloud", f"127.0.0.1:{port}", "--insecure")
        (line,) = box.run("gradfec-edge", *where, "--results", "-").stdout.splitlines()
    record: dict[str, Any] = json.loads(line)
    assert (record["outcome"], record["top5"][0]["label"]) == ("complete", "Egyptian_cat")
    assert not (box.folder / "home" / "weights").exists()


def test_the_demo_runs_from_its_extra(box: Box, home: dict[str, str]) -> None:
    box.install("demo")
    said = json.loads(box.run("gradfec", "demo", "--json", **home).stdout)
    assert {run["frames"] for run in said["runs"]} == {10}
    agreement = {run["name"]: run["agreement"] for run in said["runs"]}
    assert agreement["protected"] > 0.5
