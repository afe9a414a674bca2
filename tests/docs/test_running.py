"""Each command in a block of the docs runs here, or in the test that the table names, or the table says why not."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from prometheus_client import CollectorRegistry
from tests.docs.pages import PAGES, ROOT, blocks, name
from tests.docs.test_commands import simple_commands

from gradfec_cli.cli import main
from gradfec_cli.daemons import free_port
from gradfec_common.keys import new_key
from gradfec_host.console import Endpoint
from gradfec_host.key_files import KEY_FILE_VARIABLE, write_key
from gradfec_web.monitor import Monitor

HERE = "here"
# How a command begins, the longest that fits, and where it is run: here, as it stands; in a file that runs it with less
# to do; or nowhere, and why.
TABLE = {
    "gradfec bench": "tests/lab/bench/test_bench.py",
    "gradfec bench cloud-scale": "tests/lab/bench/test_cloud_scale.py",
    "gradfec bench codes": "tests/lab/bench/test_codes.py",
    "gradfec bench end-to-end": "tests/lab/bench/test_end_to_end.py",
    "gradfec bench models": "tests/lab/bench/test_models.py",
    "gradfec bench packet-path": "tests/lab/bench/test_packet_path.py",
    "gradfec bench rivals": "tests/lab/bench/test_rivals.py",
    "gradfec bench share": "it fills a link of the kernel's for minutes, as root",
    "gradfec bench splits": "tests/lab/plan/test_plan.py",
    "gradfec bench udp": HERE,
    "gradfec config": HERE,
    "gradfec doctor": HERE,
    "gradfec doctor --camera": "tests/integration/test_doctor.py",
    "gradfec health": HERE,
    "gradfec keygen": HERE,
    "gradfec model": "tests/cli/test_model.py",
    "gradfec model try": "tests/integration/test_imported.py",
    "gradfec plan": "tests/lab/plan/test_plan.py",
    "gradfec show": "tests/cli/test_show.py",
    "gradfec sweep adapt": "tests/lab/sweep/test_adapt.py",
    "gradfec sweep all": "tests/lab/sweep/test_everything.py",
    "gradfec sweep concealment": "tests/lab/sweep/test_concealment.py",
    "gradfec sweep cost": HERE,
    "gradfec sweep daemons": "tests/lab/sweep/test_daemons.py",
    "gradfec sweep importance": "tests/lab/sweep/test_importance.py",
    "gradfec sweep kept": "tests/lab/sweep/test_kept.py",
    "gradfec sweep protection": "tests/lab/sweep/test_protection.py",
    "gradfec sweep protection --bytes": "tests/lab/sweep/test_equal_bytes.py",
    "gradfec sweep quantise": "tests/lab/sweep/test_quantise.py",
    "gradfec sweep rate": "tests/lab/sweep/test_rate.py",
    "gradfec train-backend": "it trains for hours, with PyTorch",
    "gradfec train-codec": "it trains for hours, with PyTorch",
    "gradfec train-concealment": "tests/lab/training/test_concealment.py",
    "gradfec train-fill": "it trains for hours, with PyTorch",
    "gradfec train-proxy": "tests/lab/training/test_train_command.py",
    "gradfec weights": HERE,
    "gradfec-cloud": "tests/integration/test_daemons.py",
    "gradfec-edge": "tests/integration/test_daemons.py",
    "gradfec-netem": "tests/cli/test_netem.py",
    "make demo": "tests/wheel/test_wheel.py",
    "make figure": "it takes a minute, a browser and a network of one's own",
    "make deb": "tests/wheel/test_deb.py",
    "make docs": "tests/cli/test_config_command.py",
    "make docs-site": ".ci/run",
    "make format": "it changes the code",
    "make fuzz": "it needs a fuzzer and minutes; the tests of tests/fuzz run its targets over the corpus",
    "make lint": ".ci/run",
    "make setup": "it makes the environment that the tests run in",
    "make sim": "tests/sim/test_swarm.py",
    "make test": "it is what runs this",
    "make test-python": ".ci/run",
    "make test-netem": "it boots a virtual machine, as root",
    "make test-slow": "it takes longer than all other tests",
    "make test-torch": "it is what .ci/run runs, beside the rest",
    "make test-wheel": "it is a part of make test-ci, which .ci/run runs",
}
COMPLETION = ROOT / "docs" / "how-to" / "shell-completion.md"
COMMANDS = {page: [*simple_commands("\n".join(blocks(page)))] for page in PAGES if page != COMPLETION}


def where(words: list[str]) -> str:
    """Return what the table says of a command; empty if nothing."""
    begins = (shlex.join(words[:count]) for count in range(len(words), 0, -1))
    return next((TABLE[begin] for begin in begins if begin in TABLE), "")


@pytest.mark.parametrize("page", COMMANDS, ids=name)
def test_the_table_has_each_command(page: Path) -> None:
    assert [shlex.join(words) for words in COMMANDS[page] if not where(words)] == []


def test_the_table_has_no_command_that_is_in_no_page_and_its_files_run_what_they_are_there_for() -> None:
    all_commands = [shlex.join(words) for commands in COMMANDS.values() for words in commands]
    for begin, place in TABLE.items():
        assert any(f"{command} ".startswith(f"{begin} ") for command in all_commands), begin
        if place.startswith(("tests/", ".ci/")):
            what = begin.partition(" --")[0].split()[-1]
            assert what in (ROOT / place).read_text("utf-8"), begin


class Machine:
    """What a reader has: a camera box or a server without a key, photographs, settings, and a daemon with metrics."""

    def __init__(self, folder: Path, photographs: Path, metrics: int) -> None:
        self.key = folder / "key of this machine"
        self._folder, self._photographs, self._metrics = folder, photographs, metrics
        (folder / "edge.toml").write_text('cloud = "server.example:9000"\nprotect = "none"\n')

    def word(self, word: str) -> str:
        """Return a word of a command, with this machine's files and ports in the place of the reader's."""
        if word in {"val", "photographs/"}:
            return str(self._photographs)
        if word.startswith("/etc/"):
            return str(self._folder / word.removeprefix("/"))
        return str(self._metrics) if word == "9100" else word

    def run(self, words: list[str]) -> Result:
        """Run a command as it stands."""
        pasted = None
        if "--paste" in words:  # on another machine, without a key
            self.key.unlink(missing_ok=True)
            pasted = new_key(os.urandom).token
        if words[1] == "doctor" and not self.key.exists():
            write_key(self.key, new_key(os.urandom))
        return CliRunner().invoke(main, [*map(self.word, words[1:])], input=pasted)


@pytest.fixture(scope="module")
def metrics() -> Iterator[int]:
    """Serve what `gradfec health` asks for, and return where."""
    port = free_port()
    monitor = Monitor(Endpoint("127.0.0.1", port), CollectorRegistry(), lambda: "")
    yield port
    monitor.close()


@pytest.fixture
def machine(tmp_path: Path, photographs: Path, metrics: int, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.chdir(tmp_path)
    made = Machine(tmp_path, photographs, metrics)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(made.key))
    return made


RUNNING = {page: [words for words in commands if where(words) == HERE] for page, commands in COMMANDS.items()}


@pytest.mark.parametrize("page", [page for page, commands in RUNNING.items() if commands], ids=name)
def test_what_ends_soon_runs_as_it_stands(page: Path, machine: Machine) -> None:
    for words in RUNNING[page]:
        done = machine.run(words)
        assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}"


def test_each_line_for_shell_completion_runs(tmp_path: Path) -> None:
    (tmp_path / ".config/fish/completions").mkdir(parents=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for code in blocks(COMPLETION):
        done = subprocess.run(
            ["bash", "-euc", code],
            env={**os.environ, "HOME": str(tmp_path), "PATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), code
    for script in (".config/fish/completions/gradfec.fish", ".gradfec-complete.bash"):
        assert "complete" in (tmp_path / script).read_text()
