"""The real daemons on loopback: what arrives, what is recorded, what is counted, and what the options do."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from gradfec_cli import demo
from gradfec_cli.cli import main
from gradfec_cli.daemons import Daemon, daemon, free_port
from gradfec_cli.experiment import DATAGRAM_NAMES, PACKET_NAMES, Link, Record, Run, injector, top1, unaccounted
from gradfec_cli.uncut import predict
from gradfec_cloud.backend import BackEnd
from gradfec_cloud.metrics import FATES, LIMITS, TENSOR_FATES
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_edge.coding import coding_of

from .patient import patient
from .stubbed import stubbed

OTHER_SPLIT = "conv3_block1_add"
A_MOMENT = timedelta(milliseconds=2)  # for the rounding of times
NAMES = ["astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "rocket.png"]
TOLD = ["outcome", "head", "top5", "packets", "datagrams", "bytes", "latency_ms", "stages_ms"]
EDGE_KEYS = ["time", "frame", "source", "session", "tensor", *TOLD, "edge"]
EDGE_KEYS[EDGE_KEYS.index("bytes") : EDGE_KEYS.index("bytes")] = ["split", "codec"]
CLOUD_KEYS = ["time", "edge", "session", "tensor", *TOLD]
EDGE_STAGES = ["preprocess", "front_end", "importance", "encode", "send"]
CLOUD_STAGES = ["collect", "queue", "decode", "back_end"]


class Cloud(NamedTuple):
    """A running cloud that records and can be scraped."""

    port: int
    results: Path
    metrics: str

    def scrape(self) -> dict[str, float]:
        """Return the metrics by name with labels."""
        with urllib.request.urlopen(self.metrics, timeout=60) as answer:
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def records(self, edge: str) -> list[Record]:
        lines = self.results.read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["edge"] == edge]


class Sent(NamedTuple):
    """What an edge printed: its records, and its totals."""

    records: list[Record]
    totals: dict[str, Any]


def read(edge: Daemon) -> Sent:
    *records, totals = map(json.loads, edge.lines())
    assert edge.process.wait(60) == 0, edge.said
    return Sent(records, totals)


@pytest.fixture(scope="module")
def reference(photographs: Path, uncut: BackEnd) -> dict[str, int]:
    """The uncut model's class for each photograph."""
    return {name: int(scores.argmax()) for name, scores in predict(uncut, photographs)}


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Cloud]]:
    """Two real clouds with the real weights, by their split, shared by the tests of this module."""
    with ExitStack() as stack:
        both, started = {}, []
        for split in (DEFAULT_CUT, OTHER_SPLIT):
            port, metrics, results = free_port(), free_port(), tmp_path_factory.mktemp("cloud") / "answers.jsonl"
            options = ["--listen", f"127.0.0.1:{port}", "--metrics", metrics, "--results", results, "--split", split]
            started.append(stack.enter_context(patient("gradfec-cloud", *options)))
            both[split] = Cloud(port, results, f"http://127.0.0.1:{metrics}/metrics")
        for running in started:
            running.wait_until_it_says("listening on")
        yield both


@pytest.fixture(scope="module")
def cloud(clouds: dict[str, Cloud]) -> Cloud:
    return clouds[DEFAULT_CUT]


@pytest.fixture(scope="module")
def edges(clouds: dict[str, Cloud], photographs: Path) -> dict[str, Sent]:
    """What real edges printed that sent the same folder at the same time, by name; no loss, no protection.

    Each packet has a datagram of its own.
    """
    everyone = {
        "left": [DEFAULT_CUT, "--mode", "paper"],
        "right": [DEFAULT_CUT, "--mode", "paper", "--in-flight", "1", "--importance", "random"],
        "other": [OTHER_SPLIT, "--rows", "2"],
    }
    running = {}
    with ExitStack() as stack:
        for name, (split, *options) in everyone.items():
            where = ["--camera", photographs, "--cloud", f"127.0.0.1:{clouds[split].port}", "--split", split]
            shown = ["--protect", "none", "--name", name, "--results", "-", "--json"]
            running[name] = stack.enter_context(patient("gradfec-edge", *where, *shown, *options))
        return {name: read(edge) for name, edge in running.items()}


# --- with the real weights ---


@pytest.mark.daemons
@pytest.mark.parametrize("name", ["left", "right", "other"])
def test_without_loss_every_photograph_gets_the_answer_of_the_uncut_model(
    name: str, edges: dict[str, Sent], reference: dict[str, int]
) -> None:
    assert {record["source"]: top1(record) for record in edges[name].records} == reference
    assert {record["outcome"] for record in edges[name].records} == {"complete"}


