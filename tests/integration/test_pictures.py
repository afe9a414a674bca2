"""Edges that run no network: the real daemons with pictures instead of features, and what such an edge loads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradfec_cli.daemons import free_port
from gradfec_cli.experiment import Link, Record, injector, top1
from gradfec_cli.uncut import predict
from gradfec_cloud.backend import BackEnd

from .patient import patient

pytestmark = pytest.mark.daemons


@pytest.fixture(scope="module")
def reference(photographs: Path, uncut: BackEnd) -> dict[str, int]:
    """The uncut model's class for each photograph."""
    return {name: int(scores.argmax()) for name, scores in predict(uncut, photographs)}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a cloud with default options."""
    port = free_port()
    with patient("gradfec-cloud", "--listen", f"127.0.0.1:{port}") as cloud:
        cloud.wait_until_it_says("listening on")
        yield port


def sent(port: int, photographs: Path, *options: object) -> tuple[list[Record], dict[str, Any]]:
    """What an edge without weights prints: its records, and its totals."""
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--weights", "there is none"]
    with patient("gradfec-edge", *where, "--results", "-", "--json", *options) as edge:
        *records, totals = map(json.loads, edge.lines())
        assert edge.process.wait(60) == 0, edge.said
    return records, totals


@pytest.mark.parametrize(
    "codec", ["webp:95", *(pytest.param(one, marks=pytest.mark.slow) for one in ("jpeg:95", "progressive:95"))]
)
def test_pictures_without_loss_get_the_answers_of_the_uncut_model(
    codec: str, port: int, photographs: Path, reference: dict[str, int]
) -> None:
    records, totals = sent(port, photographs, "--codec", codec, "--protect", "none")
    assert {record["outcome"] for record in records} == {"complete"}
    agree = [top1(record) == reference[record["source"]] for record in records]
    assert len(agree) == 6 and sum(agree) >= 5
    assert totals["packets"] == {"total": 6 * 96, "dropped_by_plan": 0, "recovered": 0, "missing": 0}
    assert totals["datagrams"]["sent"] < 6 * 60  # features take 410 a frame


def test_progressive_pictures_are_answered_though_datagrams_are_lost(
    port: int, photographs: Path, reference: dict[str, int]
) -> None:
    with injector(Link(0.3, seed=4), port) as (relay, lossy):
        records, totals = sent(
            lossy, photographs, "--codec", "progressive:50", "--protect", "nested:5,12/28"
        )  # enough that none waits for the deadline, nor with this seed for a report
        assert relay.totals()
    assert totals["frames"]["complete"] + totals["frames"].get("partial", 0) == 6
    assert totals["datagrams"]["lost"] > 20
    assert totals["packets"]["recovered"] > 50
    assert sum(top1(record) == reference[record["source"]] for record in records) >= 4


def test_a_cloud_that_serves_other_cuts_refuses_pictures_with_the_reason(photographs: Path) -> None:
    port = free_port()
    with patient("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--split", "avg_pool") as cloud:
        cloud.wait_until_it_says("listening on")
        where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--codec", "webp"]
        with patient("gradfec-edge", *where) as edge:
            assert edge.process.wait(60) == 1
    assert any("this cloud has resnet50 at avg_pool, not at input_layer" in line for line in edge.said)


def test_an_edge_that_sends_pictures_loads_no_runtime_and_no_weights(photographs: Path) -> None:
    program = """
import sys
import gradfec_host.weights, gradfec_edge.process
def ends(cameras, options):
    image = cameras[0].source.next_frame().image
    encoded, stages = cameras[0].pipeline.encode(image)
    assert encoded.wire_bytes < 60_000, encoded.wire_bytes
    assert not {"ai_edge_litert", "tensorflow", "keras"} & {*sys.modules}
    raise SystemExit(77)
gradfec_edge.process.run_edge = ends
gradfec_host.weights.ensure_weights = None
import gradfec_host.runtimes
gradfec_host.runtimes.RUNTIMES.clear()
from gradfec_edge.cli import main
main(["--camera", sys.argv[1], "--cloud", "127.0.0.1:9", "--insecure", "--codec", "jpeg"])
"""
    command = [sys.executable, "-c", program, str(photographs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 77, done.stderr
