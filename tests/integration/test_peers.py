"""Peers that refuse, that are absent, strangers, of another cut or version; and a full disk."""

from __future__ import annotations

import json
import random
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path

import pytest

from gradfec_cli.daemons import free_port, own_key
from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.keys import Key
from gradfec_common.networks import named_cut
from gradfec_common.seal import Sealer
from gradfec_common.session.edge import new_hello
from gradfec_common.session.handshake import EdgeHandshake, HandshakeKey
from gradfec_host.key_files import read_key

from .endings import SOON_S, ended, is_one_clear_line
from .fake_cloud import Reply, fake_cloud
from .stubbed import stubbed

# --- peers ---


def refusal(reason: str, detail: str) -> Reply:
    return lambda hello: wire.Refuse(reason, detail)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (refusal("cipher", "this cloud has no cipher 2: update it"), "this cloud has no cipher 2: update it"),
        (refusal("rows", "not with\nerror: these\x1b[2J rows"), "not with error: these [2j rows"),
    ],
    ids=["of an older release", "that would play with the terminal"],
)
def test_a_refusal_ends_the_edge_with_the_clouds_words(reply: Reply, words: str, photographs: Path) -> None:
    with (
        fake_cloud(reply) as port,
        stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}") as edge,
    ):
        code, said, _ = ended(edge)
    assert code == 1
    assert is_one_clear_line(said, f"127.0.0.1:{port} refuses this edge: {words}"), said


def test_an_edge_keeps_asking_a_full_cloud_and_reports_it_once(photographs: Path) -> None:
    options = ["--camera", photographs, "--json", "--wait", "3"]
    with (
        fake_cloud(refusal("full", "the cloud serves 256 edges already")) as port,
        stubbed("gradfec-edge", *options, "--cloud", f"127.0.0.1:{port}", PATIENCE_S=1.0) as edge,
    ):
        code, said, _ = ended(edge)
    assert code == 1
    assert said.count("the cloud serves 256 edges already; trying again") == 1
    assert is_one_clear_line(said, "accepts no new edges now: the cloud serves 256 edges already"), said


@contextmanager
def cloud_of_version_2() -> Iterator[int]:
    """Answer each datagram with another of the protocol's version 2; yield the port."""
    with fake_cloud(lambda hello: wire.Welcome(500), version=2) as port:
        yield port


@contextmanager
def nobody() -> Iterator[int]:
    yield free_port()


@pytest.mark.parametrize(
    ("cloud", "words"),
    [
        (nobody, "nothing listens there; start it there: gradfec-cloud --listen"),
        (cloud_of_version_2, "check that gradfec-cloud runs there, of the same version"),
    ],
)
def test_a_folder_without_a_cloud_of_the_same_version_ends_with_advice_and_no_record(
    cloud: Callable[[], AbstractContextManager[int]], words: str, photographs: Path, tmp_path: Path
) -> None:
    results = tmp_path / "out.jsonl"
    with cloud() as port:
        where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}"]
        with stubbed("gradfec-edge", *where, "--results", results, "--wait", "1") as edge:
            code, said, _ = ended(edge)
    assert code == 1
    assert is_one_clear_line(said, words), said
    assert results.read_text() == ""


def test_a_folder_whose_cloud_has_no_address_waits_and_then_ends(photographs: Path) -> None:
    where = ["--camera", photographs, "--cloud", "no such host:9000", "--wait", "1"]  # no name server is asked
    with stubbed("gradfec-edge", *where) as edge:
        code, said, _ = ended(edge)
    assert code == 1
    assert re.search(r"warning: cannot reach no such host:9000: .*; trying again", said), said
    assert is_one_clear_line(said, "check the host name in --cloud; gave up after 1 s"), said


def test_a_folder_that_repeats_waits_for_its_cloud_for_as_long_as_it_takes(photographs: Path) -> None:
    port = free_port()
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--wait", "0.1", "--loop"]
    with stubbed("gradfec-edge", *where, PATIENCE_S=0.2) as edge:
        edge.wait_until_it_says("nothing listens there", SOON_S)
        with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}"):
            edge.wait_until_it_says(f"connected to 127.0.0.1:{port}", SOON_S)


def test_an_edge_with_another_split_is_told_which_one_to_use(photographs: Path) -> None:
    port = free_port()
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--split", "conv3_block1_add"),
        stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}") as edge,
    ):
        code, said, _ = ended(edge)
    assert code == 1
    assert is_one_clear_line(said, "use --split conv3_block1_add on the edge"), said


def test_a_cloud_sends_strangers_no_reply_and_counts_their_datagrams(photographs: Path) -> None:
    rng = random.Random(5)
    port = free_port()
    key, stranger = HandshakeKey(read_key(own_key())), HandshakeKey(Key(rng.randbytes(32)))
    wanted = wire.message_body(new_hello(named_cut("pool1_pool"), 14, "edge", Cipher.AES_256_GCM))
    hello, unknown = (EdgeHandshake(one, wanted, rng.randbytes).hello for one in (key, stranger))
    sealed = Sealer(rng.randbytes(32), Cipher.AES_256_GCM, 9)
    junk = {
        "too_short": [b"", b"G", bytes(wire.SEAL_BYTES)],
        "not_gradfec": [bytes([rng.randrange(wire.MAGIC)]) + rng.randbytes(100 + 9 * n) for n in range(200)],
        "too_long": [hello + bytes(1000)],
        "unknown_version": [hello[:1] + bytes([version]) + hello[2:] for version in (0, 1, 2, 4)],
        "unknown_kind": [hello[:2] + b"\x7f" + hello[3:]],
        "bad_length": [hello[:-1]],
        "unknown_key": [unknown],
        "forged": [hello[:-1] + bytes([hello[-1] ^ 1])],
        "unknown_session": [
            sealed.seal_one(wire.Kind.MESSAGE, wire.message_body(wire.Bye())),
            sealed.seal_one(wire.Kind.SYMBOL, bytes(818)),
        ],
        "unexpected": [hello[:2] + bytes([wire.Kind.WELCOME]) + hello[3:]],
    }
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--json") as cloud,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.connect(("127.0.0.1", port))
        for datagram in chain(*junk.values()):
            sender.send(datagram)
        with stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--json") as edge:
            code, _, output = ended(edge)
        totals = cloud.totals()["datagrams_received"]
        sender.setblocking(False)
        with pytest.raises(BlockingIOError):
            sender.recv(2048)
    told = [line for line in cloud.said if "version" in line and "started" not in line and "listening on" not in line]
    assert (
        len(told) == 1 and "speaks version 0 of the protocol and gets no reply: this cloud speaks version 3" in told[0]
    )
    good = {"collected", "surplus", "hello", "ping", "ack", "bye"}
    assert {fate: n for fate, n in totals.items() if fate not in good} == {fate: len(n) for fate, n in junk.items()}
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
    assert is_one_clear_line(said, "no space left on device; 0 results were recorded before; free space"), said
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
