"""`gradfec sweep all`: the commands that the results show, and what is gathered of them."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradfec_cli.cli import main
from gradfec_common.errors import GradfecError, UsageError
from gradfec_lab.sweep import everything
from gradfec_lab.sweep.everything import PARTS, arguments, check, run_daemons

from .toys import install, write_images

ROW = {"protect": "none", "loss": 0.3, "frames": 4, "top1": 0.5, "agreement": 0.75, "unaccounted": {"a": 3, "b": -2}}
ROW |= {"codec": "uniform8", "frame_bytes": 5678, "datagrams": {"sent": 1234, "lost": 1234}}
ROW |= {"packets": {"recovered": 1234, "missing": 1234}}
UNCUT = {"protect": "uncut", "loss": None, "frames": 4, "top1": None, "agreement": 1.0}


def in_this_process(command: list[str], check: bool, stdout: int) -> subprocess.CompletedProcess[bytes]:
    """Run `gradfec` here, where the toys are; the daemons' sweep gives a table at once."""
    if command[4] == "daemons":
        return subprocess.CompletedProcess(command, 0, json.dumps({"rows": [UNCUT, ROW]}).encode())
    done = CliRunner().invoke(main, command[3:])
    print(done.output)
    return subprocess.CompletedProcess(command, done.exit_code, done.stdout_bytes)


def test_everything_is_gathered_with_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    monkeypatch.setattr(subprocess, "run", in_this_process)
    small = [part._replace(options=few(part.options)) for part in PARTS]
    monkeypatch.setattr(everything, "PARTS", small)
    write_images(tmp_path / "images", 3)
    options = ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "out"), "--subset", "2"]
    done = CliRunner().invoke(main, ["sweep", "all", *options, "--repetitions", "1"])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out" / "tables.md").read_text()
    for part in small:
        assert f"## {part.title}\n\n    gradfec sweep {part.sweep} --images" in text
        if part.sweep != "daemons":
            assert (tmp_path / "out" / f"{part.name}.png").read_bytes().startswith(b"\x89PNG")
            assert f"![{part.title}]({part.name}.png)" in text
    assert "| none | uniform8 | 30% | 4 | 50.0% | 75.0% | 1,234 | 1,234 | 1,234 | 1,234 | 5,678 | 5 |" in text
    assert "2 images x 1" in text


def few(options: list[str]) -> list[str]:
    """Leave out what takes long, and a fill whose values a toy need not have."""
    short = {"--fill": "zero", "--burst": "iid", "--fec": "zfec", "--estimators": "gradcam,activation"}
    return [short.get(before, option) for before, option in zip(["", *options], options, strict=False)]


def test_subsets_are_for_what_is_costly() -> None:
    options = {part.name: arguments(part, Path("val"), Path("l.csv"), None, 300, 3, Path("out")) for part in PARTS}
    assert {name for name, command in options.items() if "--sample" in command} == {
        "figure5",
        "figure6",
        "bursts",
        "quantise",
    }
    assert shlex.join(options["figure6"]) == (
        "sweep protection --images val --labels l.csv --sample 300 --repetitions 3 --out out/figure6"
    )
    assert shlex.join(options["daemons-40"]) == (
        "sweep daemons --images val --labels l.csv --loss 40% --protect FEC_50_50 --limit 200 --json"
    )
    fewer = arguments(PARTS[0], Path("val"), None, 100, 300, 3, Path("out"))
    assert fewer[-4:] == ["--limit", "100", "--out", "out/importance"]


def test_the_daemons_run_only_when_their_results_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def run(command: list[str], check: bool, stdout: int) -> subprocess.CompletedProcess[bytes]:
        runs.append(command)
        return subprocess.CompletedProcess(command, 0, json.dumps({"rows": [UNCUT, ROW]}).encode())

    monkeypatch.setattr(subprocess, "run", run)
    for command in (["a"], ["a"], ["b"]):
        run_daemons(command, tmp_path / "daemons")
    assert len(runs) == 2
    assert "uncut" in (tmp_path / "daemons" / "daemons.md").read_text()


def test_a_part_that_fails_ends_it_all_with_its_exit_code() -> None:
    with pytest.raises(UsageError, match=r"`gradfec sweep x` ended with exit code 2; the reason is above"):
        check(["sweep", "x"], 2)
    with pytest.raises(GradfecError, match="exit code 1"):
        check(["sweep", "x"], 1)
    with pytest.raises(KeyboardInterrupt):
        check(["sweep", "x"], 130)
    check(["sweep", "x"], 0)
