"""Print for which Pythons and processors each extra can be installed: the table of docs/how-to/install.md.

    python -m tests.wheel.wheels            # all extras
    python -m tests.wheel.wheels edge cloud

uv resolves for each Linux, with the versions of constraints.txt, and installs nothing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
PROCESSORS = {"amd64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
EXTRAS = (
    "edge", "cloud", "demo", "lab", "tensorflow", "onnx", "models", "web", "mqtt", "webhook", "infer", "frigate",
    "rivals",
)  # fmt: skip
# What pip may compile, because its wheels are not for all Pythons and processors: a C extension of one small file.
COMPILED = "zfec"
MARK = "*"


def resolve(extra: str, python: str, processor: str, *options: str) -> dict[str, str]:
    """Return the versions that an extra brings, as wheels but for what `options` allow; empty if there are none."""
    command = [
        sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate",
        "--python-version", python, "--python-platform", PROCESSORS[processor], "--only-binary", ":all:",
        "-c", "constraints.txt", "--extra", extra, *options, "pyproject.toml",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode and "No solution found" not in done.stderr:
        sys.exit(done.stderr)
    return dict(line.split("==") for line in done.stdout.splitlines() if "==" in line)


def cell(extra: str, processor: str) -> str:
    """Return the Pythons that have an extra: `3.10 to 3.12, 3.13*`."""
    wheels = [python for python in PYTHONS if resolve(extra, python, processor)]
    compiled = [p for p in PYTHONS if p not in wheels and resolve(extra, p, processor, "--no-binary", COMPILED)]
    spans = [span(wheels), span(compiled) + MARK if compiled else ""]
    return ", ".join(filter(None, spans)) or "none"


def span(pythons: Sequence[str]) -> str:
    """Return a run of versions in words."""
    return " to ".join(dict.fromkeys([pythons[0], pythons[-1]])) if pythons else ""


def main() -> None:
    """Print the table."""
    print(f"| extra | {' | '.join(PROCESSORS)} |", "|---|---|---|", sep="\n")
    for extra in sys.argv[1:] or EXTRAS:
        print(f"| `{extra}` | {' | '.join(cell(extra, processor) for processor in PROCESSORS)} |", flush=True)


if __name__ == "__main__":
    main()