@pytest.mark.daemons
@pytest.mark.parametrize("name", ["left", "right"])
def test_a_folder_is_sent_exactly_once_in_order(name: str, edges: dict[str, Sent]) -> None:
    records = sorted(edges[name].records, key=lambda record: record["frame"])
    assert [record["frame"] for record in records] == [record["tensor"] for record in records] == [*range(6)]
    assert [record["source"] for record in records] == NAMES
    assert edges[name].totals["frames"] == {"complete": 6, "skipped": 0}


@pytest.mark.daemons
@pytest.mark.parametrize("name", ["left", "right"])
def test_both_sides_record_the_same_of_each_tensor_under_the_documented_keys(
    name: str, edges: dict[str, Sent], cloud: Cloud
) -> None:
    of_cloud = {record["tensor"]: record for record in cloud.records(name)}
    assert len(of_cloud) == len(cloud.records(name)) == 6
    for record in edges[name].records:
        theirs = of_cloud[record["tensor"]]
        assert list(record) == EDGE_KEYS
        assert list(theirs) == CLOUD_KEYS
        assert list(record["packets"]) == list(theirs["packets"]) == list(PACKET_NAMES)
        assert list(record["datagrams"]) == [*DATAGRAM_NAMES, "asked"]
        assert list(theirs["datagrams"]) == list(DATAGRAM_NAMES)
        assert [list(answer) for answer in record["top5"]] == 5 * [["class_index", "label", "score"]]
        assert list(record["stages_ms"]) == EDGE_STAGES + CLOUD_STAGES
        assert list(theirs["stages_ms"]) == CLOUD_STAGES
        for key in ("session", "outcome", "head", "top5", "packets", "bytes"):
            assert record[key] == theirs[key]
        assert record["datagrams"] == {**theirs["datagrams"], "asked": 0}  # only the edge knows
        assert record["latency_ms"] > theirs["latency_ms"] > 0
        assert record["packets"] == dict(zip(PACKET_NAMES, (2048, 0, 0, 0), strict=True))
        assert theirs["datagrams"] == dict(zip(DATAGRAM_NAMES, (2048, 0, 2048, 0), strict=True))


@pytest.mark.daemons
def test_the_metrics_count_what_was_answered(cloud: Cloud, edges: dict[str, Sent]) -> None:
    values = cloud.scrape()
    assert values['gradfec_cloud_tensors_total{fate="complete"}'] >= 12
    assert values['gradfec_cloud_tensor_datagrams_total{fate="received"}'] >= 12 * 2048
    assert values['gradfec_cloud_packets_total{fate="arrived"}'] >= 12 * 2048
    assert values['gradfec_cloud_datagrams_received_total{fate="collected"}'] >= 12 * 2048
    assert values["gradfec_cloud_answer_seconds_count"] == values['gradfec_cloud_tensors_total{fate="complete"}']
    assert values["gradfec_cloud_answer_seconds_sum"] > 0
    for gauge in ("open_tensors", "held_bytes", "insecure"):
        assert values[f"gradfec_cloud_{gauge}"] == 0
    assert values["gradfec_cloud_ready"] == 1
    labels = {
        name: set(re.findall(rf'^gradfec_cloud_{name}_total{{\w+="(\w+)"', "\n".join(values), re.MULTILINE))
        for name in ("datagrams_received", "tensors", "limits_reached")
    }
    assert labels == {"datagrams_received": {*FATES}, "tensors": {*TENSOR_FATES}, "limits_reached": {*LIMITS}}


@pytest.mark.daemons
def test_at_30_percent_loss_fec_50_50_completes_every_frame_and_every_datagram_is_accounted_for(
    lossy_run: tuple[Run, Mapping[str, Any]],
) -> None:
    run, of_cloud = lossy_run
    assert sorted(record["source"] for record in run.records) == NAMES
    assert {record["outcome"] for record in run.records} == {"complete"}
    packets, datagrams = run.packets(), run.datagrams()
    assert datagrams["sent"] == 6 * 2048 == datagrams["received"] + datagrams["lost"]
    assert 0.25 < datagrams["lost"] / datagrams["sent"] < 0.35
    assert packets["recovered"] > 0 == packets["missing"]
    loose = unaccounted(run, of_cloud)
    assert not any(loose.values()), loose


@pytest.mark.daemons
def test_split_and_rows_say_how_many_packets_a_tensor_has(edges: dict[str, Sent]) -> None:
    packets = {name: {record["packets"]["total"] for record in sent.records} for name, sent in edges.items()}
    assert packets == {"left": {256 * 8}, "right": {256 * 8}, "other": {512 * 14}}


