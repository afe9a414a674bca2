"""The laboratory: channel models, loss injector, demo, measurements, and the `gradfec` command."""

import sys

GRADFEC = [sys.executable, "-c", "from gradfec_lab.cli import main; main(prog_name='gradfec')"]  # as a child process
