"""`gradfec bench models`, run once: every half on every runtime, and its start. No time is asserted."""

import json

import pytest
from click.testing import CliRunner

from gradfec_cli.cli import main
from gradfec_host.runtimes import LITERT, TENSORFLOW
from gradfec_lab.bench import models
from gradfec_lab.bench.models import PARTS, START, installed_bytes


def bench(*arguments):
    done = CliRunner().invoke(main, ["bench", "models", "--runs", "1", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("runtimes", [[LITERT], pytest.param([LITERT, TENSORFLOW], marks=pytest.mark.slow)], ids=len)
def test_each_part_and_start_is_timed_on_each_runtime(monkeypatch, runtimes):
    monkeypatch.setattr(models, "installed", lambda: runtimes)
    monkeypatch.setattr(models, "BATCHES", (1, 2))
    start = models.start_ms  # TensorFlow's is like LiteRT's, and takes ten times as long
    monkeypatch.setattr(models, "start_ms", lambda runtime, half: start(LITERT, half) if runtime == LITERT else 1.0)
    said = json.loads(bench("--json"))
    assert {*said["models"]} == {*runtimes}
    for found in said["models"].values():
        assert {*found["ms_an_image"]} == {*PARTS}
        assert all(ms > 0 for part in found["ms_an_image"].values() for ms in part.values())
        assert {*found["start_ms"]} == {*START}
        assert min(found["start_ms"].values()) > 0
        assert found["installed_bytes"] > 1e6


def test_the_table_says_the_same_of_those_that_are_installed(monkeypatch):
    monkeypatch.setattr(models, "installed", lambda: [LITERT])
    monkeypatch.setattr(models, "times", lambda *_: {part: {"1": 12.34, "8": 10.0} for part in PARTS})
    monkeypatch.setattr(models, "start_ms", lambda *_: 1234.0)
    text = bench()
    assert "litert, of 8" in text
    assert all(part in text for part in PARTS)
    assert "12.3" in text
    assert "1,234" in text


def test_what_is_not_installed_has_no_size():
    assert installed_bytes(("no-such-distribution",)) == 0
