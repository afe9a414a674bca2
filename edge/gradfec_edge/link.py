"""The edge's UDP socket: paced sending, answers in, and the clock that drives the protocol core."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable

from gradfec_common.errors import GradfecError
from gradfec_common.session.edge import EdgeSession, Event, LinkLost
from gradfec_common.transmit import EncodedTensor
from gradfec_common.wire import Bytes, Drop, batch_of
from gradfec_edge.udp import Sender
from gradfec_host.console import Endpoint

MAX_DATAGRAM_READ_BYTES = 2048
SEND_BUFFER_BYTES = 4 * 2**20
PACING_INTERVAL_S = 0.001  # datagrams leave in bursts no closer than this: one burst a tick, never a spin
MOST_AT_ONCE = 256  # datagrams sealed before the loop may do something else: half a millisecond
RESOLVE_AGAIN_S = 5.0  # while the cloud is silent: it may have moved to another address

Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


def resolve(cloud: Endpoint) -> tuple[socket.AddressFamily, Address]:
    """Look the cloud's name up; GradfecError if it has no address. Blocks."""
    try:
        found = socket.getaddrinfo(cloud.host, cloud.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GradfecError(f"cannot reach {cloud}: {reason}; check the host name in --cloud") from None
    # `localhost` is ::1 first, but a server on all interfaces has IPv4 for certain and IPv6 only perhaps.
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, address


class Link:
    """A UDP socket to the cloud and the EdgeSession behind it, on the running event loop."""

    def __init__(
        self, cloud: Endpoint, session: EdgeSession, on_event: Callable[[Event], None], *, batched: bool = True
    ) -> None:
        """Prepare; `open` does the rest. `on_event` is called on the loop, for each event in order.

        `batched` may be False to send one datagram a call where the kernel could take more.
        """
        self.cloud = cloud
        self.session = session
        self.sent: Counter[str] = Counter()  # datagrams given to the kernel, by what they are
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._batched = batched
        self._socket: socket.socket | None = None
        self._sender: Sender | None = None
        self._address: Address = ("", 0)
        self._timer: asyncio.TimerHandle | None = None
        self._one_tensor_at_a_time = asyncio.Lock()
        self._resolver: asyncio.Task[None] | None = None
        self._room = asyncio.Event()  # the socket takes datagrams, or is another one

    async def open(self) -> None:
        """Resolve the cloud's name and start to look for it; GradfecError if that fails."""
        try:
            await self._connect()
        except OSError as error:
            raise GradfecError(f"cannot reach {self.cloud}: {error.strerror or error}") from None
        self._pump()

    @property
    def batched(self) -> bool:
        """Whether many datagrams go to the kernel in one call."""
        return self._sender is not None and self._sender.batched

    async def close(self) -> None:
        """Say goodbye, until the cloud has heard it, and close the socket."""
        self.session.leave(time.monotonic())
        self._pump()
        while not self.session.left:
            await asyncio.sleep(0.01)
        if self._timer:
            self._timer.cancel()
        if self._resolver:
            self._resolver.cancel()
        self._disconnect()

    async def send_tensor(self, encoded: EncodedTensor, duration_s: float, opened: Callable[[int], None]) -> None:
        """Send a tensor's datagrams in bursts spread over `duration_s`, after those of the tensor before it.

        `opened` is called with the tensor's number before its first datagram leaves. Returns quietly, `opened` not
        called, when the link is lost by the time that the tensor's turn has come.
        """
        async with self._one_tensor_at_a_time:
            if not self.session.connected:
                return
            number, bodies = self.session.open_tensor(encoded, time.monotonic(), duration_s)
            opened(number)
            self._pump()
            await self._send_paced(number, bodies, duration_s)

    async def _send_paced(self, tensor: int, bodies: Bytes, duration_s: float) -> None:
        """Seal and send a tensor's (m, bytes) bodies, spread over `duration_s`; the rest not once nobody awaits it."""
        start = time.monotonic()
        done = 0
        while done < len(bodies):
            elapsed = time.monotonic() - start
            share = (elapsed + PACING_INTERVAL_S) / duration_s if duration_s > 0 else 1.0
            due = min(int(share * len(bodies)) + 1, len(bodies))
            end = min(due, done + MOST_AT_ONCE)
            datagrams = self.session.seal(tensor, bodies[done:end])
            if datagrams is None:
                return
            while len(datagrams):
                count = self._send_symbols(datagrams)
                datagrams = datagrams[count:]
                if not count:
                    await self._writable()
            done = end
            if done < len(bodies):
                await asyncio.sleep(PACING_INTERVAL_S if done == due else 0)

    def _send_symbols(self, datagrams: Bytes) -> int:
        """Give the first of (m, bytes) datagrams to the kernel and count what became of them; 0 if it has no room."""
        if self._sender is None:
            self.sent["symbol_failed"] += len(datagrams)
            return len(datagrams)
        try:
            count, taken = self._sender.send(datagrams, self._address)
        except BlockingIOError:
            return 0
        self.sent["symbol" if taken else "symbol_failed"] += count
        return count

    def _send_control(self, datagram: bytes) -> None:
        """Give a control message to the kernel; one that it does not take is only counted: all are repeated."""
        try:
            if self._socket is None:
                raise OSError("closed")
            self._socket.sendto(datagram, self._address)
        except OSError:
            self.sent["control_failed"] += 1
        else:
            self.sent["control"] += 1

    async def _writable(self) -> None:
        """Wait until the socket takes datagrams again, or is another one."""
        waiting = self._socket
        if waiting is None:
            return
        self._room.clear()
        self._loop.add_writer(waiting.fileno(), self._room.set)
        try:
            await self._room.wait()
        finally:
            if self._socket is waiting:  # else it is closed, and its number may be another's already
                self._loop.remove_writer(waiting.fileno())

    def _pump(self) -> None:
        """Send what the core has to say, set the clock for its next timer, and hand on its events."""
        for datagram in self.session.datagrams_to_send():
            self._send_control(datagram)
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(self.session.next_timer() - time.monotonic(), 0), self._on_timer)
        while (event := self.session.next_event()) is not None:
            if isinstance(event, LinkLost) and (self._resolver is None or self._resolver.done()):
                self._resolver = self._loop.create_task(self._follow_name())
            self._on_event(event)

    def _on_timer(self) -> None:
        self.session.handle_timer(time.monotonic())
        self._pump()

    def _on_readable(self) -> None:
        datagrams = []
        for _ in range(256):
            if self._socket is None:
                break
            try:
                datagram, peer = self._socket.recvfrom(MAX_DATAGRAM_READ_BYTES)
            except OSError:
                break
            if peer == self._address:
                datagrams.append(datagram)
            else:
                self.session.counts[Drop.FOREIGN_ADDRESS.value] += 1
        if datagrams:
            self.session.receive(batch_of(datagrams, [None] * len(datagrams)), time.monotonic())
            self._pump()

    async def _connect(self) -> None:
        """Take the first address of the cloud's name, and a new socket if it is not the one already in use.

        The socket is not connected: the kernel would report each datagram that finds nobody there as an error of a
        later call, and libuv stops to watch a socket that has an error.
        """
        family, address = await asyncio.to_thread(resolve, self.cloud)
        if self._socket is not None and (address == self._address or self.session.connected):
            return
        new = socket.socket(family, socket.SOCK_DGRAM)
        try:
            new.setblocking(False)
            new.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            new.bind(("", 0))
        except OSError:
            new.close()
            raise
        self._disconnect()
        self._socket, self._address = new, address
        self._sender = Sender(new, batched=self._batched)
        self._loop.add_reader(new.fileno(), self._on_readable)

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._room.set()
            self._socket.close()
            self._socket = self._sender = None

    async def _follow_name(self) -> None:
        """While the cloud is silent, look its name up again from time to time."""
        while not self.session.connected:
            await asyncio.sleep(RESOLVE_AGAIN_S)
            if self.session.connected:
                return
            with contextlib.suppress(OSError, GradfecError):
                await self._connect()
