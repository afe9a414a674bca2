"""The address of an endpoint by its name."""

from __future__ import annotations

import errno
import socket

import pytest

from gradfec_common.errors import GradfecError
from gradfec_host.address import knock, resolve
from gradfec_host.console import Endpoint


def test_a_name_with_both_kinds_of_address_gives_the_ipv4_address(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 9000, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", 9000)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
    assert resolve(Endpoint("localhost", 9000)) == (socket.AF_INET, ("127.0.0.1", 9000))


def test_a_name_that_cannot_be_encoded_is_an_error_that_quotes_it() -> None:
    with pytest.raises(GradfecError, match=r"cannot reach a{70}:9000: .*check the host name in --cloud"):
        resolve(Endpoint(70 * "a", 9000))


def test_a_datagram_that_arrives_is_told_from_one_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        address = bound.getsockname()
        assert knock(socket.AF_INET, address, 0.05) == ""
        assert bound.recv(1) == b""
    assert knock(socket.AF_INET, address, 60.0) == "nothing listens there"

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert knock(socket.AF_INET, address, 60.0) == "Network is unreachable"
