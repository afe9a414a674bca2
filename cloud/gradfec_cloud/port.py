"""The cloud's UDP socket: datagrams in by batches into one reused buffer, single datagrams out."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Hashable

import numpy as np

from gradfec_common.console import Endpoint
from gradfec_common.errors import GradfecError
from gradfec_common.wire import Batch

BATCH = 256
WIDTH_BYTES = 2048  # longer datagrams are cut off: they are longer than the protocol allows, and counted as that
RECEIVE_BUFFER_BYTES = 8 * 2**20
SO_MEMINFO = 55  # Linux: nine counters of a socket's memory, the last of them the datagrams that it had no room for
MEMINFO = struct.Struct("=9I")
SO_RCVBUFFORCE = 33  # Linux: the receive buffer beyond net.core.rmem_max, for the privileged


class Port:
    """A bound, non-blocking UDP socket."""

    def __init__(self, listen: Endpoint) -> None:
        """Bind; GradfecError, in plain words, if that is not possible. No host: all interfaces, IPv6 and IPv4."""
        self._socket = _bind(listen)
        self._socket.setblocking(False)
        self._buffer = np.empty((BATCH, WIDTH_BYTES), np.uint8)
        self._rows = [memoryview(row) for row in self._buffer]  # type: ignore[arg-type]
        self.receive_buffer_bytes = self._grow_receive_buffer()

    def fileno(self) -> int:
        """Return the file descriptor, to wait on."""
        return self._socket.fileno()

    @property
    def address(self) -> Endpoint:
        """The address bound to."""
        host, port = self._socket.getsockname()[:2]
        return Endpoint(host, port)

    @property
    def kernel_drops(self) -> int:
        """Datagrams that found the receive buffer full; 0 where the kernel does not tell."""
        return dropped_by_kernel(self._socket)

    def receive(self) -> Batch | None:
        """Take up to 256 waiting datagrams, or None; the batch is valid until the next call."""
        lengths: list[int] = []
        peers: list[Hashable] = []
        receive = self._socket.recvfrom_into
        for row in self._rows:
            try:
                length, peer = receive(row)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error of an answer: that edge has gone
            lengths.append(length)
            peers.append(peer)
        return Batch(self._buffer[: len(lengths)], np.array(lengths, np.intp), peers) if lengths else None

    def send(self, datagram: bytes, peer: Hashable) -> bool:
        """Send one datagram; False if the kernel does not take it."""
        try:
            self._socket.sendto(datagram, peer)  # type: ignore[call-overload]
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _grow_receive_buffer(self) -> int:
        """Ask for a buffer that holds several tensors and return what was granted, in bytes."""
        wishes = ((socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES), (SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES))
        for option, value in wishes:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, option, value)
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # Linux reports twice the value


def dropped_by_kernel(opened: socket.socket) -> int:
    """Return how many datagrams found a socket's receive buffer full since it was opened; 0 where unknowable."""
    try:
        counters = opened.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size)
    except OSError:  # not Linux, or before 4.12
        return 0
    return int(MEMINFO.unpack(counters)[-1]) if len(counters) == MEMINFO.size else 0


def _bind(listen: Endpoint) -> socket.socket:
    hosts = [listen.host] if listen.host else ["::", "0.0.0.0"]
    for host in hosts:
        try:
            family, kind, proto, _, address = socket.getaddrinfo(
                host, listen.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
            )[0]
            bound = socket.socket(family, kind, proto)
        except (socket.gaierror, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise GradfecError(f"cannot listen on {listen}: {reason}; use an address of this machine") from None
        except OSError as error:
            if host is hosts[-1]:
                raise GradfecError(_why_not(listen, error)) from None
            continue  # a machine without IPv6
        try:
            if family == socket.AF_INET6 and not listen.host:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            bound.bind(address)
            return bound
        except OSError as error:
            bound.close()
            if error.errno == errno.EADDRINUSE or host is hosts[-1]:
                raise GradfecError(_why_not(listen, error)) from None
    raise AssertionError("unreachable")


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
