"""Run a job."""

from __future__ import annotations

import sys
from pathlib import Path

from .coder import Settings
from .job import Job
from .train import Training

REPORT_IMAGES = 512  # a minute or less


def main() -> None:
    """Train in the job's folder; options are fields of Settings, as NAME=VALUE."""
    folder, *options = sys.argv[1:]
    given = {}
    for option in options:
        name, value = option.split("=")
        given[name] = type(getattr(Settings(), name))(float(value))
    training = Training(Job(Path(folder)), Path(folder), Settings(**given), lambda line: print(line, flush=True))
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        before, done = done, done + images
        if done // REPORT_IMAGES > before // REPORT_IMAGES:
            print(f"features: {done:,} of {training.features.count:,} images", flush=True)

    training.compute(advance)
    training.run()


if __name__ == "__main__":
    main()
