"""The loss injector's UDP sockets: addresses and buffers."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any, NamedTuple

from gradfec_common.errors import UsageError
from gradfec_host.buffers import grow_receive_buffer, grow_send_buffer
from gradfec_host.console import Endpoint

SOCKET_BUFFER_BYTES = 8 << 20


class Target(NamedTuple):
    """A resolved endpoint, for `socket.socket` and `connect`."""

    family: int
    address: tuple[Any, ...]


def refuse_loop(listen: Endpoint, target: Target) -> None:
    """Raise UsageError if every datagram would come straight back to the relay."""
    host, port = target.address[:2]
    if port == listen.port and (host == listen.host or (not listen.host and ip_address(host).is_loopback)):
        raise UsageError(f"--to and --listen are the same, port {port}: let the relay listen on another port")


def open_upstream(target: Target) -> socket.socket:
    """Open a non-blocking UDP socket connected to `target`, with its own port and large buffers; or OSError."""
    upstream = socket.socket(target.family, socket.SOCK_DGRAM)
    try:
        upstream.setblocking(False)
        enlarge_buffers(upstream)
        upstream.connect(target.address)
    except OSError:
        upstream.close()
        raise
    return upstream


def enlarge_buffers(opened: socket.socket) -> int:
    """Ask for SOCKET_BUFFER_BYTES each way; return the bytes of the receive buffer, which the system may limit."""
    grow_send_buffer(opened, SOCKET_BUFFER_BYTES)
    return grow_receive_buffer(opened, SOCKET_BUFFER_BYTES)
