"""`gradfec bench` runs all benchmarks and puts together what they say."""

import json

import pytest
from click.testing import CliRunner

from gradfec_common.errors import GradfecError
from gradfec_lab import bench
from gradfec_lab.bench import COMMANDS, run
from gradfec_lab.cli import main


def invoke(*arguments):
    return CliRunner().invoke(main, ["bench", *arguments])


def test_one_object_has_them_all_and_the_ratios_together(monkeypatch):
    said = {
        "udp": {"machine": {}, "ratios": {"udp_send": 0.1}},
        "packet-path": {"machine": {}, "ratios": {"cloud_path": 0.2}},
        "cloud-scale": {"machine": {}, "packets_per_s": {"cloud_one_core": 5}},
    }
    monkeypatch.setattr(bench, "run", lambda name, as_json: json.dumps(said.get(name, {"machine": {}})))
    done = invoke("--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found.pop("ratios") == {"udp_send": 0.1, "cloud_path": 0.2}
    assert found.pop("packets_per_s") == {"cloud_one_core": 5}
    assert found == {name: {"machine": {}} for name in COMMANDS}


def test_tables_come_one_after_the_other(monkeypatch):
    monkeypatch.setattr(bench, "run", lambda name, as_json: f"table of {name}")
    done = invoke()
    assert done.stdout.splitlines() == [f"table of {name}" for name in COMMANDS]


def test_one_is_run_in_a_process_of_its_own():
    with pytest.raises(GradfecError, match="`gradfec bench nothing` ended with exit code 2, for the reason above"):
        run("nothing", as_json=True)


def test_json_belongs_after_the_command():
    done = invoke("--json", "udp")
    assert done.exit_code == 2
    assert "put --json last: gradfec bench udp --json" in done.stderr
