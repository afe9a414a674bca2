"""Second looks with the real daemons: each frame has one record, whatever happens to cloud and link meanwhile."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gradfec_cli.daemons import Daemon, free_port

from .endings import SOON_S, ended, wait_for
from .relay import Relay
from .unsure import FEATURES, PICTURE, SURE, UNSURE, unsure

Records = list[dict[str, Any]]
LIMIT = 0.5


def records_in(path: Path) -> Records:
    """The records that are whole already."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def cloud_at(port: int, results: Path, **settings: object) -> Iterator[Daemon]:
    where = ["--listen", f"127.0.0.1:{port}", "--results", results]
    with unsure("gradfec-cloud", *where, ready="listening on", **settings) as cloud:
        yield cloud


@contextmanager
def edge_to(port: int, photographs: Path, results: Path, *options: object) -> Iterator[Daemon]:
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--results", results, "--json"]
    with unsure("gradfec-edge", *where, "--second-look", LIMIT, *options) as edge:
        yield edge


def looked_again(path: Path) -> int:
    """How many frames have a record with two looks."""
    return sum("looks" in record for record in records_in(path))


def tensors_of(records: Records) -> list[int]:
    """Every tensor that a record tells of."""
    return sorted(look["tensor"] for record in records for look in record.get("looks", [record]))


def check(records: Records) -> None:
    """Each frame has one record, each tensor is in one of them, and the right answer stands."""
    assert [record["frame"] for record in sorted(records, key=lambda one: one["frame"])] == [*range(len(records))]
    assert tensors_of(records) == [*range(len(tensors_of(records)))]
    for record in records:
        if "looks" not in record:
            continue
        first, second = record["looks"]
        assert (first["codec"], second["codec"]) == ("bottleneck", "avif")
        assert (first["outcome"], first["score"]) == ("complete", UNSURE)
        stands = second if second["outcome"] == "complete" else first
        assert record["tensor"] == stands["tensor"]
        assert record["top5"][0]["class_index"] == (PICTURE if stands is second else FEATURES)
        assert record["bytes"] == first["bytes"] + second["bytes"]


def check_cloud(of_cloud: Records, of_edge: Records) -> None:
    """The cloud's record of a second look names the first one, which is in the same session, by the edge's record."""
    answered = {(record["session"], record["tensor"]): record for record in of_cloud}
    assert len(answered) == len(of_cloud)
    pairs = {look[1]["tensor"]: look[0]["tensor"] for record in of_edge if (look := record.get("looks"))}
    for record in of_cloud:
        assert record.get("first_tensor") == pairs.get(record["tensor"])
        if "first_tensor" in record:
            first = answered[record["session"], record["first_tensor"]]
            assert first["top5"][0]["score"] == UNSURE and "first_tensor" not in first


def test_a_frame_whose_features_get_an_unsure_answer_gets_that_of_its_picture(
    photographs: Path, tmp_path: Path
) -> None:
    port, at_edge, at_cloud = free_port(), tmp_path / "edge.jsonl", tmp_path / "cloud.jsonl"
    with cloud_at(port, at_cloud), edge_to(port, photographs, at_edge) as edge:
        code, said, output = ended(edge)
    assert code == 0, said
    records, totals = records_in(at_edge), json.loads(output[-1])
    check(records)
    check_cloud(records_in(at_cloud), records)
    assert len(records) == 6
    again = looked_again(at_edge)
    assert 1 <= again <= 5
    for record in records:
        assert (record["outcome"], record["top5"][0]["score"]) == ("complete", SURE)
        assert record["codec"] == ("avif" if "looks" in record else "bottleneck")
        if "looks" in record:
            assert record["looks"][0]["latency_ms"] < record["looks"][1]["latency_ms"] == record["latency_ms"]
    assert totals["second_looks"] == {"changed": again}
    assert totals["frames"]["complete"] == 6
    assert totals["packets"]["total"] == 96 * (6 + again)
    assert totals["datagrams"]["sent"] == totals["datagrams_sent"]["symbol"]
    assert totals["bytes_sent"]["symbol"] == sum(record["bytes"] for record in records)


def test_a_limit_above_every_score_sends_every_frame_twice_and_none_but_the_first_is_that_of_a_frame(
    photographs: Path, tmp_path: Path
) -> None:
    port, at_edge, at_cloud = free_port(), tmp_path / "edge.jsonl", tmp_path / "cloud.jsonl"
    with cloud_at(port, at_cloud), edge_to(port, photographs, at_edge, "--second-look", "0.99") as edge:
        code, said, output = ended(edge)
    assert code == 0, said
    records = records_in(at_edge)
    assert [[look["label"] for look in record["looks"]] for record in records] == [["tabby", "tiger_cat"]] * 6
    pairs = sorted(
        (record["first_tensor"], record["tensor"]) for record in records_in(at_cloud) if "first_tensor" in record
    )
    assert pairs == sorted((first["tensor"], second["tensor"]) for first, second in (one["looks"] for one in records))
    assert json.loads(output[-1])["second_looks"] == {"changed": 6}


