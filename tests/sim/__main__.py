"""See run."""

from .run import main

main(prog_name="python -m tests.sim")
