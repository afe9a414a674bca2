"""The kernel's buffers of a UDP socket."""

from __future__ import annotations

import contextlib
import socket
import sys

# From Linux's asm-generic/socket.h: beyond net.core.rmem_max and wmem_max, for the privileged.
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33


def grow_receive_buffer(opened: socket.socket, wanted_bytes: int) -> int:
    """Ask for a receive buffer, with privilege if the kernel caps it; return the bytes granted."""
    return _grown(opened, wanted_bytes, socket.SO_RCVBUF, SO_RCVBUFFORCE)


def grow_send_buffer(opened: socket.socket, wanted_bytes: int) -> int:
    """Ask for a send buffer, with privilege if the kernel caps it; return the bytes granted."""
    return _grown(opened, wanted_bytes, socket.SO_SNDBUF, SO_SNDBUFFORCE)


def _grown(opened: socket.socket, wanted_bytes: int, plain: int, force: int) -> int:
    for option in (plain, force):
        with contextlib.suppress(OSError):  # without the privilege, or not Linux
            opened.setsockopt(socket.SOL_SOCKET, option, wanted_bytes)
        granted = opened.getsockopt(socket.SOL_SOCKET, plain)
        granted //= 2 if sys.platform == "linux" else 1  # Linux doubles it, for its own overhead
        if granted >= wanted_bytes:
            break
    return granted
