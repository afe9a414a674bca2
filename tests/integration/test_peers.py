"""Peers that refuse, that are not there, of another version or split; and a full disk beside a good peer."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path

import numpy as np
import pytest

from gradfec_common import wire
from gradfec_common.network import DEFAULT_SPLIT, split_point
from gradfec_lab.daemons import free_port

from .endings import SOON_S, ended, is_one_clear_line
from .fake_cloud import Reply, fake_cloud, in_version
from .stubbed import stubbed

# --- peers ---


def refusal(reason: str, detail: str, version: int = wire.VERSION) -> Reply:
    return lambda hello: in_version(version, wire.control_datagram(0, wire.Refuse(hello.nonce, reason, detail)))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (refusal("version", "the edge speaks 1, this cloud 2", version=2), "the edge speaks 1, this cloud 2"),
        (refusal("rows", "not with\nerror: these\x1b[2J rows"), "not with error: these [2j rows"),
    ],
    ids=["of another version of the protocol", "that would play with the terminal"],
)
def test_a_refusal_ends_the_edge_with_the_clouds_words(reply: Reply, words: str, photographs: Path) -> None:
    with (
        fake_cloud(reply) as port,
        stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}") as edge,
    ):
        code, said, _ = ended(edge)
    assert code == 1
    assert is_one_clear_line(said, f"127.0.0.1:{port} refuses this edge: {words}"), said


def test_a_cloud_that_is_full_is_asked_again_and_said_so_once(photographs: Path) -> None:
    options = ["--camera", photographs, "--json"]
    with (
        fake_cloud(refusal("full", "the cloud serves 256 edges already")) as port,
        stubbed("gradfec-edge", *options, "--cloud", f"127.0.0.1:{port}", PATIENCE_S=1.0) as edge,
    ):
        code, said, _ = ended(edge)
    assert code == 1
    assert said.count("the cloud serves 256 edges already; trying again") == 1
    assert is_one_clear_line(said, "takes no edge now: the cloud serves 256 edges already"), said


def test_a_folder_and_nobody_listening_ends_with_advice_and_no_record(photographs: Path, tmp_path: Path) -> None:
    results = tmp_path / "out.jsonl"
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{free_port()}"]
    with stubbed("gradfec-edge", *where, "--results", results, PATIENCE_S=0.3) as edge:
        code, said, _ = ended(edge)
    assert code == 1
    assert is_one_clear_line(said, "check that gradfec-cloud runs there"), said
    assert results.read_text() == ""


def test_an_edge_with_another_split_is_told_which_one_to_use(photographs: Path) -> None:
    port = free_port()
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--split", "conv3_block1_add"),
        stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}") as edge,
    ):
        code, said, _ = ended(edge)
    assert code == 1
    assert is_one_clear_line(said, "use --split conv3_block1_add on the edge"), said


def test_a_cloud_refuses_a_hello_of_version_2_and_counts_any_other_bytes(photographs: Path) -> None:
    rng = random.Random(5)
    port = free_port()
    hello = wire.Hello(7, split_point(DEFAULT_SPLIT).id, 7, "edge of tomorrow")
    symbol = bytearray(840)
    symbol[:3] = wire.MAGIC, wire.VERSION, wire.Kind.SYMBOL
    junk = [b"", *(rng.randbytes(rng.randrange(1, 2000)) for _ in range(200))]
    junk += [in_version(wire.VERSION, bytes(symbol)), wire.control_datagram(9, wire.Bye())]
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--json") as cloud,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        stranger.connect(("127.0.0.1", port))
        stranger.settimeout(SOON_S)
        for datagram in junk:
            stranger.send(datagram)
        stranger.send(in_version(2, wire.control_datagram(0, hello)))
        answer = wire.read_control(np.frombuffer(stranger.recv(2048), np.uint8))
        with stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--json") as edge:
            code, _, output = ended(edge)
        totals = cloud.totals()["datagrams_received"]
    assert not isinstance(answer, wire.Drop)
    assert isinstance(answer[1], wire.Refuse)
    assert (answer[1].nonce, answer[1].reason) == (7, "version")
    assert "update the older" in answer[1].detail
    bad = {fate: n for fate, n in totals.items() if fate not in ("collected", "surplus", "hello", "ack", "bye")}
    assert sum(bad.values()) == len(junk) + 1
    assert bad["unknown_version"] == 1
    assert bad["unknown_session"] == 2
    assert (code, json.loads(output[-1])["frames"]) == (0, {"complete": 6, "skipped": 0})


# --- a full disk ---


needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")


@needs_dev_full
def test_a_full_disk_ends_the_edge_and_the_cloud_serves_the_next(photographs: Path, tmp_path: Path) -> None:
    port, results = free_port(), tmp_path / "cloud.jsonl"
    arguments = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}"]
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--results", results, "--json") as cloud:
        with stubbed("gradfec-edge", *arguments, "--results", "/dev/full") as edge:
            code, said, _ = ended(edge)
        with stubbed("gradfec-edge", *arguments, "--name", "next") as edge:
            assert ended(edge)[0] == 0
        cloud.totals()
    assert code == 1
    assert is_one_clear_line(said, "no space left on device; 0 results were recorded before it; free space"), said
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert [record["tensor"] for record in records if record["edge"] == "next"] == [*range(6)]


@needs_dev_full
def test_a_full_disk_ends_the_cloud_and_its_edge_loses_no_frame(photographs: Path, tmp_path: Path) -> None:
    port, results = free_port(), tmp_path / "edge.jsonl"
    listen = ["gradfec-cloud", "--listen", f"127.0.0.1:{port}"]
    options = ["--in-flight", "1", "--results", results]
    with (
        stubbed(*listen, "--results", "/dev/full") as cloud,
        stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}", *options) as edge,
    ):
        code, said, _ = ended(cloud)
        edge.wait_until_it_says("is leaving; looking for it")
        with stubbed(*listen):
            assert ended(edge)[0] == 0
    assert code == 1
    assert is_one_clear_line(said, "cannot write results to /dev/full: no space left on device"), said
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert sorted(record["frame"] for record in records) == [*range(6)]
    assert records[0]["outcome"] == records[-1]["outcome"] == "complete"
