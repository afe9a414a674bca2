"""When stopped, both daemons finish what they have and print totals; when stopped twice, they do not wait."""

from __future__ import annotations

import json
import re
import signal
import threading
import urllib.request
from pathlib import Path

import pytest

from gradfec_cli.daemons import free_port
from gradfec_common import wire

from .endings import SOON_S, ended, wait_for
from .fake_cloud import fake_cloud
from .stubbed import stubbed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_when_stopped_alone_both_daemons_end_without_an_error_and_have_nothing_to_add_up(
    number: signal.Signals, photographs: Path
) -> None:
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{free_port()}"]
    with (
        stubbed("gradfec-edge", *where, ready="looking for") as edge,
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{free_port()}") as cloud,
    ):
        for daemon in (edge, cloud):
            daemon.process.send_signal(number)
            code, said, output = ended(daemon)
            assert (code, output) == (0, [])
            assert not re.search("frames: |tensors: |packets: |datagrams ", said), said
            assert "error" not in said
            assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_edge_that_is_stopped_records_every_frame_that_it_sent(
    number: signal.Signals, photographs: Path, tmp_path: Path
) -> None:
    port, results = free_port(), tmp_path / "out.jsonl"
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}"):
        options = ["--loop", "--results", results, "--json", "--in-flight", "8"]
        with stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}", *options) as edge:
            wait_for(lambda: results.exists() and results.read_text().count("\n") >= 8)
            edge.process.send_signal(number)
            code, said, output = ended(edge)
    assert code == 0
    assert "Traceback" not in said
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert sorted(record["tensor"] for record in records) == [*range(len(records))]
    totals = json.loads(output[-1])
    assert totals["frames"]["complete"] == len(records)
    assert totals["datagrams"]["sent"] == totals["datagrams_sent"]["symbol"]


def test_when_stopped_twice_an_edge_does_not_wait_for_answers(photographs: Path) -> None:
    def welcome(hello: wire.Hello) -> wire.Welcome:
        return wire.Welcome(250)

    options = ["--timeout-ms", "600000", "--results", "-", "--in-flight", "1"]
    sending = threading.Event()
    with (
        fake_cloud(welcome, sending) as port,
        stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}", *options) as edge,
    ):
        assert sending.wait(SOON_S)
        edge.process.send_signal(signal.SIGINT)
        edge.wait_until_it_says("a second signal stops at once", SOON_S)
        edge.process.send_signal(signal.SIGINT)
        code, _, output = ended(edge)
    assert code == 0
    assert [json.loads(line)["outcome"] for line in output] == ["timeout"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_cloud_that_is_stopped_answers_the_tensors_that_it_has(number: signal.Signals, photographs: Path) -> None:
    port, metrics = free_port(), free_port()
    options = ["--listen", f"127.0.0.1:{port}", "--metrics", metrics, "--json"]
    with stubbed("gradfec-cloud", *options, BACK_END_S=1.0) as cloud:
        where = ["--camera", photographs / "chelsea.png", "--cloud", f"127.0.0.1:{port}"]
        with stubbed("gradfec-edge", *where, "--json", "--results", "-") as edge:
            wait_for(lambda: "gradfec_cloud_open_tensors 1" in scraped(metrics))
            cloud.process.send_signal(number)
            code, said, output = ended(cloud)
            record = json.loads(next(edge.lines()))
            assert edge.process.wait(SOON_S) == 0
    assert code == 0
    assert "Traceback" not in said
    assert record["outcome"] == "complete"
    tensors = json.loads(output[-1])["tensors"]
    assert tensors["opened"] == tensors["complete"] == 1


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SOON_S) as answer:
        text: str = answer.read().decode()
        return text
