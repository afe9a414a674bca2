"""The command `gradfec` and the loss injector `gradfec-netem`: everything that a user runs except the two daemons."""

import sys

GRADFEC = [sys.executable, "-c", "from gradfec_cli.cli import main; main(prog_name='gradfec')"]  # as a child process
