"""One target under atheris: `python -m tests.fuzz.instrumented TARGET [options of libFuzzer] [directories]`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["gradfec_common", "tests.fuzz.targets"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
