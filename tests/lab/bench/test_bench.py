"""`gradfec bench` runs all benchmarks and puts together what they say."""

import json

from click.testing import CliRunner

from gradfec_cli.cli import main
from gradfec_lab import bench
from gradfec_lab.bench import COMMANDS, run


def invoke(*arguments):
    return CliRunner().invoke(main, ["bench", *arguments])


def test_one_object_has_them_all_and_the_ratios_together(monkeypatch):
    said = {
        "udp": {"machine": {}, "ratios": {"udp_send": 0.1}},
        "packet-path": {"machine": {}, "ratios": {"cloud_path": 0.2}},
        "cloud-scale": {"machine": {}, "datagrams_per_s": {"cloud_one_core": 5}},
    }
    monkeypatch.setattr(bench, "run", lambda name, as_json: (0, json.dumps(said.get(name, {"machine": {}}))))
    done = invoke("--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found.pop("ratios") == {"udp_send": 0.1, "cloud_path": 0.2}
    assert found.pop("datagrams_per_s") == {"cloud_one_core": 5}
    assert found == {name: {"machine": {}} for name in COMMANDS}


def test_one_that_fails_takes_no_other_with_it(monkeypatch):
    monkeypatch.setattr(bench, "run", lambda name, as_json: (int(name == "udp"), '{"machine": {}}'))
    done = invoke("--json")
    assert done.exit_code == 1
    assert "no results for udp; the reasons are above" in done.stderr
    assert {*json.loads(done.stdout)} == {*COMMANDS, "ratios", "datagrams_per_s"} - {"udp"}


def test_each_is_run_in_a_process_of_its_own_and_prints_its_table_itself(monkeypatch):
    asked = []
    monkeypatch.setattr(bench, "run", lambda name, as_json: asked.append((name, as_json)) or (0, ""))
    assert invoke().exit_code == 0
    assert asked == [(name, False) for name in COMMANDS]
    monkeypatch.undo()
    assert run("nothing", as_json=True) == (2, "")


def test_json_belongs_after_the_command():
    done = invoke("--json", "udp")
    assert done.exit_code == 2
    assert "put --json last: gradfec bench udp --json" in done.stderr
