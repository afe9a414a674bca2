"""deploy/cloud.sh, with the real `gradfec keygen` and a fake of the cloud."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gradfec_host.key_files import read_key

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "cloud.sh"
PATIENCE_S = 60  # how long a slow machine may take; no test waits that long on any other
PROGRAMS = {
    "gradfec": f"exec '{sys.executable}' -c 'from gradfec_cli.cli import main; main()' \"$@\"",
    "gradfec-cloud": 'printf "%s|" "$@"',
}

pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")


def started(folder, key, *arguments):
    """Start the script with its key at `key`; return what became of it."""
    for name, body in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "GRADFEC_KEY_FILE": str(key)}
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def test_the_first_start_makes_a_key_for_its_user_alone_and_later_ones_keep_it(tmp_path):
    path = tmp_path / "key" / "key"
    first = started(tmp_path, path, "--listen", "9000", "--results", "two words")
    assert (first.returncode, first.stdout) == (0, "--listen|9000|--results|two words|")
    key = read_key(path)  # which looks at owner and rights as well
    assert path.stat().st_mode & 0o777 == 0o600
    assert key.id.hex() in first.stderr
    assert key.token not in first.stderr
    again = started(tmp_path, path, "--listen", "9000")
    assert (again.returncode, again.stdout, again.stderr) == (0, "--listen|9000|", "")
    assert read_key(path) == key


@pytest.mark.parametrize("told", [["--insecure"], ["--keys", "/keys"], ["--key-file=/run/key"]], ids=str)
def test_no_key_is_made_for_a_cloud_with_other_keys_or_insecure(told, tmp_path):
    path = tmp_path / "key" / "key"
    ended = started(tmp_path, path, "--listen", "9000", *told)
    assert (ended.returncode, ended.stdout) == (0, "|".join(["--listen", "9000", *told, ""]))
    assert not path.exists()


def test_if_no_key_can_be_made_the_cloud_does_not_start_and_the_reason_is_shown(tmp_path):
    (tmp_path / "file").touch()
    ended = started(tmp_path, tmp_path / "file" / "key", "--listen", "9000")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: cannot write the key ")
    assert ended.stderr.count("\n") == 1
