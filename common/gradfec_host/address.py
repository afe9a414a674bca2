"""The address of an endpoint, looked up by its name, and whether datagrams to it arrive."""

from __future__ import annotations

import socket

from gradfec_common.errors import GradfecError
from gradfec_host.console import Endpoint

NOBODY = "nothing listens there"

Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


def resolve(endpoint: Endpoint, option: str = "--cloud") -> tuple[socket.AddressFamily, Address]:
    """Look up the host that an option names; GradfecError if it has no address. Blocks."""
    try:
        return look_up(endpoint)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GradfecError(f"cannot reach {endpoint}: {reason}; check the host name in {option}") from None


def look_up(endpoint: Endpoint) -> tuple[socket.AddressFamily, Address]:
    """Look up a host; OSError or UnicodeError if it has no address. Blocks."""
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)
    # `localhost` is ::1 first, but a server on all interfaces always has IPv4 and not always IPv6.
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, address


def knock(family: socket.AddressFamily, address: Address, within_s: float) -> str:
    """Send an empty datagram; return why it has not arrived, or "" if no error comes back within `within_s`. Blocks.

    The machine there, or a router on the way, answers with an ICMP message. The kernel turns it into an error of the
    next call on a socket that is connected to the address. The daemon's own socket is not connected, because libuv
    stops watching a socket that has an error.
    """
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.settimeout(within_s)
        try:
            probe.connect(address)
            probe.send(b"")
            probe.recv(1)
        except TimeoutError:
            return ""
        except OSError as error:
            return why_unreachable(error)
    return ""


def why_unreachable(error: OSError) -> str:
    """Say in words what the kernel reports of a datagram that has not arrived."""
    return NOBODY if isinstance(error, ConnectionRefusedError) else error.strerror or str(error)


def what_helps(endpoint: Endpoint, reason: str) -> str:
    """Say what to do if datagrams do not arrive."""
    return f"start it there: gradfec-cloud --listen {endpoint.port}" if reason == NOBODY else "check the network"