@pytest.mark.daemons
def test_the_demo_compares_three_runs_and_leaves_no_process_behind(
    photographs: Path, tmp_path: Path, uncut: BackEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES[1:3]:
        (tmp_path / name).symlink_to(photographs / name)
    monkeypatch.setattr("gradfec_cli.uncut.uncut_model", lambda weights: uncut)  # built already
    mark = f"demo-{os.getpid()}"
    monkeypatch.setenv("DEMO_MARK", mark)  # which its processes inherit
    marked: list[bool] = []

    def show_run(*arguments: Any, show_run: Any = demo.show_run) -> Run:
        marked.append(bool(processes(mark)))
        return show_run(*arguments)

    monkeypatch.setattr(demo, "show_run", show_run)
    options = ["--images", tmp_path, "--loss", "20%", "--protect", "FEC_20_80", "--codec", "sqrt4"]
    ended = CliRunner().invoke(main, ["demo", "--json", *map(str, options)])
    assert ended.exit_code == 0, ended.output
    assert "Traceback" not in ended.stderr
    plain, paper, protected = json.loads(ended.stdout)["runs"]
    for run, name, protect in (
        (plain, "unprotected", "none"), (paper, "paper", "FEC_20_80"), (protected, "protected", "FEC_20_80"),
    ):  # fmt: skip
        assert [*run] == [
            "name", "protect", "loss", "frames", "agreement", "frame_bytes", "packets", "datagrams", "latency_ms",
        ]  # fmt: skip
        assert (run["name"], run["protect"], run["loss"], run["frames"]) == (name, protect, 0.2, 2)
        assert 0 <= run["agreement"] <= 1
        assert list(run["packets"]) == list(PACKET_NAMES)
        assert list(run["datagrams"]) == list(DATAGRAM_NAMES)
        assert run["packets"]["total"] == 2 * 2048
    assert plain["datagrams"]["parity"] == plain["packets"]["recovered"] == 0
    assert protected["packets"]["dropped_by_plan"] == 2 * 410
    assert protected["datagrams"]["sent"] == plain["datagrams"]["sent"] == 2 * 410  # five packets of sqrt4 in each
    assert 0.18 < protected["datagrams"]["parity"] / protected["datagrams"]["sent"] < 0.22
    assert (paper["datagrams"]["sent"], paper["frame_bytes"]) == (2 * 2048, 948_224)
    assert protected["frame_bytes"] == 435_830
    assert marked == [True, True, True]
    assert not processes(mark)


def processes(mark: str) -> list[Path]:
    """Return the processes that were started with a mark in their environment."""
    return [process for process in Path("/proc").glob("[0-9]*/environ") if mark in environment(process)]


def environment(process: Path) -> str:
    try:
        return process.read_text(errors="replace")
    except OSError:  # it has ended, or is somebody else's
        return ""


# --- with a toy network: what the options of the edge do ---


@pytest.fixture(scope="module")
def toy_cloud() -> Iterator[int]:
    """The port of a cloud with a toy network."""
    port = free_port()
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}"):
        yield port


def toy_edge(port: int, camera: Path, *options: object) -> Sent:
    where = ["--camera", camera, "--cloud", f"127.0.0.1:{port}", "--results", "-", "--json"]
    with stubbed("gradfec-edge", *where, *options) as edge:
        return read(edge)


def test_one_cloud_serves_edges_of_several_cuts_at_once(photographs: Path, tmp_path: Path) -> None:
    port, results = free_port(), tmp_path / "answers.jsonl"
    cuts = ["pool1_pool", "conv2_block1_add"]
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--results", "-", "--json"]
    options = ["--listen", f"127.0.0.1:{port}", "--split", ",".join(cuts), "--results", results]
    with stubbed("gradfec-cloud", *options), ExitStack() as stack:
        edges = {}
        for cut in cuts:
            own = ["--split", cut, "--name", cut, "--importance", "activation"]
            edges[cut] = stack.enter_context(stubbed("gradfec-edge", *where, *own))
        sent = {cut: read(edge) for cut, edge in edges.items()}
    of_cloud = [json.loads(line) for line in results.read_text().splitlines()]
    for cut, of in sent.items():
        assert of.totals["frames"] == {"complete": 6, "skipped": 0}
        theirs = {record["tensor"]: record for record in of_cloud if record["edge"] == cut}
        assert [theirs[record["tensor"]]["top5"] for record in of.records] == [record["top5"] for record in of.records]
    packets = {cut: {record["packets"]["total"] for record in of.records} for cut, of in sent.items()}
    assert packets == {"pool1_pool": {64 * 4}, "conv2_block1_add": {256 * 4}}


