"""The loss injector's event loop: one listening socket, one upstream socket for each client, a `Channel` each way.

    client --> listening socket --> up   --> the client's upstream socket --> server
    client <-- listening socket <-- back <-- the client's upstream socket <-- server

So the server sees each client as a separate peer, just as without the relay.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from gradfec_cli.channel import Channel, ChannelSettings, Route, Totals
from gradfec_cli.loss_models import Mask, format_fates
from gradfec_cli.schedule import Step
from gradfec_cli.udp import Target, enlarge_buffers, open_upstream
from gradfec_common.errors import GradfecError
from gradfec_host.listen import dropped_by_kernel

DRAIN_DATAGRAMS = 256  # how many to read from one socket at a time, so that no socket starves the others
LONGEST_DATAGRAM_BYTES = 65_535
CLIENT_IDLE_S = 60.0
TIMER_STEP_S = 0.001  # the event loop's resolution
RECORD_LINE_CHARACTERS = 100


@dataclass(eq=False)
class Client:
    """A peer on the listening side, and its socket on the server's side."""

    address: tuple[Any, ...]
    upstream: socket.socket
    seen_at: float


class LossRecord:
    """A file that records which datagrams the loss model lost, for --trace."""

    def __init__(self, path: Path) -> None:
        """Start an empty file; GradfecError if it cannot be written."""
        self._path = path
        self._line = ""
        try:
            self._file = path.open("w", encoding="ascii")
            self._file.write("# gradfec-netem loss trace: 0 delivered, 1 lost\n")
        except OSError as error:
            raise self._failure(error) from None

    def write(self, lost: Mask) -> None:
        """Append fates; GradfecError if that fails."""
        fates = self._line + format_fates(lost)
        whole = len(fates) - len(fates) % RECORD_LINE_CHARACTERS
        self._line = fates[whole:]
        try:
            for start in range(0, whole, RECORD_LINE_CHARACTERS):
                self._file.write(fates[start : start + RECORD_LINE_CHARACTERS] + "\n")
        except OSError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """Write the rest; GradfecError if that fails."""
        try:
            with self._file:
                self._file.write(self._line + "\n")
        except OSError as error:
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> GradfecError:
        return GradfecError(f"cannot write the loss record {self._path}: {error.strerror}")