def test_a_cloud_that_takes_no_pictures_is_a_warning_and_the_first_answers_stand(
    photographs: Path, tmp_path: Path
) -> None:
    port, at_edge = free_port(), tmp_path / "edge.jsonl"
    only_features = ["--listen", f"127.0.0.1:{port}", "--split", "conv2_block1_add"]
    with (
        unsure("gradfec-cloud", *only_features, ready="listening on"),
        edge_to(port, photographs, at_edge) as edge,
    ):
        code, said, output = ended(edge)
    assert code == 0, said
    assert said.count("no answer gets a second look: this cloud takes no pictures") == 1
    records = records_in(at_edge)
    assert len(records) == 6
    assert {record["top5"][0]["class_index"] for record in records} == {FEATURES}
    assert json.loads(output[-1])["second_looks"] == {}


@pytest.mark.parametrize("trouble", ["the cloud is killed", "the link is dark"])
def test_when_the_cloud_or_the_link_is_lost_in_the_middle_every_frame_has_one_record(
    trouble: str, photographs: Path, tmp_path: Path
) -> None:
    port, at_edge = free_port(), tmp_path / "edge.jsonl"
    relay = Relay(port)

    def until(more: int) -> Callable[[], bool]:
        enough = looked_again(at_edge) + more
        return lambda: looked_again(at_edge) >= enough

    with (
        cloud_at(port, tmp_path / "cloud 0.jsonl", BACK_END_S=0.02) as cloud,
        edge_to(relay.port, photographs, at_edge, *("--loop", "--in-flight", 8, "--timeout-ms", 4000)) as edge,
        ExitStack() as later,
    ):
        wait_for(until(3))
        if trouble == "the link is dark":
            relay.on = False
        else:
            cloud.process.kill()
        edge.wait_until_it_says("is silent; looking for it", SOON_S)
        if trouble == "the link is dark":
            relay.on = True
        else:
            later.enter_context(cloud_at(port, tmp_path / "cloud 1.jsonl"))
        wait_for(until(3))
        edge.process.send_signal(signal.SIGINT)
        code, said, output = ended(edge)
    assert code == 0, said
    records, totals = records_in(at_edge), json.loads(output[-1])
    check(records)
    for path in tmp_path.glob("cloud *.jsonl"):
        check_answers(records_in(path), records)
    assert sum(totals["frames"].values()) == len(records)
    assert sum(totals["second_looks"].values()) == looked_again(at_edge)
    assert totals["datagrams"]["sent"] == totals["datagrams_sent"]["symbol"]


def check_answers(of_cloud: Records, of_edge: Records) -> None:
    """As `check_cloud`, where the edge may not have heard every answer, nor the cloud all that was sent."""
    answered = {(record["session"], record["tensor"]): record for record in of_cloud}
    pairs = {look[1]["tensor"]: look[0]["tensor"] for record in of_edge if (look := record.get("looks"))}
    for record in of_cloud:
        assert record.get("first_tensor") == pairs.get(record["tensor"])
        assert "first_tensor" not in record or (record["session"], record["first_tensor"]) in answered


@pytest.mark.parametrize("signals", [1, 2])
def test_an_edge_that_is_stopped_records_every_frame_that_it_sent_once(
    signals: int, photographs: Path, tmp_path: Path
) -> None:
    port, at_edge, at_cloud = free_port(), tmp_path / "edge.jsonl", tmp_path / "cloud.jsonl"
    with (
        cloud_at(port, at_cloud, BACK_END_S=0.1),
        edge_to(port, photographs, at_edge, "--loop", "--in-flight", 8) as edge,
    ):
        wait_for(lambda: looked_again(at_edge) >= 2)
        edge.process.send_signal(signal.SIGINT)
        if signals == 2:
            time.sleep(0.05)
            edge.process.send_signal(signal.SIGINT)
        code, said, output = ended(edge)
    assert code == 0, said
    assert "Traceback" not in said
    records, totals = records_in(at_edge), json.loads(output[-1])
    assert len({record["frame"] for record in records}) == len(records)
    assert tensors_of(records) == [*range(len(tensors_of(records)))]
    assert sum(totals["frames"].values()) == len(records)
    assert totals["datagrams"]["sent"] == totals["datagrams_sent"]["symbol"]
    if signals == 1:
        check(records)
        assert {record["outcome"] for record in records} == {"complete"}
        assert {record["top5"][0]["score"] for record in records} == {SURE}, "every unsure frame was sent again"
        check_cloud(records_in(at_cloud), records)
