"""An edge with a camera, a road, and a cloud."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from gradfec_common.congestion import CongestionControl
from gradfec_common.keys import Entropy
from gradfec_common.protect import UNKNOWN_LINK, AutoProtection, Plan
from gradfec_common.reassembly import Reassembly
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import Answered, Closed, Connected, EdgeSession, Reported, new_hello
from gradfec_common.session.events import Decided
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.transmit import EncodedTensor
from gradfec_common.wire import Bytes, batch_of
from gradfec_edge.adaptation import MOST_ROUNDS, Adaptation
from gradfec_edge.coding import Coding
from gradfec_edge.frontend import Features
from gradfec_edge.pacing import Pacing
from gradfec_host.key_files import edge_key
from gradfec_host.processor import preferred_cipher
from gradfec_lab.drive.clock import Alarm, Clock
from gradfec_lab.drive.road import Road, Stretch

EDGE_S, CLOUD_S = 0.015, 0.04  # that a frame takes at the edge, and at the cloud besides the link
IN_FLIGHT = 4
DEADLINE_S = 0.5
SETS_OUT_S, ENDS_S = 0.5, 3.0  # before the first frame, and after the last one


@dataclass
class Shot:
    """A frame that the camera took at `at`, and what became of it; None for what did not happen."""

    number: int
    at: float
    plan: Plan | None = None
    datagram_bytes: int = 0  # of UDP payload
    bytes: int = 0  # of all of them
    datagrams: int = 0
    asked: int = 0  # of these, datagrams that the cloud asked for
    why: dict[str, float] = field(default_factory=dict)
    arrived: Reassembly | None = None  # what the cloud answered from
    complete: bool = False
    latency_s: float | None = None


@dataclass(frozen=True)
class Journey:
    """A whole drive: its shots, and all bytes that left for the cloud, IP and UDP headers included."""

    shots: list[Shot]
    there_bytes: int


def entropy_of(seed: int) -> Entropy:
    """Return a source of repeatable bytes."""
    return np.random.default_rng(seed).bytes


@dataclass(frozen=True)
class Trip:
    """What is driven: `frames` frames, `fps` a second, whose `features` are those of each number.

    The policy `auto` sends at most `most_bytes_per_s`, and with `most_rounds` 0, the cloud never asks for more.
    """

    coding: Coding
    features: Callable[[int], Features]
    fps: float = 5.0
    frames: int = 300
    most_bytes_per_s: float = math.inf
    most_rounds: int = MOST_ROUNDS


class Drive:
    """One edge and its cloud."""

    def __init__(self, clock: Clock, road: Road, trip: Trip, seed: int) -> None:
        """Set out as soon as the clock runs."""
        self.shots: list[Shot] = []
        self._clock, self._road, self._trip = clock, road, trip
        key, coding = HandshakeKey(edge_key(None, insecure=True)), trip.coding
        hello = new_hello(coding.cut, coding.grid.rows, f"edge {seed}", preferred_cipher())
        self._edge = EdgeSession(hello, coding.cut.network.head, key, entropy_of(2 * seed), clock.now)
        self._cloud = CloudSessions([coding.cut], DEADLINE_S, {key.id: key}, entropy_of(2 * seed + 1))
        interval_s = 1 / trip.fps
        self._adaptation: Adaptation | None = None
        if isinstance(coding.policy, AutoProtection):
            control = CongestionControl(clock.now, trip.most_bytes_per_s)
            self._adaptation = Adaptation(control, lambda: interval_s, trip.most_rounds)
        self._pacing = Pacing(None, interval_s, self._adaptation.spread_s if self._adaptation else None)
        self._edge_alarm, self._cloud_alarm = Alarm(clock, self._edge_timer), Alarm(clock, self._cloud_timer)
        self._by_tensor: dict[int, Shot] = {}
        self._busy_until = self._sending_until = 0.0
        road.there.leads_to(self._cloud_receives)
        road.back.leads_to(self._edge_receives)
        clock.at(clock.now, self._edge_timer)
        for number in range(trip.frames):
            clock.at(SETS_OUT_S + number * interval_s, partial(self._take, number))

    # --- the edge ---

    def _take(self, number: int) -> None:
        now = self._clock.now
        shot = Shot(number, now)
        self.shots.append(shot)
        waits = self._adaptation is not None and self._adaptation.wait_s(now) > 0
        if not self._edge.connected or self._edge.in_flight >= IN_FLIGHT or waits:
            return
        chi, scores, damage = self._trip.features(number)
        assert scores is not None, "the edge ranks packets"  # noqa: S101
        link = self._adaptation.estimate(now) if self._adaptation else UNKNOWN_LINK
        encoded = self._trip.coding.encode(chi, scores, damage, link, map)
        self._clock.at(max(now + EDGE_S, self._sending_until), partial(self._send, shot, encoded))

    def _send(self, shot: Shot, encoded: EncodedTensor) -> None:
        if not self._edge.connected:
            return
        now, plan = self._clock.now, encoded.plan
        spread_s = self._pacing.spread_s(8 * encoded.wire_bytes)
        tensor, bodies = self._edge.open_tensor(encoded, now, spread_s)
        self._by_tensor[tensor] = shot
        shot.plan, shot.datagram_bytes = plan, encoded.datagram_bytes
        left: list[tuple[int, float]] = []
        if self._adaptation:
            shot.why = self._adaptation.why(plan)
            self._adaptation.sends(tensor, plan, encoded.datagram_bytes, left, now)
        self._sending_until = now + spread_s
        for position in range(len(bodies)):
            leaves_at = now + position * spread_s / len(bodies)
            self._clock.at(leaves_at, partial(self._send_one, tensor, bodies[position : position + 1], left))
        self._edge_pump()

    def _send_one(self, tensor: int, body: Bytes, left: list[tuple[int, float]]) -> None:
        sealed = self._edge.seal(tensor, body)
        if sealed is None:
            return
        left.append((len(left) + 1, self._clock.now))
        self._road.there.send([sealed[0].tobytes()])

    def _edge_receives(self, datagrams: list[bytes]) -> None:
        self._edge.receive(batch_of(datagrams, [None] * len(datagrams)), self._clock.now)
        self._edge_pump()

    def _edge_timer(self) -> None:
        self._edge.handle_timer(self._clock.now)
        self._edge_pump()

    def _edge_pump(self) -> None:
        now = self._clock.now
        if datagrams := self._edge.datagrams_to_send():
            self._road.there.send(datagrams)
        self._edge_alarm.set(max(self._edge.next_timer(), now))
        while (event := self._edge.next_event()) is not None:
            match event:
                case Connected() if self._adaptation:
                    self._adaptation.connected(event.deadline_s, now)
                case Reported() if self._adaptation:
                    self._adaptation.reported(event.report, now)
                case Answered():
                    self._by_tensor[event.tensor].latency_s = now - self._by_tensor[event.tensor].at
                case Closed():
                    self._closed(event)

    def _closed(self, event: Closed) -> None:
        if self._adaptation:
            self._adaptation.closed(event)
        shot = self._by_tensor.pop(event.tensor)
        assert shot.plan is not None, "it was sent"  # noqa: S101
        shot.datagrams, shot.asked = event.sent, max(event.sent - shot.plan.unasked, 0)
        shot.bytes = event.sent * shot.datagram_bytes

    # --- the cloud ---

    def _cloud_receives(self, datagrams: list[bytes]) -> None:
        self._cloud.receive(batch_of(datagrams, ["edge"] * len(datagrams)), self._clock.now)
        self._cloud_pump()

    def _cloud_timer(self) -> None:
        self._cloud.handle_timer(self._clock.now)
        self._cloud_pump()

    def _cloud_pump(self) -> None:
        now = self._clock.now
        while (event := self._cloud.next_event()) is not None:
            if isinstance(event, Decided):
                self._busy_until = max(self._busy_until, now) + CLOUD_S
                self._clock.at(self._busy_until, partial(self._answer, event))
        if datagrams := self._cloud.datagrams_to_send():
            self._road.back.send([datagram for datagram, _ in datagrams])
        due = self._cloud.next_timer()
        self._cloud_alarm.set(None if due is None else max(due, now))

    def _answer(self, decided: Decided) -> None:
        shot = self._by_tensor.get(decided.tensor)
        if shot is not None:
            shot.arrived, shot.complete = decided.arrived, decided.complete
        self._cloud.answer(decided, decided.cut.network.head.no_answer, 0, 0, {}, self._clock.now)
        self._cloud_pump()


def drive(stretches: Sequence[Stretch], trip: Trip, seed: int) -> Journey:
    """Drive along a road of its own."""
    clock = Clock()
    road = Road(clock, stretches, seed)
    clock.run(0.0)
    car = Drive(clock, road, trip, seed)
    clock.run(SETS_OUT_S + trip.frames / trip.fps + ENDS_S)
    return Journey(car.shots, road.there.bytes)
