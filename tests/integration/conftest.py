"""What tests with the real daemons share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gradfec_cli import experiment
from gradfec_cli.experiment import Link, Run

from .patient import patient


@pytest.fixture(scope="session")
def lossy_link() -> Link:
    """A link that loses less than FEC_50_50 repairs."""
    return Link(0.3, seed=7)


@pytest.fixture(scope="session")
def lossy_run(photographs: Path, lossy_link: Link) -> tuple[Run, Mapping[str, Any]]:
    """The photographs through real daemons over that link, in the paper's form but ranked by activation.

    And what their cloud counted.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(experiment, "daemon", patient)
        options = [*experiment.coding_options("FEC_50_50", "zfec", "uniform8", 1), "--importance", "activation"]
        return experiment.run_with_own_cloud(photographs, lossy_link, options)
