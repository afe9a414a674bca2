"""Run a job."""

from __future__ import annotations

import sys
from pathlib import Path

from .coder import Settings
from .job import Job
from .train import Training


def main() -> None:
    """Train in the job's folder; options are fields of Settings, as NAME=VALUE."""
    folder, *options = sys.argv[1:]
    given = {}
    for option in options:
        name, value = option.split("=")
        given[name] = type(getattr(Settings(), name))(float(value))
    Training(Job(Path(folder)), Path(folder), Settings(**given), lambda line: print(line, flush=True)).run()


if __name__ == "__main__":
    main()
