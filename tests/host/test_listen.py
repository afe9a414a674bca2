"""A UDP port to listen on, and the errors of one that cannot be had."""

from __future__ import annotations

import errno
import socket

import pytest

from gradfec_cli.daemons import free_port
from gradfec_common.errors import GradfecError
from gradfec_host.console import Endpoint
from gradfec_host.listen import bind_udp


def test_a_port_in_use_is_named() -> None:
    with bind_udp(Endpoint("127.0.0.1", free_port())) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(GradfecError, match=rf"UDP port {port} of 127\.0\.0\.1 is in use already"):
            bind_udp(Endpoint("127.0.0.1", port))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "needs privileges: choose a port above 1023"),
        (errno.EADDRNOTAVAIL, "that address is not of this machine"),
        (errno.ENETDOWN, "cannot listen on UDP port 9000 of 127.0.0.1: Network is down"),
    ],
)
def test_each_reason_not_to_bind_has_its_own_message(monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    class Refusing(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(number, "Network is down")

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(GradfecError, match=words):
        bind_udp(Endpoint("127.0.0.1", 9000))


def test_a_machine_without_ipv6_is_served_on_ipv4_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    make = socket.socket

    def without_ipv6(family: int, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return make(family, *rest)

    number = free_port()
    monkeypatch.setattr(socket, "socket", without_ipv6)
    with bind_udp(Endpoint("", number)) as bound:
        assert bound.getsockname() == ("0.0.0.0", number)
    with pytest.raises(GradfecError, match="Address family not supported by protocol"):
        bind_udp(Endpoint("::1", number))


def test_of_a_name_with_both_kinds_of_address_it_listens_at_the_one_that_edges_look_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = free_port()
    found = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", number, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", number)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
    with bind_udp(Endpoint("localhost", number)) as bound:
        assert bound.getsockname() == ("127.0.0.1", number)


def test_a_name_that_cannot_even_be_encoded_is_an_error_that_names_it() -> None:
    with pytest.raises(GradfecError, match=r"cannot listen on a{70}:9000: "):
        bind_udp(Endpoint(70 * "a", 9000))
