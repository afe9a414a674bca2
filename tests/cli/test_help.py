"""The help of every program: it teaches, and comes at once, because it loads nothing slow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradfec_cli.cli import main
from gradfec_host.console import version
from gradfec_host.models.store import MANIFEST, models_folder

SLOW = {
    "numpy",
    "tensorflow",
    "cv2",
    "h5py",
    "matplotlib",
    "cryptography",
    "uvloop",
    "rich",
    "prometheus_client",
    "zfec",
}


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("gradfec_edge.cli", [], ["--camera", "--cloud", "--mode"]),
        ("gradfec_cloud.cli", [], ["--listen", "--split", "--deadline-ms"]),
        ("gradfec_cli.netem", [], ["gradfec-netem --listen 9001 --to cloud.example:9000 --loss 20% --burst 8"]),
        ("gradfec_cli.cli", ["keygen"], ["--show | ssh", "$GRADFEC_KEY_FILE", "--keys", "Exit status"]),
        (
            "gradfec_cli.cli",
            ["weights"],
            ["$GRADFEC_HOME", "npm", "--from", "--front-end conv2_block1_add --out edge.npz", "Exit status"],
        ),
        ("gradfec_cli.cli", ["doctor"], ["--cloud", "--camera", "--keys", "--results", "--json", "Exit status"]),
        (
            "gradfec_cli.cli",
            ["show"],
            ["IMAGE", "--out", "--importance", "--protect", "--label", "--rows", "--split", "gradfec show cat.jpg"],
        ),
        ("gradfec_cli.cli", ["bench"], ["codes", "udp", "end-to-end"]),
    ],
)
def test_help_teaches_and_loads_nothing_slow(module: str, arguments: list[str], words: list[str]) -> None:
    script = (
        f"import sys; from {module} import main\n"
        f"try: main({[*arguments, '--help']})\n"
        f"finally: print(sorted({SLOW} & {{*sys.modules}}), file=sys.stderr)"
    )
    environment = {**os.environ, "COLUMNS": "100"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert ended.stderr.strip() == "[]"
    assert [word for word in words if word not in ended.stdout] == []


COMMANDS = {
    "gradfec": "gradfec_cli.cli",
    "gradfec-edge": "gradfec_edge.cli",
    "gradfec-cloud": "gradfec_cloud.cli",
    "gradfec-netem": "gradfec_cli.netem",
}


def started(name: str, *arguments: str, **settings: str) -> str:
    """Run a command as its script would; return its output."""
    script = f"import sys; sys.argv[0] = {name!r}; from {COMMANDS[name]} import main; main()"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **settings}).stdout


def test_who_looks_for_a_daemon_below_gradfec_is_told_where_it_is() -> None:
    result = CliRunner().invoke(main, ["edge", "--camera", "0"])
    assert result.exit_code == 2
    assert "'edge' is a command of its own: write gradfec-edge, with a hyphen" in result.output


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("wieghts", "weights"),
        ("plna", "plan"),
        ("model chekc", "check"),
        ("sweep raet", "rate"),
        ("bench coeds", "codes"),
    ],
)
def test_a_command_that_is_mistyped_is_told_which_one_may_be_meant(typed: str, meant: str) -> None:
    result = CliRunner().invoke(main, typed.split())
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].endswith(f"Did you mean '{meant}'?")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_version(name: str) -> None:
    assert started(name, "--version") == f"{name}, version {version()}\n"


@pytest.mark.parametrize(
    "words",
    ["show", "weights", "keygen", "config check", "sweep importance", "sweep", "bench codes", "train-proxy", "doctor"],
)
def test_every_command_below_gradfec_has_it_too(words: str) -> None:
    result = CliRunner().invoke(main, [*words.split(), "--version"], prog_name="gradfec")
    assert (result.exit_code, result.stdout) == (0, f"gradfec, version {version()}\n")


@pytest.mark.parametrize(
    ("name", "typed", "completed"),
    [
        ("gradfec", "gradfec tr", ["train-backend", "train-codec", "train-concealment", "train-fill", "train-proxy"]),
        ("gradfec", "gradfec sweep imp", ["importance"]),
        ("gradfec", "gradfec keygen --sh", ["--show"]),
        ("gradfec-edge", "gradfec-edge --cod", ["--codec"]),
        ("gradfec-edge", "gradfec-edge --runtime t", ["tensorflow"]),
        ("gradfec-edge", "gradfec-edge --model ", ["resnet50", "yard"]),
        ("gradfec-edge", "gradfec-edge --fallback y", ["yard"]),
        ("gradfec-edge", "gradfec-edge --codec sqrt", ["sqrt6", "sqrt5", "sqrt4", "sqrt3", "sqrt2"]),
        ("gradfec-edge", "gradfec-edge --protect F", ["FEC_50_50"]),
        ("gradfec-cloud", "gradfec-cloud --model resnet50,y", ["resnet50,yard"]),
        ("gradfec", "gradfec model show y", ["yard"]),
        ("gradfec-cloud", "gradfec-cloud --dea", ["--deadline-ms"]),
        ("gradfec-netem", "gradfec-netem --max", ["--max-clients"]),
    ],
)
def test_a_shell_completes_commands_options_choices_and_names(
    name: str, typed: str, completed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    (models_folder() / "yard").mkdir(parents=True)
    (models_folder() / "yard" / MANIFEST).write_text("{}")
    variable = f"_{name.upper().replace('-', '_')}_COMPLETE"
    assert f"complete -o nosort -F _{name.replace('-', '_')}_completion {name}" in started(
        name, **{variable: "bash_source"}
    )
    words = {variable: "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert started(name, **words).splitlines() == [f"plain,{word}" for word in completed]
