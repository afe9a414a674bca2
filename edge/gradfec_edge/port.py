"""The edge's UDP socket."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable

from gradfec_common.wire import Bytes, Kind
from gradfec_edge.udp import Sender
from gradfec_host.address import Address

MAX_DATAGRAM_READ_BYTES = 2048
MOST_READ = 256  # datagrams in one call of `receive`
SEND_BUFFER_BYTES = 4 * 2**20

SYMBOL = bytes([Kind.SYMBOL])  # the third byte of a datagram with symbols


class Port:
    """A UDP socket that exchanges datagrams with one address. Before `use` and after `close`, it has neither.

    The socket is not connected. The kernel reports a datagram that could not be delivered as an error of a later call
    on a connected socket, and libuv stops watching a socket that has an error.
    """

    def __init__(self, on_readable: Callable[[], None], *, batched: bool) -> None:
        """Prepare. The event loop calls `on_readable` when there is something to `receive`.

        With `batched` False, each datagram has its own system call.
        """
        self.address: Address | None = None
        self.sent: Counter[str] = Counter()  # datagrams given to the kernel, by kind
        self.sent_bytes: Counter[str] = Counter()  # of UDP payload that the kernel took, by kind
        self.foreign = 0  # datagrams received from other addresses
        self._on_readable, self._may_batch = on_readable, batched
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._sender: Sender | None = None
        self._room: asyncio.Future[None] | None = None  # done when the socket takes datagrams again, or is replaced

    @property
    def batched(self) -> bool:
        """Whether many datagrams go to the kernel in one call, or may do so once there is an address."""
        return self._sender.batched if self._sender else self._may_batch

    def use(self, family: socket.AddressFamily, address: Address) -> None:
        """Use `address`, through a new socket; OSError if there is none to be had."""
        new = socket.socket(family, socket.SOCK_DGRAM)
        try:
            new.setblocking(False)
            new.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            new.bind(("", 0))
        except OSError:
            new.close()
            raise
        self.close()
        self._socket, self.address = new, address
        self._sender = Sender(new, batched=self._may_batch)
        self._loop.add_reader(new.fileno(), self._on_readable)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = self._sender = self.address = None
            self._has_room()

    def receive(self) -> list[bytes]:
        """Return the datagrams that have come from the address, MOST_READ at most."""
        datagrams: list[bytes] = []
        for _ in range(MOST_READ):
            if self._socket is None:
                break
            try:
                datagram, peer = self._socket.recvfrom(MAX_DATAGRAM_READ_BYTES)
            except OSError:
                break
            if peer == self.address:
                datagrams.append(datagram)
            else:
                self.foreign += 1
        return datagrams

    def send_now(self, datagram: bytes) -> None:
        """Send a control message, or a symbol that was asked for. If the kernel does not take it, count that."""
        kind = "symbol" if datagram[2:3] == SYMBOL else "control"
        try:
            if self._socket is None or self.address is None:
                raise OSError("closed")
            self._socket.sendto(datagram, self.address)
        except OSError:
            self.sent[f"{kind}_failed"] += 1
        else:
            self.sent[kind] += 1
            self.sent_bytes[kind] += len(datagram)

    async def send_symbols(self, datagrams: Bytes) -> None:
        """Send (m, bytes) datagrams, and wait whenever the kernel has no room for more."""
        while len(datagrams):
            if self._sender is None or self.address is None:
                self.sent["symbol_failed"] += len(datagrams)
                return
            try:
                count, taken = self._sender.send(datagrams, self.address)
            except BlockingIOError:
                await self._until_room()
                continue
            self.sent["symbol" if taken else "symbol_failed"] += count
            if taken:
                self.sent_bytes["symbol"] += count * datagrams.shape[1]
            datagrams = datagrams[count:]

    async def _until_room(self) -> None:
        waiting = self._socket
        if waiting is None:
            return
        self._room = self._loop.create_future()
        self._loop.add_writer(waiting.fileno(), self._has_room)
        try:
            await self._room
        finally:
            if self._socket is waiting:  # if not, it is closed, and another file may have its number
                self._loop.remove_writer(waiting.fileno())

    def _has_room(self) -> None:
        if self._room and not self._room.done():
            self._room.set_result(None)
