"""`gradfec keygen` makes, shows and takes over keys, and never prints a secret that was not asked for."""

import os
import pty
import stat
import subprocess
import sys

import pytest
from click.testing import CliRunner

from gradfec_cli.keygen import keygen
from gradfec_common.keys import Key
from gradfec_host.key_files import find_key, read_key, read_keys

KEY = Key(b"k" * 32)
PROGRAM = [sys.executable, "-c", "from gradfec_cli.keygen import keygen; keygen()"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("GRADFEC_KEY_FILE", raising=False)
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments, **options):
    return CliRunner().invoke(keygen, [str(argument) for argument in arguments], **options)


def test_a_key_is_made_where_the_daemons_look_for_it(home):
    result = run()
    assert result.exit_code == 0
    key = find_key()
    assert read_key(home / "key") == key
    assert stat.S_IMODE((home / "key").stat().st_mode) == 0o600
    for words in (key.id.hex(), str(home / "key"), "gradfec-edge or gradfec-cloud", "`gradfec keygen --paste` there"):
        assert words in result.output
    assert key.token[9:] not in result.output


def test_no_two_keys_are_the_same(home, tmp_path):
    for name in "abc":
        run("--key-file", tmp_path / "keys" / name)
    assert len(read_keys(tmp_path / "keys")) == 3


def test_the_option_and_the_variable_say_where(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADFEC_KEY_FILE", str(tmp_path / "named"))
    assert run().exit_code == 0
    assert read_key(tmp_path / "named")
    result = run("--key-file", tmp_path / "a key")
    assert read_key(tmp_path / "a key")
    assert f"gradfec keygen --key-file '{tmp_path / 'a key'}' --show" in result.output


@pytest.mark.parametrize("arguments", [[], ["--paste"]])
def test_a_key_that_is_there_stays_unless_forced(arguments):
    run()
    key = find_key()
    result = run(*arguments, input=KEY.token)
    assert result.exit_code == 2
    assert "there is a key at" in result.stderr and "--force replaces it" in result.stderr
    assert find_key() == key
    assert run("--force", *arguments, input=KEY.token).exit_code == 0
    assert find_key() != key


def test_show_prints_the_token_alone_and_says_beside_that_it_is_a_secret():
    run()
    result = run("--show")
    assert result.exit_code == 0
    assert result.stdout == find_key().token + "\n"
    assert "secret" in result.stderr
    assert find_key().token not in result.stderr


def test_show_without_a_key_says_how_to_make_one(home):
    result = run("--show")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: there is no key at {home / 'key'} to show: make one with `gradfec keygen`\n"
    elsewhere = home / "a key"
    result = run("--show", "--key-file", elsewhere)
    assert f"to show: make one with `gradfec keygen --key-file '{elsewhere}'`" in result.stderr


def test_show_refuses_a_key_that_others_may_read(home):
    run()
    (home / "key").chmod(0o644)
    result = run("--show")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "chmod 600" in result.stderr


@pytest.mark.parametrize("text", [KEY.token, KEY.token + "\r\n", f"# from the cloud\n{KEY.token.upper()}\n"])
def test_what_is_piped_in_is_stored(text):
    result = run("--paste", input=text)
    assert result.exit_code == 0
    assert find_key() == KEY
    assert KEY.id.hex() in result.output
    assert KEY.token[9:] not in result.output


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (KEY.token[:-1] + "7", "mistyped"),
        ("swordfish", "not a gradfec key"),
        ("x" * 100_000, "not a gradfec"),
    ],
)
def test_what_is_no_key_is_not_stored_and_not_repeated(home, text, reason):
    result = run("--paste", input=text)
    assert result.exit_code == 1
    assert reason in result.stderr
    assert not (home / "key").exists()
    assert "swordfish" not in result.output
    assert KEY.token[9:30] not in result.output


def test_show_pipes_into_paste(home, tmp_path):
    run()
    shown = subprocess.run([*PROGRAM, "--show"], check=True, capture_output=True)
    other = {**os.environ, "GRADFEC_HOME": str(tmp_path / "other")}
    subprocess.run([*PROGRAM, "--paste"], check=True, input=shown.stdout, capture_output=True, env=other)
    assert read_key(tmp_path / "other" / "key") == find_key()


def test_on_a_terminal_what_is_typed_is_not_shown():
    ours, terminal = pty.openpty()
    command = [*PROGRAM, "--paste"]
    with subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        os.close(terminal)
        said = b""
        while not said.endswith(b": ") and (byte := process.stderr.read(1)):
            said += byte
        assert b"Key (it is not shown): " in said
        os.write(ours, KEY.token.encode() + b"\n")
        said += process.stderr.read()
        assert process.wait(30) == 0
    try:
        said += os.read(ours, 10_000)
    finally:
        os.close(ours)
    assert KEY.id.hex().encode() in said
    assert KEY.token[9:].encode() not in said
    assert find_key() == KEY


def test_a_token_is_not_taken_from_the_command_line_where_others_could_see_it():
    result = run("--paste", KEY.token)
    assert result.exit_code == 2


@pytest.mark.parametrize("arguments", [["--show", "--paste"], ["--show", "--force"], ["--frobnicate"]])
def test_a_wrong_option_is_exit_code_2(home, arguments):
    assert run(*arguments).exit_code == 2
    assert not home.exists()


def test_a_place_that_cannot_be_written_to_is_exit_code_1(tmp_path):
    (tmp_path / "file").touch()
    result = run("--key-file", tmp_path / "file" / "key")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot write the key")


def test_gradfec_lists_it():
    from gradfec_cli.cli import main

    result = CliRunner().invoke(main, ["keygen", "--help"])
    assert result.exit_code == 0
    assert "--paste" in result.output