class Way(Generic[Route]):
    """One direction: a channel in real time, a timer that empties it, and a function that sends its datagrams."""

    def __init__(self, channel: Channel[Route], record: LossRecord | None) -> None:
        self.totals = channel.totals
        self._channel = channel
        self._record = record
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def connect(self, send: Callable[[Route, bytes], bool]) -> None:
        """Set the function that sends a datagram and returns whether the kernel took it."""
        self._send = send

    def change(self, settings: ChannelSettings) -> None:
        """Treat the datagrams that come from now on by other settings."""
        self._channel.change(settings)

    def push(self, batch: list[tuple[Route, bytes]], now: float) -> None:
        """Put datagrams into the channel, and send those that come out at once."""
        lost = self._channel.send(batch, now)
        if self._record is not None:
            self._record.write(lost)
        self._pull(now)

    def close(self) -> None:
        """Stop; datagrams in flight stay there, and are counted so."""
        if self._timer is not None:
            self._timer.cancel()
        if self._record is not None:
            self._record.close()

    def _pull(self, now: float) -> None:
        unsent = sum(not self._send(client, payload) for client, payload in self._channel.deliver(now))
        self.totals.delivered -= unsent
        self.totals.dropped_send += unsent
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        due_at = self._channel.next_timer()
        if self._timer is not None:
            if due_at == self._timer_at:
                return
            self._timer.cancel()
            self._timer = None
        if due_at is not None:
            self._timer_at = due_at
            self._timer = asyncio.get_running_loop().call_later(max(TIMER_STEP_S, due_at - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pull(time.monotonic())


class Schedule:
    """Changes both directions of a link step by step, from the first datagram on."""

    def __init__(self, steps: Sequence[Step], up: Way[Any], back: Way[Any]) -> None:
        """Wait for `start`."""
        self._steps, self._up, self._back = steps, up, back
        self._timers: list[asyncio.TimerHandle] = []

    def start(self) -> None:
        """Set the clock going, unless it is."""
        if not self._timers:
            loop = asyncio.get_running_loop()
            self._timers = [loop.call_later(step.at_s, self._take, step) for step in self._steps]

    def stop(self) -> None:
        """Take no more steps."""
        for timer in self._timers:
            timer.cancel()

    def _take(self, step: Step) -> None:
        self._up.change(step.up)
        self._back.change(step.back)


class Relay:
    """The sockets and both directions. Call `start`, then `wait` until it returns True, then `close`."""

    def __init__(
        self,
        listener: socket.socket,
        target: Target,
        up: Way[Client],
        back: Way[Client],
        max_clients: int,
        steps: Sequence[Step] = (),
    ) -> None:
        """Take a bound non-blocking socket, and the server's address."""
        self._listener = listener
        self._target = target
        self.up, self.back = up, back
        self._schedule = Schedule(steps, up, back)
        self._max_clients = max_clients
        self._clients: dict[tuple[Any, ...], Client] = {}
        self._kernel_drops: dict[socket.socket, int] = {}
        self._buffer = memoryview(bytearray(LONGEST_DATAGRAM_BYTES))
        self._stopped = asyncio.Event()
        self._started_at = 0.0
        self._failure: GradfecError | None = None
        up.connect(self._send_up)
        back.connect(self._send_back)

    def start(self) -> int:
        """Relay until SIGINT or SIGTERM; return the size of the listening socket's receive buffer in bytes."""
        loop = asyncio.get_running_loop()
        for stop in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(stop, self._stopped.set)
        loop.add_reader(self._listener, self._on_listener_readable)
        self._started_at = time.monotonic()
        return enlarge_buffers(self._listener)

    async def wait(self, seconds: float) -> bool:
        """Relay for a while, then update the totals; return whether the relay was stopped."""
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except asyncio.TimeoutError:
            self._forget_idle_clients()
        self._count_kernel_drops(self._listener, self.up.totals)
        for client in self._clients.values():
            self._count_kernel_drops(client.upstream, self.back.totals)
        return self._stopped.is_set()

    def elapsed_s(self) -> float:
        """Return the seconds since `start`."""
        return time.monotonic() - self._started_at

    def close(self) -> None:
        """Close everything; raise the GradfecError that stopped the relay, if one did."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self._schedule.stop()
        for client in list(self._clients.values()):
            self._forget(client)
        try:
            self.up.close()
        finally:
            self.back.close()
        if self._failure is not None:
            raise self._failure

    def _on_listener_readable(self) -> None:
        now = time.monotonic()
        batch: list[tuple[Client, bytes]] = []
        with suppress(OSError):  # BlockingIOError: all read
            for _ in range(DRAIN_DATAGRAMS):
                size, address = self._listener.recvfrom_into(self._buffer)
                client = self._clients.get(address) or self._admit(address)
                if client is None:
                    self.up.totals.received += 1
                    self.up.totals.dropped_clients += 1
                else:
                    client.seen_at = now
                    batch.append((client, bytes(self._buffer[:size])))
        self._push(self.up, batch, now)

    def _on_upstream_readable(self, client: Client) -> None:
        now = client.seen_at = time.monotonic()
        batch: list[tuple[Client, bytes]] = []
        try:
            for _ in range(DRAIN_DATAGRAMS):
                size = client.upstream.recv_into(self._buffer)
                batch.append((client, bytes(self._buffer[:size])))
        except BlockingIOError:  # all read
            pass
        except OSError as error:  # instead of a datagram; others behind it will wake us again
            self._note_report(client, error)
        self._push(self.back, batch, now)

    def _push(self, way: Way[Client], batch: list[tuple[Client, bytes]], now: float) -> None:
        try:
            if batch:
                self._schedule.start()
                way.push(batch, now)
        except GradfecError as error:  # a full disk; an exception in a callback would be lost
            self._failure = error
            self._stopped.set()

    def _send_up(self, client: Client, payload: bytes) -> bool:
        try:
            client.upstream.send(payload)
        except BlockingIOError:  # no room in the socket's buffer
            return False
        except OSError as error:  # most likely about an earlier datagram, so this one is not sent yet
            return self._note_report(client, error) and self._send_again(client, payload)
        return True

    def _send_again(self, client: Client, payload: bytes) -> bool:
        with suppress(OSError):
            client.upstream.send(payload)
            return True
        return False

    def _note_report(self, client: Client, error: OSError) -> bool:
        """Handle an ICMP error about an earlier datagram; False if the client has been forgotten since."""
        self.up.totals.refused += isinstance(error, ConnectionRefusedError)
        if client.upstream.fileno() < 0:
            return False
        # libuv silently stops watching a socket with such an error. Without this, the relay would never read a reply
        # again after the server has been away.
        loop = asyncio.get_running_loop()
        loop.remove_reader(client.upstream)
        loop.add_reader(client.upstream, self._on_upstream_readable, client)
        return True

    def _send_back(self, client: Client, payload: bytes) -> bool:
        try:
            self._listener.sendto(payload, client.address)
        except OSError:
            return False
        return True

    def _admit(self, address: tuple[Any, ...]) -> Client | None:
        """Open an upstream socket for a new client; None if the table is full or the system refuses."""
        if len(self._clients) >= self._max_clients:
            return None
        try:
            upstream = open_upstream(self._target)
        except OSError:
            return None
        client = self._clients[address] = Client(address, upstream, time.monotonic())
        asyncio.get_running_loop().add_reader(upstream, self._on_upstream_readable, client)
        return client

    def _forget_idle_clients(self) -> None:
        now = time.monotonic()
        for client in [c for c in self._clients.values() if now - c.seen_at > CLIENT_IDLE_S]:
            self._forget(client)

    def _forget(self, client: Client) -> None:
        self._count_kernel_drops(client.upstream, self.back.totals)
        del self._clients[client.address], self._kernel_drops[client.upstream]
        asyncio.get_running_loop().remove_reader(client.upstream)
        client.upstream.close()

    def _count_kernel_drops(self, sock: socket.socket, totals: Totals) -> None:
        """Count overflows since the last time; these datagrams arrived, so they count as received."""
        dropped = dropped_by_kernel(sock)
        new = dropped - self._kernel_drops.get(sock, 0)
        self._kernel_drops[sock] = dropped
        totals.received += new
        totals.dropped_kernel += new
