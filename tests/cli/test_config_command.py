"""`gradfec config`: the reference says what the commands say, and a checked file is one that they would take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gradfec_cli.cli import main
from gradfec_cli.config_command import DAEMONS, command_of, literal
from gradfec_host.config import keys_of, read_config

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["config", *map(str, arguments)])


def test_the_page_in_docs_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == run("reference", "--markdown").stdout, "run `make docs`"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_reference_has_every_option_and_changes_nothing(daemon: str, tmp_path: Path) -> None:
    file = tmp_path / f"{daemon}.toml"
    file.write_text(run("reference", daemon).stdout)
    assert read_config(file, command_of(daemon)).settings == {}
    keys = re.findall(r"^#(\w+) =", file.read_text().partition("# Several cameras")[0], re.MULTILINE)
    said = {key for option in command_of(daemon).params for key in [max(option.opts, key=len)]}
    assert {f"--{key.replace('_', '-')}" for key in keys} == said - {"--config", "--version"}
    assert len(keys) == len({*keys})


@pytest.mark.parametrize("daemon", DAEMONS)
def test_every_default_of_the_reference_is_taken_and_is_the_default(daemon: str, tmp_path: Path) -> None:
    file = tmp_path / f"{daemon}.toml"
    file.write_text(re.sub(r"^#(\w+ = \S)", r"\1", run("reference", daemon).stdout, flags=re.MULTILINE))
    if daemon == "edge":  # the example of two cameras has become settings, too
        file.write_text(file.read_text().partition("# Several cameras")[0])
    options = keys_of(command_of(daemon))
    found = read_config(file, command_of(daemon)).settings
    assert found.keys() == {str(option.name) for option in options.values() if literal(option)}
    for option in options.values():
        if literal(option) and not option.is_flag:
            assert found[str(option.name)] == option.default


def test_two_cameras_of_one_name_are_found(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    table = '[[camera]]\nname = "door"\ncamera = "0"\n'
    file.write_text('cloud = "a:1"\n' + table + table)
    result = run("check", file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {file}: 2 cameras are called 'door': give each [[camera]] a name of its own\n"


def test_an_error_names_the_camera_that_it_is_about(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    table = '[[camera]]\nname = "{}"\ncamera = "0"\n'
    file.write_text('cloud = "a:1"\n' + table.format("door") + table.format("yard") + 'protect = "FEC_1"\n')
    assert run("check", file).stderr.startswith(f"error: {file}: camera 'yard': 'FEC_1' is no protection policy")


def test_the_example_of_two_cameras_is_in_order(tmp_path: Path) -> None:
    _, heading, cameras = run("reference", "edge").stdout.partition("\n#[[camera]]")
    text = re.sub("^#", "", heading.strip() + cameras, flags=re.MULTILINE)
    (tmp_path / "edge.toml").write_text(text)
    result = run("check", tmp_path / "edge.toml")
    assert result.stdout == f"{tmp_path / 'edge.toml'}: valid for gradfec-edge: 0 settings, 2 cameras\n"


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ('cloud = "server:9000"\nprotect = "none"', [], "valid for gradfec-edge: 2 settings"),
        ("listen = 9000\nmetrics = 9100", [], "valid for gradfec-cloud: 2 settings"),
        ('split = "conv3_block1_add"', ["--as", "cloud"], "valid for gradfec-cloud: 1 settings"),
    ],
)
def test_a_file_in_order_is_one_line(text: str, options: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "some.toml").write_text(text)
    result = run("check", tmp_path / "some.toml", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert words in result.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listn = 9000\ndeadline_ms = 250", "line 1: there is no setting 'listn': did you mean listen?"),
        ('cloud = "server:9000"\nrows = 300', "line 2: rows = 300: 300 is not in the range 1<=x<=255"),
        ('cloud = "server:9000"\nrows = 5', "5 rows a packet do not divide the"),
        ('protect = "FEC_50_60"\nrate = 1', "A + B = 110, not 100"),
        ('cloud = "s:1"\n[[camera]]\nname = "a"\n[[camera]]\nfec = "turbo"', "'turbo' is not an erasure code"),
        ('listen = 9000\nfill = "mean"\nsplit = "pool1_pool"', "no channel means for the split 'pool1_pool'"),
        ("listen 9000", "is not TOML: "),
    ],
)
def test_a_file_that_is_not_is_one_line_and_exit_code_2(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "some.toml").write_text(text)
    result = run("check", tmp_path / "some.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {tmp_path / 'some.toml'}")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_not_there_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    result = run("check", tmp_path / "none.toml")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: cannot read {tmp_path / 'none.toml'}: ")
