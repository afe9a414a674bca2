"""The loss injector's UDP sockets: addresses and buffers."""

from __future__ import annotations

import contextlib
import socket
import sys
from ipaddress import ip_address
from typing import Any, NamedTuple

from gradfec_common.errors import UsageError
from gradfec_host.console import Endpoint

SOCKET_BUFFER_BYTES = 8 << 20

# From Linux's asm-generic/socket.h; Python's socket module does not name them.
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33


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


def enlarge_buffers(sock: socket.socket) -> int:
    """Ask for SOCKET_BUFFER_BYTES each way; return the receive buffer's size, which the system may limit."""
    _set_buffer(sock, SO_RCVBUFFORCE, socket.SO_RCVBUF)
    _set_buffer(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF)
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return granted // 2 if sys.platform == "linux" else granted  # Linux reports double, to include its overhead


def _set_buffer(sock: socket.socket, force: int, ask: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # exceeding the system's limit needs CAP_NET_ADMIN
            sock.setsockopt(socket.SOL_SOCKET, force, SOCKET_BUFFER_BYTES)
            return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, ask, SOCKET_BUFFER_BYTES)
