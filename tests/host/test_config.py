"""Settings files: which settings take precedence, and one plain line for each kind of wrong file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from gradfec_host import config as config_module
from gradfec_host.config import CONFIG_VARIABLE, camera_option, config_option, config_used, differing, each_camera
from gradfec_host.console import Endpoint, EndpointType, Number, plain_errors


@click.command()
@camera_option("--camera", required=True)
@camera_option("--cloud", required=True, type=EndpointType())
@camera_option("--name", default="here")
@camera_option("--fps", type=Number(min=0, min_open=True))
@camera_option("--in-flight", default=4, type=click.IntRange(1, 64))
@camera_option("--compensate/--no-compensate", default=True)
@camera_option("--protect", default="FEC_20_80")
@click.option("--runtime", default="auto", type=click.Choice(["auto", "litert"]))
@click.option("--key-file", type=click.Path(path_type=Path))
@click.option("--metrics", type=EndpointType("127.0.0.1"))
@click.option("--json", "as_json", is_flag=True)
@config_option("edge")
@plain_errors
def command(**options: Any) -> None:
    """Print what each camera's options are, which file was read, and which options differ from the defaults."""
    found = each_camera(options)
    print(json.dumps([found, config_used().path, [*map(differing, found)]], default=str))


def run(*arguments: object, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(command, [*map(str, arguments)])


def cameras(*arguments: object, **environment: str) -> list[dict[str, Any]]:
    result = run(*arguments, **environment)
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)[0]
    return found


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "edge.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


ONE = """
camera = 0
cloud = "server.example:9000"
in_flight = 8
compensate = false
fps = 2
key_file = "~/keys/door"
metrics = 9100
json = true
"""
TWO = """
cloud = "server.example:9000"
protect = "none"
[[camera]]
name = "door"
camera = "door.avi"
fps = 2.5
[[camera]]
name = "yard"
camera = "yard.avi"
protect = "FEC_50_50"
cloud = "other.example:9000"
"""


def test_a_file_says_what_the_options_would(written: Any) -> None:
    (found,) = cameras("--config", written(ONE))
    assert found == {
        "camera": "0",
        "cloud": [*Endpoint("server.example", 9000)],
        "name": "here",
        "fps": 2.0,
        "in_flight": 8,
        "compensate": False,
        "protect": "FEC_20_80",
        "runtime": "auto",
        "key_file": str(Path.home() / "keys" / "door"),
        "metrics": ["127.0.0.1", 9100],
        "as_json": True,
    }


def test_only_what_differs_from_the_defaults_is_told_as_such(written: Any) -> None:
    def told(*arguments: object) -> Any:
        return json.loads(run(*arguments).stdout)[2]

    assert told("--camera", "0", "--cloud", "a:1", "--in-flight", 4, "--compensate") == [
        {"camera": "0", "cloud": ["a", 1]}
    ]
    (found,) = told("--config", written(ONE))
    assert found == {
        "camera": "0",
        "cloud": ["server.example", 9000],
        "fps": 2.0,
        "in_flight": 8,
        "compensate": False,
        "key_file": str(Path.home() / "keys" / "door"),
        "metrics": ["127.0.0.1", 9100],
        "json": True,
    }
    assert [camera["name"] for camera in told("--config", written(TWO))] == ["door", "yard"]


def test_the_command_line_counts_before_the_file(written: Any) -> None:
    (found,) = cameras("--config", written(ONE), "--in-flight", 2, "--compensate", "--cloud", "localhost:1")
    assert (found["in_flight"], found["compensate"], found["cloud"]) == (2, True, ["localhost", 1])
    assert found["fps"] == 2.0


def test_a_camera_counts_before_the_rest_of_the_file_and_the_command_line_before_both(written: Any) -> None:
    path = written(TWO)
    shown = [
        [(camera["name"], camera["protect"], camera["cloud"][0], camera["fps"]) for camera in cameras(*arguments)]
        for arguments in (("--config", path), ("--config", path, "--protect", "FEC_10_90", "--fps", 1))
    ]
    assert shown[0] == [("door", "none", "server.example", 2.5), ("yard", "FEC_50_50", "other.example", None)]
    assert shown[1] == [("door", "FEC_10_90", "server.example", 1.0), ("yard", "FEC_10_90", "other.example", 1.0)]


def test_a_camera_on_the_command_line_is_the_only_one(written: Any) -> None:
    (found,) = cameras("--config", written(TWO), "--camera", "mine.avi")
    assert (found["camera"], found["name"], found["protect"]) == ("mine.avi", "here", "none")


def test_an_option_that_only_ignored_cameras_have_is_missing(written: Any) -> None:
    text = TWO.replace('cloud = "server.example:9000"', "").replace("fps = 2.5", 'cloud = "server.example:9000"')
    path = written(text)
    assert len(cameras("--config", path)) == 2
    result = run("--config", path, "--camera", "mine.avi")
    assert result.exit_code == 2
    assert "Missing option '--cloud'" in result.stderr


def test_an_option_that_no_camera_has_is_missing(written: Any) -> None:
    result = run("--config", written('[[camera]]\ncamera = "a"\n'))
    assert result.exit_code == 2
    assert "Missing option '--cloud'" in result.stderr


