"""The command `gradfec-cloud`: its help, and how soon it answers. tests/integration tests the rest."""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner

from gradfec_cloud.cli import main


def test_help_explains_every_option_and_the_exit_codes() -> None:
    text = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    options = ("listen", "split", "deadline-ms", "results", "metrics", "weights", "json")
    assert [name for name in options if f"--{name}" not in text] == []
    assert "Exit codes: 0 stopped when asked to; 1 something outside failed; 2 a wrong option." in text
    assert "gradfec-cloud --listen 9000" in text


def test_help_imports_neither_numpy_nor_anything_heavier() -> None:
    script = (
        "import sys, gradfec_cloud.cli as cli; cli.main(['--help'], standalone_mode=False);"
        "print(*{'numpy', 'uvloop', 'tensorflow', 'rich', 'prometheus_client'} & {*sys.modules}, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stderr.strip() == ""
