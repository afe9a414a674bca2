"""deploy/systemd: units that systemd accepts, that confine the daemons, and that start them correctly."""

import importlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
MOST_EXPOSURE = 20  # of 100, as systemd-analyze counts: what is left is the network, and an edge's cameras

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt-get install systemd"
)


def settings(unit):
    """Return the values of each setting, in order; one line is one value."""
    found = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_the_unit_and_misses_nothing_in_it(unit, tmp_path):
    copy = tmp_path / unit.name
    program = settings(unit)["ExecStart"][0].split()[0]
    copy.write_text(unit.read_text(encoding="utf-8").replace(program, shutil.which("true")), encoding="utf-8")
    said = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_services_are_confined(unit):
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", "--no-pager", unit]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_daemon_by_its_file_of_settings_and_a_key_from_a_place_that_it_may_not_change(unit):
    found = settings(unit)
    program, *words = shlex.split(found["ExecStart"][0])
    name = Path(program).name
    assert name in {"gradfec-cloud", "gradfec-edge"} and unit.name.startswith(name)
    assert words == ["--config", f"/etc/gradfec/{name.removeprefix('gradfec-')}.toml"]
    assert "GRADFEC_KEY_FILE=/etc/gradfec/key" in " ".join(found["Environment"])
    assert found["ProtectSystem"] == ["strict"] and "ReadWritePaths" not in found
    module = importlib.import_module(name.replace("gradfec-", "gradfec_") + ".cli")
    known = CliRunner().invoke(module.main, ["--help"]).stdout
    assert re.search(r"^  --config\b", known, re.MULTILINE)


def test_what_the_clouds_threads_ask_of_the_kernel_is_allowed_after_what_is_denied():
    filters = settings(FOLDER / "gradfec-cloud.service")["SystemCallFilter"]
    assert filters.index("setpriority") > filters.index("~@privileged @resources")  # which holds it


def test_wrong_usage_is_not_retried_and_the_users_are_those_that_are_created():
    user = re.search(r"^u (\S+) ", (FOLDER / "gradfec.sysusers").read_text(encoding="utf-8"), re.MULTILINE)[1]
    for unit in UNITS:
        found = settings(unit)
        assert found["RestartPreventExitStatus"] == ["2"]
        assert found["Restart"] == ["on-failure"]
        assert found["User"] == [user]
