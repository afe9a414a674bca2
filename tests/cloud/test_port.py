"""The cloud's socket: where it listens, what it receives, and the errors of an address that it cannot have."""

from __future__ import annotations

import select
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradfec_cli.daemons import free_port
from gradfec_cloud import port as port_module
from gradfec_cloud.port import RECEIVE_BUFFER_BYTES, Port, address_text, small_buffer_hint
from gradfec_cloud.receive import BATCH, WIDTH_BYTES
from gradfec_host.console import Endpoint

SOON_S = 60.0  # a safety net
SO_RXQ_OVFL = 40


@pytest.fixture(params=[True, False], ids=["batched", "plain"])
def port(request: pytest.FixtureRequest) -> Iterator[Port]:
    bound = Port(Endpoint("127.0.0.1", free_port()), batched=request.param)
    yield bound
    bound.close()


@pytest.fixture
def client(port: Port) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(port.address)
        sender.settimeout(SOON_S)
        yield sender


def received(port: Port) -> list[bytes]:
    """Take one batch, once there is something to take."""
    assert select.select([port.fileno()], [], [], SOON_S)[0]
    batch = port.receive()
    assert batch is not None
    assert len(batch.buffer) == len(batch.lengths) == len(batch.senders)
    return [row[:length].tobytes() for row, length in zip(batch.buffer, batch.lengths, strict=True)]


def test_datagrams_come_in_batches_with_their_lengths_and_senders(port: Port, client: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.connect(port.address)
        for sender, datagram in ((client, b"one"), (other, b""), (client, bytes(range(256)))):
            sender.send(datagram)
        assert select.select([port.fileno()], [], [], SOON_S)[0]
        batch = port.receive()
        assert batch is not None
        assert batch.lengths.tolist() == [3, 0, 256]
        assert batch.buffer[2, :256].tolist() == [*range(256)]
        assert [batch.peer(row) for row in range(3)] == [
            client.getsockname(),
            other.getsockname(),
            client.getsockname(),
        ]


def test_nothing_waiting_is_no_batch(port: Port) -> None:
    assert port.receive() is None


def test_one_call_takes_a_bounded_number_and_leaves_the_rest(port: Port, client: socket.socket) -> None:
    for number in range(BATCH + 1):
        client.send(bytes([number % 256]))
    assert [len(received(port)), len(received(port))] == [BATCH, 1]


def test_a_datagram_longer_than_any_of_ours_is_cut_off_and_still_too_long(port: Port, client: socket.socket) -> None:
    client.send(bytes(9000))
    assert [len(datagram) for datagram in received(port)] == [WIDTH_BYTES]


def test_answers_reach_the_peer_that_sent(port: Port, client: socket.socket) -> None:
    client.send(b"question")
    received(port)
    assert port.send(b"answer", client.getsockname())
    assert client.recv(100) == b"answer"


def test_a_datagram_that_the_kernel_refuses_is_reported_and_does_no_harm(port: Port) -> None:
    assert not port.send(bytes(70_000), ("127.0.0.1", 9))


def test_without_a_host_ipv4_and_ipv6_are_both_served() -> None:
    port = Port(Endpoint("", free_port()))
    try:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            if family == socket.AF_INET6 and port.address.host == "0.0.0.0":
                continue  # this machine has no IPv6
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"hello", (host, port.address.port))
                assert received(port) == [b"hello"]
    finally:
        port.close()


def test_the_receive_buffer_that_was_granted_is_known(port: Port) -> None:
    assert 0 < port.receive_buffer_bytes <= RECEIVE_BUFFER_BYTES


def test_the_hint_says_what_the_cap_is_what_is_wanted_and_how_to_raise_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cap = tmp_path / "rmem_max"
    monkeypatch.setattr(port_module, "RMEM_MAX", cap)
    assert "wanted, so the kernel will drop datagrams that come in bursts: the kernel caps it" in small_buffer_hint(9)
    cap.write_text("212992\n")
    assert small_buffer_hint(212_992) == (
        "the receive buffer has 212992 B, not the 8388608 B wanted, so the kernel will drop datagrams that come in "
        "bursts: net.core.rmem_max is 212992; raise it with sysctl -w net.core.rmem_max=8388608 and start again"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts what a socket has dropped")
def test_what_the_kernel_drops_is_counted_and_all_that_was_sent_is_accounted_for(
    port: Port, client: socket.socket
) -> None:
    port._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(100):
        client.send(bytes(400))
    came = sum(len(batch.lengths) for batch in iter(port.receive, None))
    assert 0 < port.kernel_drops == 100 - came


@pytest.mark.skipif(sys.platform != "linux", reason="SO_RXQ_OVFL is Linux's")
def test_the_counter_of_drops_is_the_one_that_the_kernel_sends_along(client: socket.socket, port: Port) -> None:
    inner = port._socket
    inner.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    inner.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    for _ in range(100):
        client.send(bytes(400))
    while port.receive():
        pass
    client.send(b"after the drops")
    assert select.select([inner], [], [], SOON_S)[0]
    _, ancillary, _, _ = inner.recvmsg(100, 64)
    told = [struct.unpack("=I", data)[0] for _, kind, data in ancillary if kind == SO_RXQ_OVFL]
    assert told == [port.kernel_drops]


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (("192.0.2.7", 4000), "192.0.2.7:4000"),
        (("2001:db8::7", 4000, 0, 0), "[2001:db8::7]:4000"),
        (("::ffff:192.0.2.7", 4000, 0, 0), "192.0.2.7:4000"),
    ],
)
def test_an_address_is_written_as_people_write_it(peer, text):
    assert address_text(peer) == text
