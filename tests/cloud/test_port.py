"""The cloud's socket: what is bound, what is received whatever its bytes, and what is said where it cannot be."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator

import pytest

from gradfec_cloud.port import BATCH, RECEIVE_BUFFER_BYTES, WIDTH_BYTES, Port
from gradfec_common.console import Endpoint
from gradfec_common.errors import GradfecError
from gradfec_lab.daemons import free_port

SOON_S = 60.0  # a safety net


@pytest.fixture
def port() -> Iterator[Port]:
    bound = Port(Endpoint("127.0.0.1", free_port()))
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
    assert len(batch.buffer) == len(batch.lengths) == len(batch.peers)
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
        assert [*batch.peers] == [client.getsockname(), other.getsockname(), client.getsockname()]


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


def test_what_the_kernel_refuses_to_send_is_told_and_does_no_harm(port: Port) -> None:
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


def test_a_port_in_use_is_named(port: Port) -> None:
    with pytest.raises(GradfecError, match=rf"UDP port {port.address.port} of 127\.0\.0\.1 is in use already"):
        Port(port.address)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "needs privileges: choose a port above 1023"),
        (errno.EADDRNOTAVAIL, "that address is not of this machine"),
        (errno.ENETDOWN, "cannot listen on UDP port 9000 of 127.0.0.1: Network is down"),
    ],
)
def test_each_reason_not_to_bind_has_its_words(monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    class Refusing(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(number, "Network is down")

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(GradfecError, match=words):
        Port(Endpoint("127.0.0.1", 9000))


def test_a_machine_without_ipv6_is_served_on_ipv4_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    make = socket.socket

    def without_ipv6(family: int, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return make(family, *rest)

    number = free_port()
    monkeypatch.setattr(socket, "socket", without_ipv6)
    port = Port(Endpoint("", number))
    assert port.address == ("0.0.0.0", number)
    port.close()
    with pytest.raises(GradfecError, match="Address family not supported by protocol"):
        Port(Endpoint("::1", number))


def test_a_name_that_cannot_even_be_encoded_is_an_error_that_names_it() -> None:
    with pytest.raises(GradfecError, match=r"cannot listen on a{70}:9000: "):
        Port(Endpoint(70 * "a", 9000))


def test_the_receive_buffer_that_was_granted_is_known(port: Port) -> None:
    assert 0 < port.receive_buffer_bytes <= RECEIVE_BUFFER_BYTES
