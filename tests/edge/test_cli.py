"""The command `gradfec-edge`: its help, and how soon it answers. tests/integration tests the rest."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from gradfec_edge.cli import main
from gradfec_edge.importance import DEFAULT_ESTIMATOR, ESTIMATORS
from gradfec_host.logs import printable

OPTIONS = (
    "camera cloud protect fec importance rows split fps loop in-flight timeout-ms rate results weights key-file "
    "insecure web thumbnail name seed json"
)


def test_help_explains_every_option_and_the_exit_codes() -> None:
    text = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    assert [name for name in OPTIONS.split() if f"--{name}" not in text] == []
    assert "Exit codes: 0 finished, or stopped as asked; 1 something outside failed; 2 a wrong option." in text
    assert "gradfec-edge --camera /dev/video0 --cloud cloud.example:9000" in text


def test_help_names_every_estimator_and_the_default() -> None:
    text = " ".join(CliRunner().invoke(main, ["--help"], terminal_width=200).output.split())
    said = text[text.index("--importance") : text.index("--rows")]
    assert [name for name in ESTIMATORS if name not in said] == []
    assert f"[default: {DEFAULT_ESTIMATOR}; for other splits or rows, activation]" in said


def test_help_imports_neither_numpy_nor_anything_heavier() -> None:
    script = (
        "import sys, gradfec_edge.cli as cli; cli.main(['--help'], standalone_mode=False);"
        "print(*{'numpy', 'cv2', 'uvloop', 'tensorflow', 'rich', 'cryptography'} & {*sys.modules}, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stderr.strip() == ""


@pytest.mark.parametrize(
    ("text", "shown"), [("a plain sentence", "a plain sentence"), ("two\nlines \x1b[2J\x07", "two lines  [2J ")]
)
def test_a_peers_words_cannot_break_lines_or_steer_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
