"""The edge's link to its cloud: the protocol core, the socket that serves it, and the clock that drives it.

While no cloud answers, the link looks up the cloud's name again and again, because the cloud may have moved to another
address, and asks the kernel whether datagrams arrive there.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from gradfec_common.errors import GradfecError
from gradfec_common.session.edge import EdgeSession, Event, LinkLost
from gradfec_common.transmit import EncodedTensor
from gradfec_common.wire import Bytes, Drop, batch_of
from gradfec_edge.condition import Condition
from gradfec_edge.pacing import INTERVAL_S, due
from gradfec_edge.port import Port
from gradfec_host.address import Address, knock, resolve, what_helps
from gradfec_host.console import Endpoint

MOST_AT_ONCE = 256  # datagrams sealed before the loop may do something else: half a millisecond
KNOCK_AFTER_S = 0.3  # without an answer
KNOCK_S = 0.5  # for an ICMP message to come back
LOOK_AGAIN_S = 5.0


class OpenTensor(NamedTuple):
    """A tensor that has a number in a session: `bodies` (m, bytes) to be sent, spread over `spread_s` seconds.

    `left` gets (count, when): how many had left by when, of time.monotonic().
    """

    session: int
    number: int
    bodies: Bytes
    spread_s: float
    left: list[tuple[int, float]]


class Link:
    """An EdgeSession on the running event loop."""

    def __init__(
        self,
        cloud: Endpoint,
        session: EdgeSession,
        on_event: Callable[[Event], None],
        *,
        on_trouble: Callable[[str], object] = str,
        batched: bool = True,
    ) -> None:
        """Prepare; `open` does the rest. `on_event` gets each of the core's events, in order, on the loop.

        While no cloud answers, `on_trouble` is told why, as far as resolver and kernel know; "" if they do not. With
        `batched` False, each datagram has its own system call.
        """
        self.cloud = cloud
        self.session = session
        self._on_event, self._on_trouble = on_event, on_trouble
        self._port = Port(self._on_readable, batched=batched)
        self._pumped = Condition()  # notified whenever the core may have changed
        self._timer: asyncio.TimerHandle | None = None
        self._seeker: asyncio.Task[None] | None = None  # while no cloud answers

    @property
    def batched(self) -> bool:
        """Whether many datagrams go to the kernel in one call."""
        return self._port.batched

    @property
    def sent(self) -> Counter[str]:
        """Datagrams given to the kernel, by kind."""
        return self._port.sent

    @property
    def sent_bytes(self) -> Counter[str]:
        """Bytes of UDP payload given to the kernel, by kind."""
        return self._port.sent_bytes

    @property
    def received(self) -> Counter[str]:
        """Datagrams received, by kind or reason for dropping."""
        return self.session.counts + Counter({Drop.FOREIGN_ADDRESS.value: self._port.foreign})

    async def open(self) -> None:
        """Start to look for the cloud."""
        with contextlib.suppress(OSError, GradfecError):  # `_seek` tries again, and tells
            await self._connect()
        self._pump()
        self._seeker = asyncio.create_task(self._seek())

    def open_tensor(
        self, encoded: EncodedTensor, spread_s: float, first_tensor: int | None = None
    ) -> OpenTensor | None:
        """Give a tensor its number, to be followed by `send` at once; None if the link is lost.

        For a second look, the frame's `first_tensor` has that number; None, too, if that is too long ago, or was in
        another session.
        """
        if not self.session.connected or (first_tensor is not None and not self.session.may_look_again(first_tensor)):
            return None
        number, bodies = self.session.open_tensor(encoded, time.monotonic(), spread_s, first_tensor)
        return OpenTensor(self.session.session, number, bodies, spread_s, [])

    async def send(self, tensor: OpenTensor) -> None:
        """Seal and send a tensor's datagrams as they are due. Stop early if its answer is no longer awaited."""
        self._pump()
        start, done, count = time.monotonic(), 0, len(tensor.bodies)
        while done < count:
            until = due(time.monotonic() - start, tensor.spread_s, count)
            end = min(until, done + MOST_AT_ONCE)
            datagrams = self.session.seal(tensor.number, tensor.bodies[done:end])
            if datagrams is None:
                return
            await self._port.send_symbols(datagrams)
            done = end
            tensor.left.append((done, time.monotonic()))
            if done < count:
                await asyncio.sleep(INTERVAL_S if done == until else 0)

    async def until_all_closed(self) -> None:
        """Wait until every open tensor is answered or given up."""
        await self._pumped.wait_for(lambda: not self.session.open_tensors)

    async def close(self) -> None:
        """Say goodbye until the cloud has heard it, then close the socket."""
        self.session.leave(time.monotonic())
        self._pump()
        await self._pumped.wait_for(lambda: self.session.left)
        if self._timer:
            self._timer.cancel()
        if self._seeker:
            self._seeker.cancel()
        self._port.close()

    def _pump(self) -> None:
        """Send the core's datagrams, set the clock for its next timer, and pass on its events."""
        for datagram in self.session.datagrams_to_send():
            self._port.send_now(datagram)
        if self._timer:
            self._timer.cancel()
        due_in_s = max(self.session.next_timer() - time.monotonic(), 0)
        self._timer = asyncio.get_running_loop().call_later(due_in_s, self._on_timer)
        self._pumped.notify()
        while (event := self.session.next_event()) is not None:
            if isinstance(event, LinkLost) and (self._seeker is None or self._seeker.done()):
                self._seeker = asyncio.create_task(self._seek())
            self._on_event(event)

    def _on_timer(self) -> None:
        self.session.handle_timer(time.monotonic())
        self._pump()

    def _on_readable(self) -> None:
        if datagrams := self._port.receive():
            self.session.receive(batch_of(datagrams, [None] * len(datagrams)), time.monotonic())
            self._pump()

    async def _connect(self) -> tuple[socket.AddressFamily, Address]:
        """Look up the cloud's name, and use its address, unless that is in use already; return the address."""
        family, address = await asyncio.to_thread(resolve, self.cloud)
        if address != self._port.address and not self.session.connected:
            self._port.use(family, address)
        return family, address

    async def _seek(self) -> None:
        """Follow the cloud's name until the link is connected, and tell what is wrong."""
        while not await self._pumped.wait_for(lambda: self.session.connected, KNOCK_AFTER_S):
            self._on_trouble(await self._trouble())
            await self._pumped.wait_for(lambda: self.session.connected, LOOK_AGAIN_S)

    async def _trouble(self) -> str:
        """Return why datagrams do not arrive; "" if that is not known."""
        try:
            family, address = await self._connect()
        except GradfecError as error:
            return str(error)
        except OSError as error:
            return f"cannot reach {self.cloud}: {error.strerror or error}"
        reason = await asyncio.to_thread(knock, family, address, KNOCK_S)
        return f"cannot reach {self.cloud}: {reason}; {what_helps(self.cloud, reason)}" if reason else ""
