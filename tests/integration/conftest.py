"""What tests with the real daemons share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gradfec_lab import experiment
from gradfec_lab.daemons import daemon
from gradfec_lab.experiment import Link, Run

# Time enough for any machine: with these, no frame is decided early or given up because it is slow.
PATIENT_CLOUD = ("--deadline-ms", "60000")
PATIENT_EDGE = ("--timeout-ms", "60000")
LOSSY = Link(0.3, seed=7)
PROTECTED = ("--protect", "FEC_50_50", "--importance", "activation")


@pytest.fixture(scope="session")
def lossy_run(photographs: Path) -> tuple[Run, Mapping[str, Any]]:
    """The photographs through real daemons over the link LOSSY, PROTECTED; and what their cloud counted."""

    def patient(name: str, *arguments: str, **settings: Any) -> Any:
        return daemon(name, *arguments, *(PATIENT_CLOUD if name == "gradfec-cloud" else ()), **settings)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(experiment, "daemon", patient)
        return experiment.run_with_own_cloud(photographs, LOSSY, [*PROTECTED, *PATIENT_EDGE])
