"""What every benchmark shares: the machine described, and medians of runs after a warm-up."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from gradfec_lab.bench import measure
from gradfec_lab.bench.measure import cpu_model, in_words, machine, median_ms


def test_the_machine_is_described() -> None:
    described = machine("numpy", "no-such-library")
    assert described["cores"] == os.cpu_count()
    assert described["python"] == platform.python_version()
    assert described["libraries"]["numpy"][0].isdigit()
    assert described["libraries"]["no-such-library"] is None
    assert "no-such-library not installed" in in_words(described)
    assert all(str(described[key]) in in_words(described) for key in ("cpu", "cores", "system", "python"))


def test_the_processor_is_named_as_linux_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "CPUINFO", tmp_path / "cpuinfo")
    assert cpu_model() == (platform.processor() or platform.machine())
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A Fast One: 2\nmodel name\t: Another\n")
    assert cpu_model() == "A Fast One: 2"


def test_the_median_leaves_the_warm_up_out_and_is_of_the_clock_that_is_asked_for() -> None:
    now, took = [0.0], iter([100.0, 0.003, 0.009, 0.001])  # seconds; the first is the warm-up

    def work() -> None:
        now[0] += next(took)

    assert median_ms(work, 3, lambda: now[0]) == pytest.approx(3)
    assert next(took, None) is None
