"""The real daemons with enough time for any machine: no frame is decided early or given up.

Tests import `patient`; run as a script, this module is such an edge. It also waits for the report on each tensor, for
longer than any option says: a record without its report does not know how many packets were lost.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from gradfec_cli.daemons import Daemon, daemon
from gradfec_common.session.edge import EdgeLimits

PATIENT = {"gradfec-cloud": ("--deadline-ms", "60000"), "gradfec-edge": ("--timeout-ms", "60000")}
PROGRAM = {"gradfec-edge": (sys.executable, __file__)}
REPORT_S = 20.0  # the cloud repeats a report for three seconds


@contextmanager
def patient(name: str, *arguments: object, ready: str | None = None) -> Iterator[Daemon]:
    """Run a daemon as `gradfec_cli.daemons.daemon` does; the arguments may ask for less patience."""
    options = (*PATIENT.get(name, ()), *map(str, arguments))
    with daemon(name, *options, ready=ready, program=PROGRAM.get(name)) as running:
        yield running


if __name__ == "__main__":
    import gradfec_edge.daemon
    from gradfec_edge.cli import main

    patient_limits: Any = partial(EdgeLimits, report_timeout_s=REPORT_S)
    gradfec_edge.daemon.EdgeLimits = patient_limits
    main(prog_name="gradfec-edge")
