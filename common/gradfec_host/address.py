"""The address of an endpoint, looked up by its name."""

from __future__ import annotations

import socket

from gradfec_common.errors import GradfecError
from gradfec_host.console import Endpoint

Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


def resolve(endpoint: Endpoint, option: str = "--cloud") -> tuple[socket.AddressFamily, Address]:
    """Look up the host that an option names; GradfecError if it has no address. Blocks."""
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GradfecError(f"cannot reach {endpoint}: {reason}; check the host name in {option}") from None
    # `localhost` is ::1 first, but a server on all interfaces always has IPv4 and not always IPv6.
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, address
