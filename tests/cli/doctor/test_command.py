"""`gradfec doctor` as a command: what it prints, its exit code, and that nothing that is broken breaks it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gradfec_cli import doctor as package
from gradfec_cli.cli import main
from gradfec_cli.doctor import State, guarded, machine
from gradfec_cli.doctor.finding import broken, ok, warning

FINE = (
    "versions",
    "runtime",
    "weights",
    "key",
    "port",
    "receive_buffer",
    "offload",
    "clock",
    "disk",
    "camera",
)


@pytest.fixture(autouse=True)
def all_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FINE:
        monkeypatch.setattr(machine, name, lambda *arguments: ok("fine"))


def doctor(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["doctor", *map(str, arguments)])


def test_where_all_is_fine_there_is_a_line_for_each_check_and_exit_code_0() -> None:
    result = doctor()
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [f"ok       {name.replace('_', ' ')}: fine" for name in FINE]


def test_a_warning_does_not_fail_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "offload", lambda: warning("none here", "install it"))
    result = doctor()
    assert result.exit_code == 0
    assert "warning  offload: none here\n         to do: install it\n" in result.stdout


def test_what_is_broken_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "key", lambda *arguments: broken("no key", "gradfec keygen"))
    result = doctor()
    assert result.exit_code == 1
    assert "broken   key: no key\n         to do: gradfec keygen\n" in result.stdout


def test_json_has_state_text_remedy_and_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "disk", lambda *arguments: broken("full", "make room", free_bytes=0))
    result = doctor("--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["ok"] is False
    assert [check["name"] for check in said["checks"]] == [name.replace("_", " ") for name in FINE]
    disk = next(check for check in said["checks"] if check["name"] == "disk")
    assert disk == {"name": "disk", "state": "broken", "text": "full", "remedy": "make room", "free_bytes": 0}


@pytest.mark.parametrize("error", [ImportError("libGL.so.1: no such file"), OSError("x"), RuntimeError(), ValueError()])
def test_whatever_a_check_raises_is_its_finding_and_the_others_are_done(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(machine, "weights", breaks)
    result = doctor()
    assert result.exit_code == 1
    assert f"broken   weights: cannot be checked: {type(error).__name__}" in result.stdout
    assert "Traceback" not in result.output
    assert result.stdout.count("ok  ") == len(FINE) - 1


def test_a_check_may_be_interrupted() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(interrupted)  # type: ignore[arg-type]


def test_on_a_terminal_it_is_a_table_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setattr(machine, "clock", lambda: broken("[bold]stopped" + 20 * " stopped", "wind it up"))
    result = doctor()
    assert "\x1b[31m✗" in result.stdout and "\x1b[32m✓" in result.stdout
    assert "[bold]stopped" in result.stdout and "wind it up" in result.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cloud", "host"], "has no port"),
        (["--listen", "0"], "is not a port"),
        (["--pings", "0"], "0 is not in the range"),
        (["--split", "conv9"], "has no layer 'conv9'"),
    ],
)
def test_a_wrong_option_is_one_line(options: list[str], words: str) -> None:
    result = doctor(*options)
    assert result.exit_code == 2
    assert words in result.output and "Traceback" not in result.output


def test_a_missing_key_is_what_is_found_where_a_cloud_is_to_be_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = doctor("--cloud", "127.0.0.1:9", "--key-file", tmp_path / "key")
    assert result.exit_code == 1
    assert f"broken   cloud: there is no key at {tmp_path / 'key'}" in result.stdout


def test_states_have_a_mark_each() -> None:
    assert {*package.MARKS} == {*State}
