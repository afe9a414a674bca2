"""Keeps the protocol core going: hands it datagrams and the time, and does what it asks for."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np

from gradfec_cloud.port import Port
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.events import Event
from gradfec_common.session.handshake import HELLO_BYTES, key_id_of
from gradfec_common.wire import MAGIC, MAX_DATAGRAM_BYTES, SEAL_BYTES, VERSION, Batch, Drop, Kind

TOLD_AGAIN_S = 60.0  # at most one warning in this time: of other versions, and of a host's unknown key
MOST_STRANGERS = 16  # hosts with unknown keys that are reported in this time, because addresses can be forged
READ_BEFORE_TIMER = 64  # batches: more than the receive buffer holds, and a bound under a flood
REST_S = 0.003  # between reads, in which paced datagrams gather: a batch costs less than each of them alone


class OtherVersion(NamedTuple):
    """A sender speaks another version of the protocol. The core says nothing to it, so a person must find out here."""

    version: int
    peer: Hashable


class UnknownKey(NamedTuple):
    """A sender has a key that the cloud does not have. The core says nothing to it, either."""

    key_id: bytes
    peer: Hashable


Stranger = OtherVersion | UnknownKey


class Driver:
    """Connects a core to its port and to the event loop."""

    def __init__(self, core: CloudSessions, port: Port, on_event: Callable[[Event | Stranger], None]) -> None:
        """Do nothing before `start`. `on_event` gets each of the core's events, and which strangers there are."""
        self.sent: Counter[str] = Counter()  # datagrams, `sent` and `failed`
        self._core, self._port, self._on_event = core, port, on_event
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None  # when that timer fires
        self._rest: asyncio.TimerHandle | None = None  # until the port is read again
        self._version_told_at = -math.inf
        self._strangers: dict[Hashable, float] = {}  # hosts with unknown keys, and when they were reported
        self._nothing_at_hand: asyncio.Future[None] | None = None  # while `finish` waits for it

    def discard(self) -> None:
        """Drop what waits at the port, as too late.

        An edge that has waited long has replaced most of its hellos, and can use no answer to those. Each would open a
        session that nobody uses.
        """
        for batch in itertools.islice(iter(self._port.receive, None), READ_BEFORE_TIMER):
            self._core.counts[Drop.LATE.value] += len(batch.lengths)

    def start(self) -> None:
        """Read the port whenever datagrams wait."""
        self._loop.add_reader(self._port.fileno(), self._on_readable)

    async def finish(self, within_s: float) -> None:
        """Take no new tensors. Wait until those at hand are answered and all answers are acknowledged."""
        self._nothing_at_hand = self._loop.create_future()
        self._core.leave()
        self.pump()
        await asyncio.wait([self._nothing_at_hand], timeout=within_s)

    def stop(self) -> None:
        """Say goodbye to all edges, and read the port no more."""
        self._loop.remove_reader(self._port.fileno())
        if self._rest:
            self._rest.cancel()
        self._core.say_goodbye()
        self.pump()
        if self._timer:
            self._timer.cancel()

    def pump(self) -> None:
        """Do what the core asks for: send datagrams, set its timer, and pass on its events."""
        for datagram, peer in self._core.datagrams_to_send():
            self.sent["sent" if self._port.send(datagram, peer) else "failed"] += 1
        due = self._core.next_timer()
        if due != self._due:  # most datagrams do not change the next timer
            if self._timer:
                self._timer.cancel()
            self._due = due
            self._timer = self._loop.call_later(max(due - time.monotonic(), 0), self._on_timer) if due else None
        while (event := self._core.next_event()) is not None:
            self._on_event(event)
        waited_for = self._nothing_at_hand
        if waited_for and not (waited_for.done() or self._core.open_tensors or self._core.unacknowledged):
            waited_for.set_result(None)

    def _on_readable(self) -> None:
        self._receive()
        more = self._receive()
        self.pump()
        if not more:
            self._loop.remove_reader(self._port.fileno())
            self._rest = self._loop.call_later(REST_S, self.start)

    def _on_timer(self) -> None:
        self._due = None
        for _ in range(READ_BEFORE_TIMER):  # datagrams that arrived in time must not count as late
            if not self._receive():
                break
        self._core.handle_timer(time.monotonic())
        self.pump()

    def _receive(self) -> bool:
        """Hand a batch of waiting datagrams to the core; return False if none waits."""
        batch = self._port.receive()
        if batch is not None:
            counts, (version, key) = self._core.counts, (Drop.UNKNOWN_VERSION.value, Drop.UNKNOWN_KEY.value)
            versions, keys = counts[version], counts[key]
            self._core.receive(batch, time.monotonic())
            if counts[version] > versions:
                self._tell_of_version(batch)
            if counts[key] > keys:
                self._tell_of_keys(batch)
        return batch is not None

    def _tell_of_version(self, batch: Batch) -> None:
        now = time.monotonic()
        if now >= self._version_told_at + TOLD_AGAIN_S:
            self._version_told_at = now
            has_version = (batch.lengths > SEAL_BYTES) & (batch.lengths <= MAX_DATAGRAM_BYTES)  # see `sort_batch`
            row = int(np.argmax(has_version & (batch.buffer[:, 0] == MAGIC) & (batch.buffer[:, 1] != VERSION)))
            self._on_event(OtherVersion(int(batch.buffer[row, 1]), batch.peer(row)))

    def _tell_of_keys(self, batch: Batch) -> None:
        now = time.monotonic()
        self._strangers = {host: at for host, at in self._strangers.items() if now < at + TOLD_AGAIN_S}
        is_hello = (batch.lengths == HELLO_BYTES) & (batch.buffer[:, :3] == (MAGIC, VERSION, Kind.HELLO)).all(axis=1)
        for row in np.flatnonzero(is_hello).tolist():
            if len(self._strangers) >= MOST_STRANGERS:
                return
            peer, key_id = batch.peer(row), key_id_of(batch.datagram(row).tobytes())
            host = peer[0] if isinstance(peer, tuple) else peer
            if key_id not in self._core.keys and host not in self._strangers:
                self._strangers[host] = now
                self._on_event(UnknownKey(key_id, peer))
