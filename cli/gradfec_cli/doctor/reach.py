"""Check whether a cloud answers, and how well: open a session with the edge's own protocol core, and send pings."""

from __future__ import annotations

import math
import os
import socket
import time
from dataclasses import dataclass, field
from statistics import median

from gradfec_cli.doctor.finding import Finding, broken, ok, warning
from gradfec_common.errors import GradfecError
from gradfec_common.networks import Cut
from gradfec_common.protect import NoProtection
from gradfec_common.session.edge import EdgeLimits, EdgeSession, LinkLost, Refused, new_hello
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.wire import batch_of
from gradfec_edge.advice import protection_for
from gradfec_host.address import Address, resolve, what_helps, why_unreachable
from gradfec_host.console import Endpoint
from gradfec_host.logs import printable
from gradfec_host.processor import preferred_cipher
from gradfec_host.recent import percent

PATIENCE_S = 5.0  # for the first answer: five hellos
PING_EVERY_S = 0.05
PING_TIMEOUT_S = 1.0  # a ping without an answer by then is lost
# One ping at a time, so that each answer belongs to the last one. Hellos repeat at the same interval.
LIMITS = EdgeLimits(
    keepalive_s=PING_EVERY_S,
    probe_after_s=PING_TIMEOUT_S,
    repeat_s=PING_TIMEOUT_S,
    repeat_max_s=PING_TIMEOUT_S,
    lost_after_s=math.inf,
    bye_patience_s=0.5,
)
ROWS = 1  # a packet; this fits any cut's tensor


@dataclass
class Visit:
    """The result of a visit to a cloud."""

    entered: bool = False
    pings: int = 0
    round_trips_s: list[float] = field(default_factory=list)
    refusal: str = ""  # the cloud's own words
    failure: str = ""  # an error from this machine, or from one on the way

    @property
    def authentic(self) -> bool:
        """Whether a cloud with the key has answered, even if it refused."""
        return self.entered or bool(self.refusal)


def visit(
    family: socket.AddressFamily,
    address: Address,
    key: HandshakeKey,
    cut: Cut,
    pings: int,
    patience_s: float = PATIENCE_S,
) -> Visit:
    """Open a session, send `pings` pings, and leave."""
    hello = new_hello(cut, ROWS, "gradfec doctor", preferred_cipher())
    with socket.socket(family, socket.SOCK_DGRAM) as opened:
        try:
            opened.connect(address)  # so that the kernel reports if nobody listens there
            session = EdgeSession(hello, cut.network.head, key, os.urandom, time.monotonic(), LIMITS)
            return Caller(opened, session).call(pings, patience_s)
        except OSError as error:
            return Visit(failure=why_unreachable(error))


class Caller:
    """An EdgeSession on a connected, blocking socket."""

    def __init__(self, opened: socket.socket, session: EdgeSession) -> None:
        self._socket, self._session = opened, session
        self._visit = Visit()
        self._asked_at = 0.0

    def call(self, pings: int, patience_s: float) -> Visit:
        """Do the whole visit; OSError if a datagram cannot be sent."""
        visit, session = self._visit, self._session
        until = time.monotonic() + patience_s
        while not visit.refusal and len(visit.round_trips_s) < pings:
            due = session.datagrams_to_send()
            if session.connected and due:
                if visit.pings == pings:
                    break  # the last one was lost
                visit.entered, visit.pings, self._asked_at = True, visit.pings + 1, time.monotonic()
            elif not visit.entered and time.monotonic() >= until:
                break
            self._turn(due)
        session.leave(time.monotonic())
        while not session.left:
            self._turn(session.datagrams_to_send())
        return visit

    def _turn(self, due: list[bytes]) -> None:
        """Send what is due, then wait for a datagram or the session's timer."""
        for datagram in due:
            self._socket.send(datagram)
        self._socket.settimeout(max(self._session.next_timer() - time.monotonic(), 0.001))
        try:
            datagram = self._socket.recv(2048)
        except TimeoutError:
            self._session.handle_timer(time.monotonic())
            return
        now, pongs = time.monotonic(), self._session.counts["pong"]
        self._session.receive(batch_of([datagram], [None]), now)
        if self._session.counts["pong"] > pongs and len(self._visit.round_trips_s) < self._visit.pings:
            self._visit.round_trips_s.append(now - self._asked_at)
        while (event := self._session.next_event()) is not None:
            if isinstance(event, Refused):
                self._visit.refusal = printable(event.detail)
            elif isinstance(event, LinkLost) and event.leaving and not self._session.left:
                self._visit.refusal = "it is shutting down"


def cloud(where: Endpoint, key: HandshakeKey, cut: Cut, pings: int) -> Finding:
    """Visit a cloud, and return the finding."""
    try:
        family, address = resolve(where)
    except GradfecError as error:
        return broken(str(error))
    return judge(where, key, visit(family, address, key, cut, pings))


def has_cloud(where: Endpoint, key: HandshakeKey, cut: Cut) -> bool:
    """Return whether a cloud with the key answers."""
    return visit(*resolve(where), key, cut, pings=1, patience_s=2 * PING_TIMEOUT_S).authentic


def judge(where: Endpoint, key: HandshakeKey, visit: Visit) -> Finding:
    """Turn a visit into a finding."""
    if visit.failure:
        return broken(f"cannot reach {where}: {visit.failure}", what_helps(where, visit.failure))
    if visit.refusal:
        return broken(f"{where} refuses this edge: {visit.refusal}")
    if not visit.entered:
        same = "also runs with --insecure" if key.insecure else f"has the key {key.id.hex()} (strangers get no reply)"
        return broken(
            f"no answer from {where}",
            f"check that gradfec-cloud, of this release, runs there, that it {same}, and that firewalls let UDP "
            f"through to port {where.port}",
        )
    lost = visit.pings - len(visit.round_trips_s)
    facts: dict[str, object] = {"pings": visit.pings, "lost": lost}
    if not visit.round_trips_s:
        return broken(f"{where} accepted this edge, but answered none of {visit.pings} pings", "try again", **facts)
    times_ms = [1000 * time_s for time_s in visit.round_trips_s]
    low, middle, high = min(times_ms), median(times_ms), max(times_ms)
    facts["round_trip_ms"] = {"min": round(low, 3), "median": round(middle, 3), "max": round(high, 3)}
    text = f"{where} answers: round trip {low:.1f} / {middle:.1f} / {high:.1f} ms (min, median, max)"
    if lost:
        share = lost / visit.pings
        option = protection_for(share, NoProtection())
        fixed = f"; of fixed plans, {option} repairs as much" if option else ""
        repairs = f"--protect auto, the edge's default, adapts to that{fixed}"
        return warning(
            f"{text}; {lost} of {visit.pings} pings ({percent(share)}) lost, on the way there or back", repairs, **facts
        )
    return ok(f"{text}; none of {visit.pings} pings lost", **facts)
