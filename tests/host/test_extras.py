"""The extras of pyproject.toml: what each machine gets, and what runs without them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from gradfec_common.errors import UsageError
from gradfec_host import extras
from gradfec_host.extras import EXTRAS, missing, need

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = {
    "LiteRT": "ai-edge-litert",
    "NiceGUI": "nicegui",
    "ONNX Runtime": "onnxruntime",
}  # whose name on the index is another
ON_A_CAMERA_BOX = [
    "gradfec_edge.cli",
    "gradfec_edge.process",
    "gradfec_edge.camera",
    "gradfec_edge.pipeline",
    "gradfec_edge.frontend.litert_runtime",
    "gradfec_host.codec_file",
    "gradfec_host.live",
    "gradfec_edge.status",
    "gradfec_cli.doctor",
    "gradfec_cli.doctor.machine",
    "gradfec_cli.keygen",
    "gradfec_cli.health",
    "gradfec_cli.config_command",
    "gradfec_cli.weights_command",
    "gradfec_cli.netem",
    "gradfec_cli.relay",
    "gradfec_cli.demo",
    "gradfec_cli.experiment",
    "gradfec_cli.uncut",
]
ON_A_SERVER = [
    "gradfec_cloud.cli",
    "gradfec_cloud.daemon",
    "gradfec_cloud.backend.litert_runtime",
    "gradfec_cloud.status",
]
OF_THE_LAB = [
    "gradfec_lab.bench",
    "gradfec_lab.bench.rivals.command",
    "gradfec_lab.bench.end_to_end",
    "gradfec_lab.sweep",
]


def brought_by(extra):
    """Return the names of the packages that an extra brings, those of the extras that it includes among them."""
    found = set()
    for line in PROJECT["optional-dependencies"][extra]:
        if included := re.fullmatch(r"gradfec\[(.*)\]", line):
            found |= set().union(*map(brought_by, included[1].split(",")))
        else:
            found.add(re.match(r"[\w-]+", line)[0])
    return found


@pytest.mark.parametrize("module", EXTRAS)
def test_the_extra_that_an_error_names_brings_the_package(module):
    package, extra = EXTRAS[module]
    assert PACKAGES.get(package, package.lower()) in brought_by(extra)


def test_a_camera_box_gets_litert_and_no_more_and_a_server_draws_nothing_either():
    assert brought_by("edge") == brought_by("litert")
    assert brought_by("cloud") - brought_by("litert") - brought_by("web") == {"h5py"}
    required = {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]}
    assert not required & {"matplotlib", "h5py", "pillow", "nicegui", "scikit-image"}


@pytest.mark.parametrize("modules", [ON_A_CAMERA_BOX, ON_A_SERVER, OF_THE_LAB], ids=["edge", "cloud", "lab"])
def test_commands_are_imported_without_the_packages_of_other_extras(modules):
    hidden = {*EXTRAS, "PIL"} - {"ai_edge_litert"}
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden})); import {', '.join(modules)}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_needed_and_not_there_is_an_error_with_the_extra(monkeypatch):
    need("h5py")
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(UsageError, match=r"^matplotlib is not installed: pip install 'gradfec\[lab\]'$"):
        need("matplotlib")
    assert missing("skimage") == "scikit-image is not installed: pip install 'gradfec[demo]'"