def test_a_video_files_frames_are_sent_each_once_in_order(toy_cloud: int, tmp_path: Path) -> None:
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for level in range(7):
        writer.write(np.full((48, 64, 3), 30 * level, np.uint8))
    writer.release()
    records = sorted(toy_edge(toy_cloud, clip, "--in-flight", "1").records, key=lambda record: record["frame"])
    assert [record["frame"] for record in records] == [*range(7)]
    assert [record["source"] for record in records] == [f"clip.avi#{n}" for n in range(1, 8)]
    assert len({top1(record) for record in records}) == 7  # seven shades of grey, none mistaken for another


def test_with_one_frame_in_flight_records_come_in_the_order_of_the_frames(toy_cloud: int, photographs: Path) -> None:
    sent = toy_edge(toy_cloud, photographs, "--in-flight", "1")
    assert [record["frame"] for record in sent.records] == [*range(6)]


FULL = "--codec sqrt2 --packets-per-datagram 99"  # more than fit


@pytest.mark.parametrize(
    ("options", "packets", "datagrams"),
    [
        ("--codec uniform8 --packets-per-datagram 1 --protect none", (256, 0), (256, 0)),
        ("--codec sqrt2 --packets-per-datagram 4 --protect none", (256, 0), (64, 0)),
        (f"{FULL} --protect none", (256, 0), (52, 0)),  # five packets of 196 bytes in each
        (f"{FULL} --protect FEC_50_50", (256, 128), (52, 26)),
        pytest.param(f"{FULL} --protect FEC_50_50 --fec leopard", (256, 128), (52, 26), marks=pytest.mark.leopard),
        (f"{FULL} --protect nested:20,60,100/120", (256, 76), (120, 20)),  # one packet of each class in each
        (f"{FULL} --protect nested:4,32/40", (256, 184), (40, 8)),  # two
    ],
)
def test_codec_protection_and_packets_per_datagram_decide_what_is_sent_and_recorded(
    options: str, packets: tuple[int, int], datagrams: tuple[int, int], toy_cloud: int, photographs: Path
) -> None:
    sent = toy_edge(toy_cloud, photographs / "coffee.png", *options.split())
    (record,) = sent.records
    assert record["outcome"] == "complete"
    assert record["packets"] == dict(zip(PACKET_NAMES, (*packets, 0, 0), strict=True))
    assert sent.totals["packets"] == record["packets"]
    assert sent.totals["datagrams"] == dict(zip(DATAGRAM_NAMES, (*datagrams, datagrams[0], 0), strict=True))
    assert record["datagrams"] == {**sent.totals["datagrams"], "asked": 0}
    assert sent.totals["datagrams_sent"]["symbol"] == datagrams[0]
    assert sent.totals["bytes_sent"]["symbol"] == record["bytes"]


@pytest.mark.slow
def test_of_nested_classes_a_link_that_loses_half_takes_the_least_important_ones(
    photographs: Path, tmp_path: Path
) -> None:
    of_cloud, results = free_port(), tmp_path / "answers.jsonl"
    options = ["--listen", f"127.0.0.1:{of_cloud}", "--deadline-ms", 1000, "--results", results]
    with stubbed("gradfec-cloud", *options), injector(Link(0.5, seed=3), of_cloud) as (_, port):
        toy_edge(port, photographs, *f"{FULL} --protect nested:10,40,110/120".split())
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(records) == 6
    for record in records:
        packets, datagrams = record["packets"], record["datagrams"]
        assert datagrams["sent"] == 120 == datagrams["received"] + datagrams["lost"]
        assert 40 <= datagrams["received"] < 110
        assert (packets["total"], packets["dropped_by_plan"]) == (256, 256 - 160)
        # The classes of 10 and 40 packets are whole, and of the 110 those are there whose own datagrams arrived.
        assert record["outcome"] == "partial"
        assert 110 - datagrams["received"] <= packets["missing"] <= datagrams["lost"]
        assert 0 < packets["recovered"] <= 50


