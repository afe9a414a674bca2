"""Fuzz the targets one after the other, or run one input: what `make fuzz` does.

What is found stays in build/fuzz, and is where the next run begins; the repository's corpus is only read.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
SCRATCH = Path("build/fuzz")
MOST_INPUT_BYTES = 2048
MOST_SECONDS = 1  # for one input: more is a hang
MOST_MEMORY_MB = 2048
SLICE_SECONDS = 60  # then a new process: atheris 3.0.0 leaks each array that a comparison in instrumented code returns
MOST_FAILURES_SHOWN = 30  # lines
ROW = "{:<13} {:>11} {:>13} {:>9} {:>9} {:>8} {:>9}"


@dataclass
class Run:
    """What became of one target."""

    name: str
    executions: int = 0
    seconds: float = 0.0
    coverage: int = 0
    features: int = 0
    peak_mb: int = 0
    failed: list[str] = field(default_factory=list)  # the inputs, or ? where there is none
    output: str = ""

    @property
    def row(self) -> str:
        """The line of the table."""
        per_second = f"{self.executions / self.seconds:.0f}"
        numbers = (self.executions, per_second, self.coverage, self.features, self.peak_mb, len(self.failed))
        return ROW.format(self.name, *numbers)


def fuzz(name: str, seconds: float) -> Run:
    """Fuzz a target; it stops at its first failure."""
    run, end = Run(name), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not run.failed:
        fuzz_slice(run, math.ceil(min(left, SLICE_SECONDS)))
    (SCRATCH / f"{name}.log").write_text(run.output)
    return run


def fuzz_slice(run: Run, seconds: int) -> None:
    """Fuzz for some seconds in a process of its own."""
    found, failures = SCRATCH / run.name, SCRATCH / "failures" / run.name
    found.mkdir(parents=True, exist_ok=True)
    failures.mkdir(parents=True, exist_ok=True)
    before, began = {*failures.iterdir()}, time.monotonic()
    options = {
        "max_total_time": seconds,
        "timeout": MOST_SECONDS,
        "rss_limit_mb": MOST_MEMORY_MB,
        "max_len": MOST_INPUT_BYTES,
        "len_control": 0,
        "print_final_stats": 1,
        "artifact_prefix": f"{failures}/",
    }
    command = [sys.executable, "-m", "tests.fuzz.instrumented", run.name, *(f"-{k}={v}" for k, v in options.items())]
    ended = subprocess.run(
        [*command, str(found), str(CORPUS / run.name)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    run.output = ended.stdout.decode(errors="replace")

    def last(pattern: str) -> int:
        return int((re.findall(pattern, run.output) or [0])[-1])

    run.executions += last(r"number_of_executed_units: (\d+)")
    run.seconds += time.monotonic() - began
    run.coverage, run.features = max(run.coverage, last(r"cov: (\d+)")), max(run.features, last(r"ft: (\d+)"))
    run.peak_mb = max(run.peak_mb, last(r"peak_rss_mb: +(\d+)"))
    new = sorted({*failures.iterdir()} - before)
    run.failed = [str(path) for path in new if not was_starved(run.name, path)]
    if ended.returncode and not new:
        run.failed = ["?"]


def was_starved(name: str, path: Path) -> bool:
    """Tell whether an input that took too long by the clock does not by CPU time: others had the machine; forget it."""
    if not path.name.startswith("timeout-"):
        return False
    command = [sys.executable, "-m", "tests.fuzz.run", "--target", name, "--input", str(path)]
    try:
        starved = not subprocess.run(command, capture_output=True, timeout=60 * MOST_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        return False
    if starved:
        path.unlink()
    return starved


def fuzz_all(names: list[str], seconds: float) -> bool:
    """Fuzz targets, print a table and how each failure is run again; return whether there was none."""
    print(ROW.format("target", "executions", "executions/s", "coverage", "features", "peak MB", "failures"), flush=True)
    runs = []
    for name in names:
        runs.append(fuzz(name, seconds))
        print(runs[-1].row, flush=True)
    failed = [run for run in runs if run.failed]
    for run in failed:
        print(f"\n{run.name}: the end of {SCRATCH / run.name}.log")
        print("\n".join(run.output.splitlines()[-MOST_FAILURES_SHOWN:]))
    for run in failed:
        for path in run.failed:
            print(f"to run it again: make fuzz TARGET={run.name} INPUT={path}")
    return not failed


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--target", choices=[*TARGETS], help="this one only")
    parser.add_argument("--input", type=Path, help="run this file through the target, without atheris")
    given = parser.parse_args()
    if given.input:
        if not given.target:
            parser.error("--input needs --target")
        start = time.process_time()
        TARGETS[given.target](given.input.read_bytes())
        if (took := time.process_time() - start) > MOST_SECONDS:
            sys.exit(f"{given.input}: {given.target} takes {took:.1f} s of CPU time")
        print(f"{given.input}: {given.target} has no objection")
        return
    if find_spec("atheris") is None:
        sys.exit("fuzzing needs atheris, which has wheels for Linux on x86-64 and Python 3.11 to 3.13 only")
    if not fuzz_all([given.target] if given.target else [*TARGETS], 60 * given.minutes):
        sys.exit(1)


if __name__ == "__main__":
    main()