def test_only_the_first_file_that_exists_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, variable, home, machine = (tmp_path / name for name in ("given.toml", "variable.toml", "home", "etc"))
    monkeypatch.setattr(config_module, "OF_MACHINE", machine)
    monkeypatch.delenv(CONFIG_VARIABLE)
    files = [given, variable, home / "edge.toml", machine / "edge.toml"]
    for folder in (home, machine):
        folder.mkdir()
    for path in files:
        path.write_text(f'camera = "{path.name}"\ncloud = "server.example:9000"\n')
    variables = {"GRADFEC_HOME": str(home), CONFIG_VARIABLE: str(variable)}
    used = [json.loads(run("--config", given, **variables).stdout)[1]]
    for path in files[1:]:
        used.append(json.loads(run(**variables).stdout)[1])
        path.unlink()
        if path == variable:
            del variables[CONFIG_VARIABLE]
    assert used == [*map(str, files)]
    assert json.loads(run("--camera", "a", "--cloud", "b:1", **variables).stdout)[1] is None


def test_a_missing_option_names_the_files_that_could_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_module, "OF_MACHINE", tmp_path / "etc")
    monkeypatch.delenv(CONFIG_VARIABLE)
    result = run(GRADFEC_HOME=str(tmp_path))
    assert result.exit_code == 2
    places = f"{tmp_path}/edge.toml or {tmp_path}/etc/edge.toml"
    assert f"Missing option '--camera'. There is no settings file at {places}.\n" in result.stderr
    assert "There is no settings file" not in run("--config", os.devnull).stderr


START = 'camera = "a"\ncloud = "b:1"\n'
WRONG = [
    ("unknown", START + "\nprotct = 1", "line 4: there is no setting 'protct': did you mean protect?"),
    ("dash", START + "in-flight = 1", "line 3: there is no setting 'in-flight': did you mean in_flight?"),
    ("nothing near", START + "zzz = 1", "line 3: there is no setting 'zzz'; `gradfec config reference` lists them"),
    ("a table", START + "[log]\nlevel = 1", "line 3: there is no setting 'log'"),
    ("out of range", START + "in_flight = 65", "line 3: in_flight = 65: 65 is not in the range 1<=x<=64"),
    ("text for a number", START + 'in_flight = "8"', 'in_flight = "8": write a whole number, without quotes'),
    ("true for a number", START + "in_flight = true", "in_flight = true: write a whole number, without quotes"),
    ("fraction", START + "in_flight = 1.5", "in_flight = 1.5: write a whole number, without quotes"),
    ("not finite", START + "fps = nan", "line 3: fps = NaN: nan is not a finite number"),
    ("text for truth", START + 'compensate = "no"', 'compensate = "no": write true or false'),
    ("one for truth", START + "json = 1", "line 3: json = 1: write true or false"),
    ("truth for text", START + "protect = true", "line 3: protect = true: write text, in quotes"),
    ("list for text", START + 'protect = ["none"]', 'protect = ["none"]: write text, in quotes'),
    ("date for text", START + "protect = 2026-01-01", 'protect = "2026-01-01": write text, in quotes'),
    ("choice", START + 'runtime = "tpu"', "line 3: runtime = \"tpu\": 'tpu' is not one of"),
    ("endpoint", 'camera = "a"\ncloud = "server"', "line 2: cloud = \"server\": 'server' has no port"),
    ("port", START + "metrics = 70000", "line 3: metrics = 70000: '70000' is not a port"),
    ("not TOML", START + "fps = \nrate = 1", "edge.toml is not TOML: Invalid value (at line 3, column 7)"),
    ("many digits", START + "fps = " + "9" * 5000, "edge.toml is not TOML: Exceeds the limit"),
    ("many brackets", START + "fps = " + "[" * 5000, "edge.toml is not TOML: "),
    ("no quotation marks", START + "name = door", "Invalid value (at line 3, column 8); a text needs quotation marks"),
    ("yes", START + "compensate = yes", "; a text needs quotation marks, and yes or no is written true or false"),
    ("twice", START + "fps = 1\nfps = 2", "edge.toml is not TOML: Cannot overwrite a value"),
    ("single bracket", '[camera]\nname = "a"', "line 1: a camera's table has double brackets: write [[camera]]"),
    ("both", START + '[[camera]]\ncamera = "b"', "line 1: camera = ... and [[camera]] tables exclude each other: move"),
    ("of all", '[[camera]]\n[[camera]]\nruntime = "auto"', "line 3: runtime applies to all cameras: write it above"),
    ("second", "[[camera]]\nfps = 1\n[[camera]]\nfps = 0", "line 4: fps = 0: 0.0 is not in the range x>0"),
    ("cameras as text", 'camera = ["a", "b"]', "line 1: write one camera as text, or each one in a table"),
    ("a key", START + 'key = "gradfec1-aaaaaa"', "line 3: there is no setting 'key': did you mean key_file?"),
    ("a key's value", START + 'json = "gradfec1-aaaaaa"', 'line 3: json = "gradfec1-***": write true or false'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_one_line_that_says_where_and_what(text: str, words: str, written: Any) -> None:
    path = written(text)
    result = run("--config", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {path}")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert "aaaaaa" not in result.output


def test_the_mark_that_an_editor_puts_in_front_is_no_setting(written: Any) -> None:
    assert cameras("--config", written("\ufeff" + ONE)) == cameras("--config", written(ONE))


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.toml", os.strerror(2)), (tmp_path, os.strerror(21))):
        result = run("--config", path)
        assert (result.exit_code, result.stderr) == (1, f"error: cannot read {path}: {reason}\n")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    result = run("--config", tmp_path / "latin.toml")
    assert result.exit_code == 2
    assert "latin.toml is not TOML: 'utf-8' codec can't decode byte 0xe9" in result.stderr
