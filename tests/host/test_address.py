"""The address of an endpoint by its name."""

from __future__ import annotations

import socket

import pytest

from gradfec_common.errors import GradfecError
from gradfec_host.address import resolve
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
