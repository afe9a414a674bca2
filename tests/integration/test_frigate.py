"""Frigate's pictures through the daemons, over a link that loses a tenth of the datagrams."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.onnx_files import spotter, written

from gradfec_cli.daemons import daemon, free_port
from gradfec_host.models.add import Wanted, add_model
from gradfec_host.models.graph import Graph
from gradfec_host.models.presets import preprocess_of

zmq = pytest.importorskip("zmq")

SIDE = 64
SOON_MS = 60_000  # a safety net


@pytest.fixture
def spotting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a model that finds white squares of 16 pixels."""
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))
    path = written(spotter(SIDE), tmp_path / "spotter.onnx")
    add_model(path, Graph.read(path), Wanted("spotter", preprocess_of("unit", (SIDE, SIDE)), ("white",)))


def ask(port: int, pictures: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.float32]]:
    """Ask as Frigate's plugin does, one picture after the other."""
    tables = []
    with zmq.Context() as context, context.socket(zmq.REQ) as frigate:
        frigate.setsockopt(zmq.RCVTIMEO, SOON_MS)
        frigate.setsockopt(zmq.LINGER, 0)
        frigate.connect(f"tcp://127.0.0.1:{port}")
        for one in pictures:
            header = {"shape": list(one.shape), "dtype": one.dtype.name, "model_type": "ssd"}
            frigate.send_multipart([json.dumps(header).encode(), one.tobytes()])
            header, data = frigate.recv_multipart()
            tables.append(np.frombuffer(data, np.float32).reshape(json.loads(header)["shape"]))
    return tables


@pytest.mark.daemons
def test_frigate_gets_boxes_over_a_lossy_link_and_empty_tables_without_a_cloud(spotting: None) -> None:
    cloud, relay, port = (free_port() for _ in range(3))
    pictures = [np.zeros((1, SIDE, SIDE, 3), np.uint8) for _ in range(10)]
    for number, picture in enumerate(pictures):
        picture[0, 24:40, 4 * number : 4 * number + 16] = 255
    where = f"zmq://127.0.0.1:{port}?request_timeout_ms=60000"
    edge_options = ("--camera", where, "--cloud", f"127.0.0.1:{relay}", "--model", "spotter", "--json")
    with daemon("gradfec-edge", *edge_options, "--timeout-ms", "60000", ready="looking for") as edge:
        (nothing,) = ask(port, pictures[:1])
        assert nothing.shape == (20, 6)
        assert not nothing.any()
        link = ("--listen", f"127.0.0.1:{relay}", "--to", f"127.0.0.1:{cloud}", "--loss", "10%", "--seed", "3")
        with (
            daemon("gradfec-netem", *link, ready="listening on"),
            daemon("gradfec-cloud", "--listen", f"127.0.0.1:{cloud}", "--model", "spotter", ready="listening on"),
        ):
            edge.wait_until_it_says("connected to")
            for number, table in enumerate(ask(port, pictures)):
                kind, score, top, left, bottom, right = table[0].tolist()
                assert (kind, score > 0.9) == (0, True)
                place = [edge_of / SIDE for edge_of in (4 * number, 24, 4 * number + 16, 40)]
                assert [left, top, right, bottom] == pytest.approx(place, abs=0.07)
            totals = edge.totals()
    assert totals["replies"] == {"unanswered": 1, "answered": 10}


@pytest.mark.daemons
def test_a_fallback_answers_before_the_cloud_is_there_and_after_it_has_left(spotting: None, tmp_path: Path) -> None:
    cloud, port, results = free_port(), free_port(), tmp_path / "answers.jsonl"
    picture = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    picture[0, 24:40, 24:40] = 255
    where = ("--camera", f"zmq://127.0.0.1:{port}?request_timeout_ms=60000", "--cloud", f"127.0.0.1:{cloud}")
    model = ("--model", "spotter", "--fallback", "spotter", "--timeout-ms", "60000")
    with daemon("gradfec-edge", *where, *model, "--results", str(results), "--json", ready="looking for") as edge:
        tables = ask(port, [picture] * 2)
        with daemon("gradfec-cloud", "--listen", f"127.0.0.1:{cloud}", "--model", "spotter", ready="listening on"):
            edge.wait_until_it_says("connected to")
            tables += ask(port, [picture] * 2)
        edge.wait_until_it_says("is leaving")
        tables += ask(port, [picture])
        totals = edge.totals()
    assert all(table[0, 1] > 0.9 for table in tables)
    records = [json.loads(line) for line in results.read_text().splitlines()]
    outcomes = [record["outcome"] for record in sorted(records, key=lambda record: int(record["frame"]))]
    assert outcomes == ["fallback", "fallback", "complete", "complete", "fallback"]
    assert {record.get("fallback") for record in records if record["session"] is None} == {"spotter"}
    assert totals["frames"] == {"fallback": 3, "complete": 2, "skipped": 0}


def test_with_a_fallback_a_folder_needs_no_cloud(spotting: None, photographs: Path) -> None:
    where = ("--camera", str(photographs), "--cloud", f"127.0.0.1:{free_port()}")
    with daemon(
        "gradfec-edge", *where, "--model", "spotter", "--fallback", "spotter", "--json", "--results", "-"
    ) as edge:
        *records, totals = map(json.loads, edge.lines())
    assert totals["frames"] == {"fallback": 6, "skipped": 0}
    assert {record["outcome"] for record in records} == {"fallback"}


def test_with_a_fallback_a_folder_goes_to_a_cloud_that_is_there(spotting: None, photographs: Path) -> None:
    port = free_port()
    where = ("--camera", str(photographs), "--cloud", f"127.0.0.1:{port}")
    with (
        daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--model", "spotter", ready="listening on"),
        daemon("gradfec-edge", *where, "--model", "spotter", "--fallback", "spotter", "--json") as edge,
    ):
        (totals,) = map(json.loads, edge.lines())
    assert totals["frames"] == {"complete": 6, "skipped": 0}
