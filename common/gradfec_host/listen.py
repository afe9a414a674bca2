"""A UDP port to listen on, and what the kernel dropped there."""

from __future__ import annotations

import errno
import socket
import struct

from gradfec_common.errors import GradfecError
from gradfec_host.address import Address, look_up
from gradfec_host.console import Endpoint

SO_MEMINFO = 55  # Linux: nine counters of a socket's memory, the last one of datagrams that found no room
MEMINFO = struct.Struct("=9I")


def bind_udp(listen: Endpoint) -> socket.socket:
    """Bind a non-blocking socket to --listen; without a host, to all interfaces, IPv6 and IPv4. GradfecError."""
    hosts = [listen.host] if listen.host else ["::", "0.0.0.0"]
    for host in hosts:
        try:
            family, address = look_up(Endpoint(host, listen.port))
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise GradfecError(f"cannot listen on {listen}: {reason}; use an address of this machine") from None
        try:
            return _bound(family, address, dual_stack=not listen.host)
        except OSError as error:  # a machine without IPv6 still has 0.0.0.0
            if error.errno == errno.EADDRINUSE or host is hosts[-1]:
                raise GradfecError(_why_not(listen, error)) from None
    raise AssertionError("the last host either binds or raises")


def dropped_by_kernel(opened: socket.socket) -> int:
    """Return how many datagrams found a socket's receive buffer full since it was opened; 0 if the kernel can't tell.

    This reads the counter that SO_RXQ_OVFL (socket(7)) would send along with the next datagram.
    """
    try:
        counters = opened.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size)
    except OSError:  # not Linux, or before 4.12
        return 0
    return int(MEMINFO.unpack(counters)[-1]) if len(counters) == MEMINFO.size else 0


def _bound(family: socket.AddressFamily, address: Address, *, dual_stack: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6 and dual_stack:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setblocking(False)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _why_not(listen: Endpoint, error: OSError) -> str:
    where = f"UDP port {listen.port}" + (f" of {listen.host}" if listen.host else "")
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where} is in use already: stop the other program, or choose another --listen"
        case errno.EACCES:
            return f"{where} needs privileges: choose a port above 1023"
        case errno.EADDRNOTAVAIL:
            return f"{where}: that address is not of this machine; choose another --listen"
    return f"cannot listen on {where}: {error.strerror}"