def test_the_records_of_both_sides_can_be_joined_by_session_and_tensor(photographs: Path, tmp_path: Path) -> None:
    of_cloud, results = free_port(), tmp_path / "cloud.jsonl"
    begun = datetime.now(timezone.utc)
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{of_cloud}", "--deadline-ms", 1000, "--results", results),
        injector(Link(0.2, seed=3), of_cloud) as (_, port),
    ):
        runs = [toy_edge(port, photographs, "--protect", "FEC_50_50") for _ in range(2)]  # tensors 0 to 5, twice
    theirs = {(record["session"], record["tensor"]): record for record in map(json.loads, results.open())}
    ours = {(record["session"], record["tensor"]): record for run in runs for record in run.records}
    assert ours.keys() == theirs.keys()
    assert len(ours) == 12
    for key, record in ours.items():
        assert record["top5"] == theirs[key]["top5"]
        assert record["datagrams"] == {**theirs[key]["datagrams"], "asked": 0}
        sent, received = record["datagrams"]["sent"], record["datagrams"]["received"]
        assert record["bytes"] / sent == theirs[key]["bytes"] / received > 14 * 56
        answered, came = (datetime.fromisoformat(one["time"].replace("Z", "+00:00")) for one in (theirs[key], record))
        assert begun - A_MOMENT < answered <= came + A_MOMENT  # one machine, one time of day


def test_a_tensor_takes_as_long_to_send_as_the_rate_says(toy_cloud: int, photographs: Path) -> None:
    megabits_per_s = 16
    sent = toy_edge(toy_cloud, photographs / "coffee.png", "--rate", megabits_per_s)
    coding = coding_of(named_cut("pool1_pool"), 14, "uniform8", "FEC_20_80", "zfec", packets_a_datagram=1)
    frame_bytes = coding.check()
    assert frame_bytes is not None and frame_bytes > 256 * 14 * 56
    seconds = 8 * frame_bytes / (1e6 * megabits_per_s)
    assert sent.records[0]["stages_ms"]["send"] > 950 * seconds


@pytest.mark.parametrize(
    ("link", "protect", "words"),
    [
        (
            ["--rate", "4"],
            "FEC_20_80",
            r"carries less than is sent: 2\d\d kB a frame at 5 frames/s .* lower --fps to \d",
        ),
        pytest.param(
            ["--loss", "30%"],
            "none",
            r"been partial: the link loses [23]\d\.\d % .* --protect FEC_\d+_\d+ would",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["too slow", "too bad"],
)
def test_an_edge_says_once_whether_its_link_is_too_slow_or_too_bad_and_what_helps(
    link: list[str], protect: str, words: str, photographs: Path
) -> None:
    of_cloud, port = free_port(), free_port()
    between = ["--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{of_cloud}", *link]
    sends = ["--camera", photographs, "--loop", "--fps", "5", "--cloud", f"127.0.0.1:{port}", "--protect", protect]
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{of_cloud}", "--deadline-ms", 1000),
        daemon("gradfec-netem", *between, ready="listening on"),
        stubbed("gradfec-edge", *sends) as edge,
    ):
        edge.wait_until_it_says("warning: ", 60)
        time.sleep(3)  # for more frames, which say nothing new
        (warning,) = (line for line in edge.said if "warning: " in line)
    assert re.search(words, warning), warning


def test_loop_repeats_a_folder_until_it_is_asked_to_stop(toy_cloud: int, photographs: Path) -> None:
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{toy_cloud}", "--results", "-", "--json"]
    with stubbed("gradfec-edge", *where, "--loop", "--in-flight", "1") as edge:
        lines = edge.lines()
        records = [json.loads(next(lines)) for _ in range(14)]
        edge.stop()
    assert edge.process.returncode == 0
    assert [record["frame"] for record in records] == [*range(14)]
    assert [record["source"] for record in records] == (3 * NAMES)[:14]


def test_results_are_appended_to_what_an_earlier_run_recorded(
    toy_cloud: int, photographs: Path, tmp_path: Path
) -> None:
    results = tmp_path / "out.jsonl"
    for _ in range(2):
        where = ["--camera", photographs / "coins.png", "--cloud", f"127.0.0.1:{toy_cloud}", "--results", results]
        with stubbed("gradfec-edge", *where) as edge:
            assert edge.process.wait(60) == 0
    assert [json.loads(line)["source"] for line in results.read_text().splitlines()] == 2 * ["coins.png"]


def test_without_json_the_totals_are_lines_for_people(toy_cloud: int, photographs: Path) -> None:
    with stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{toy_cloud}") as edge:
        assert [*edge.lines()] == []
        assert edge.process.wait(60) == 0
        edge.stop()
    said = "\n".join(edge.said)
    assert f"looking for 127.0.0.1:{toy_cloud}" in said
    assert f"connected to 127.0.0.1:{toy_cloud}" in said
    assert "gradfec-edge: frames: 6 complete\n" in said
    assert "gradfec-edge: datagrams sent: " in said
