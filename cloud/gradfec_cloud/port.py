"""The cloud's UDP socket: what it is bound to, its buffer, batches in and single datagrams out."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

from gradfec_cloud.receive import Receiver
from gradfec_common.wire import Batch
from gradfec_host.buffers import grow_receive_buffer
from gradfec_host.console import Endpoint
from gradfec_host.listen import bind_udp, dropped_by_kernel

RECEIVE_BUFFER_BYTES = 8 * 2**20
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")  # Linux: the most that SO_RCVBUF grants


class Port:
    """A bound, non-blocking UDP socket."""

    def __init__(self, listen: Endpoint, *, batched: bool = True) -> None:
        """Bind; GradfecError if that fails. Without a host, listen on all interfaces, IPv6 and IPv4.

        With `batched` False each system call reads one datagram, even if the kernel could hand over more.
        """
        self._socket = bind_udp(listen)
        self._receiver = Receiver(self._socket, batched=batched)
        self.receive_buffer_bytes = grow_receive_buffer(self._socket, RECEIVE_BUFFER_BYTES)

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
        """Datagrams that found the receive buffer full, as SO_RXQ_OVFL counts them; 0 if the kernel does not tell."""
        return dropped_by_kernel(self._socket)

    @property
    def batched(self) -> bool:
        """Whether a system call may read many datagrams."""
        return self._receiver.batched

    def receive(self) -> Batch | None:
        """Return a batch of waiting datagrams, valid until the next call, or None if none waits."""
        return self._receiver.receive()

    def send(self, datagram: bytes, peer: Hashable) -> bool:
        """Send one datagram; return False if the kernel refuses it."""
        try:
            self._socket.sendto(datagram, peer)  # type: ignore[call-overload]
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def small_buffer_hint(granted_bytes: int) -> str:
    """Explain what a receive buffer below RECEIVE_BUFFER_BYTES means, and how to raise the kernel's cap."""
    cap = f"net.core.rmem_max is {RMEM_MAX.read_text().strip()}" if RMEM_MAX.exists() else "the kernel caps it"
    return (
        f"the receive buffer has {granted_bytes} B, not the {RECEIVE_BUFFER_BYTES} B wanted, so the kernel will drop "
        f"datagrams that come in bursts: {cap}; raise it with sysctl -w net.core.rmem_max={RECEIVE_BUFFER_BYTES} and "
        "start again"
    )


def address_text(peer: Hashable) -> str:
    """Return an address as people write it: one of IPv4 as such, though a socket for both has it mapped to IPv6."""
    if not isinstance(peer, tuple):
        return str(peer)
    host, port = peer[:2]
    return str(Endpoint(host.removeprefix("::ffff:"), port))
