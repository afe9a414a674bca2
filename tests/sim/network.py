"""Edges and a cloud, their protocol cores joined by a bad network, in virtual time: the same seed, the same story.

A `Simulation` draws everything from its seed: how many edges, their pace, the limits of the cores, the weather on each
way of each link, and what befalls whom (swarm testing). Whatever happens is checked against what the simulation, which
sees both ends, knows to be true. The channels are those of the loss injector.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tests.common.small_tensors import GRID, SPLIT

from gradfec_common import wire
from gradfec_common.reassembly import decode_tensor
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import Answered, Closed, EdgeSession, LinkLost, Refused, new_hello
from gradfec_common.session.events import Decided, Finished, SessionEnded, SessionOpened
from gradfec_lab.channel import Channel, ChannelSettings

from .swarm import CLEAN, POOL, REFUSALS, Address, Edge, Sent, Swarm, content


class Simulation:
    """One story, told from a seed; `AssertionError` where a promise is broken."""

    def __init__(self, seed: int, swarm: Swarm | None = None) -> None:
        """Start the cloud and the edges at time 0, on clean links."""
        self.rng = np.random.default_rng(seed)
        self.swarm = swarm or Swarm.draw(self.rng)
        self.now = 0.0
        self.pool = [content(int(self.rng.integers(2**32))) for _ in range(POOL)]
        self.sent: dict[tuple[int, int], Sent] = {}  # by session and tensor
        self.identity: dict[bytes, tuple[int, int, int, int]] = {}  # session, tensor, block, index of a datagram
        self.uid = itertools.count()
        self.ports = itertools.count(1)
        self.script: list[tuple[float, int, Callable[[], None]]] = []
        self.ticket = itertools.count()
        self.trace = hashlib.sha256()
        self.lives = itertools.count()
        self.cloud: CloudSessions | None = None
        self.cloud_fed = 0
        self.passes: Callable[[bytes], bool] = lambda datagram: True  # what the way to the cloud lets through at all
        self.healed = False
        self.start_cloud()
        self.edges = [self._new_edge(f"edge {n}") for n in range(self.swarm.edges)]

    # --- who there is ---

    def start_cloud(self) -> None:
        """Start the cloud, or a new one that knows nothing."""
        self.cloud = CloudSessions(SPLIT, self.swarm.deadline_s, self._spawn(), self.swarm.cloud)
        self.cloud_fed = self.owed = 0
        self.cloud_life = next(self.lives)
        self.back_end_free_at = self.now
        self.note("cloud starts")

    def stop_cloud(self) -> None:
        """Kill the cloud, with all that it knows."""
        self.cloud = None
        self.note("cloud dies")

    def _new_edge(self, name: str) -> Edge:
        return Edge(name, (name, next(self.ports)), self._new_core(name), [self._channel()], [self._channel()])

    def _new_core(self, name: str) -> EdgeSession:
        return EdgeSession(new_hello(SPLIT.id, GRID.rows, name, self.rng), self.now, self.swarm.edge)

    def restart_edge(self, edge: Edge, *, politely: bool = False) -> None:
        """Kill an edge, or let it say goodbye, and start it again at the same address."""
        self.note(f"{edge.name} restarts")
        if politely:
            edge.core.leave(self.now)
            self._drain_edge(edge)
            assert not edge.open, "an edge that leaves closes its tensors"
        edge.core, edge.fed, edge.life = self._new_core(edge.name), 0, edge.life + 1
        edge.open, edge.sent, edge.answered = set(), {}, {}

    def move_edge(self, edge: Edge) -> None:
        """Give an edge another address, as a router does that has forgotten it."""
        edge.address = (edge.name, next(self.ports))
        self.note(f"{edge.name} moves")

    # --- the network ---

    def _spawn(self) -> np.random.Generator:
        return np.random.default_rng(self.rng.integers(2**63))

    def _channel(self, settings: ChannelSettings = CLEAN) -> Channel[Address]:
        return Channel(settings, self._spawn())

    def weather(self, edge: Edge, up: ChannelSettings, down: ChannelSettings) -> None:
        """Change the link of an edge; what is on its way still arrives."""
        edge.up.append(self._channel(up))
        edge.down.append(self._channel(down))

    def _channels(self) -> list[Channel[Address]]:
        return [channel for edge in self.edges for channel in (*edge.up, *edge.down)]

    def _deliver(self) -> None:
        to_cloud: list[tuple[Address, bytes]] = []
        for edge in self.edges:
            to_cloud += [d for channel in edge.up for d in channel.deliver(self.now) if self.passes(d[1])]
            arrived = [datagram for channel in edge.down for datagram in channel.deliver(self.now)]
            mine = [payload for address, payload in arrived if address == edge.address]
            if mine:
                self.note(f"{edge.name} hears {len(mine)}")
                edge.core.receive(wire.batch_of(mine, [None] * len(mine)), self.now)
                edge.fed += len(mine)
            edge.up[:-1] = [channel for channel in edge.up[:-1] if channel.next_timer() is not None]
            edge.down[:-1] = [channel for channel in edge.down[:-1] if channel.next_timer() is not None]
        if to_cloud and self.cloud:
            self.feed_cloud(self.cloud, to_cloud)

    def feed_cloud(self, cloud: CloudSessions, datagrams: list[tuple[Address, bytes]]) -> None:
        """Hand the cloud a batch of datagrams, and keep in mind what of the tensors was in it."""
        intact = [self.identity[payload] for _, payload in datagrams if payload in self.identity]
        for session, tensor, block, index in intact:
            self.sent[session, tensor].got[block].add(index)
        before = sum(cloud.counts[reason] for reason in REFUSALS)
        payloads = [payload for _, payload in datagrams]
        cloud.receive(wire.batch_of(payloads, [address for address, _ in datagrams]), self.now)
        self.cloud_fed += len(datagrams)
        self.note(f"cloud hears {len(datagrams)} {sorted((+cloud.counts).items())}")
        if sum(cloud.counts[reason] for reason in REFUSALS) > before:
            for session, tensor, _, _ in intact:
                self.sent[session, tensor].refused = True

    # --- the edges ---

    def send_tensor(self, edge: Edge) -> int | None:
        """Let an edge send a tensor, if it may now; return the number."""
        if not edge.core.connected or edge.core.open_tensors >= self.swarm.edge.tensors_in_flight:
            return None
        swarm, chosen = self.swarm, self.pool[int(self.rng.integers(POOL))]
        number, matrix = edge.core.open_tensor(chosen.encoded, self.now, swarm.sending_s)
        sent = edge.sent[number] = Sent(next(self.uid), chosen)
        assert (edge.core.session, number) not in self.sent, "a tensor number was used twice in a session"
        self.sent[edge.core.session, number] = sent
        edge.open.add(number)
        datagrams = [row.tobytes() for row in matrix]
        sending_s = 0.0 if self.healed else swarm.sending_s  # which may well be longer than the deadline
        for header, datagram in zip(chosen.encoded.headers, datagrams, strict=True):
            place = (int(header["block"]), int(header["index"]))
            self.identity[datagram] = (edge.core.session, number, *place)
        life = edge.life
        for burst in range(swarm.bursts):
            share = datagrams[burst * len(datagrams) // swarm.bursts : (burst + 1) * len(datagrams) // swarm.bursts]
            when = self.now + burst * sending_s / swarm.bursts
            self.at(when, lambda share=share: self._transmit(edge, life, share))  # type: ignore[misc]
        self.note(f"{edge.name} sends {number}")
        return number

    def _transmit(self, edge: Edge, life: int, datagrams: list[bytes]) -> None:
        if edge.life == life:
            edge.up[-1].send([(edge.address, datagram) for datagram in datagrams], self.now)

    def _drain_edge(self, edge: Edge) -> None:
        out = edge.core.datagrams_to_send()
        assert all(len(datagram) <= wire.MAX_DATAGRAM_BYTES for datagram in out)
        if out:
            edge.up[-1].send([(edge.address, datagram) for datagram in out], self.now)
        while (event := edge.core.next_event()) is not None:
            match event:
                case Answered(tensor, result):
                    sent = edge.sent[tensor]
                    assert result.top5[0][0] == sent.uid, "the answer is another tensor's"
                    assert (result.outcome, result.recovered, result.missing) == sent.decided
                    assert tensor not in edge.answered, "answered twice"
                    edge.answered[tensor] = result.outcome
                case Closed(tensor, result, report):
                    assert tensor in edge.open, "closed twice, or never opened"
                    edge.open.discard(tensor)
                    assert (result is not None) == (tensor in edge.answered)
                    if report is not None:
                        plan = edge.sent[tensor].content.encoded.plan
                        assert 0 < report.received <= report.sent == plan.sent
                        assert (report.bursts == 0) == (report.received == report.sent)
                case LinkLost():
                    edge.lost_links += 1
                case Refused(reason, _):
                    edge.refusals.append(reason)
            self.note(f"{edge.name}: {type(event).__name__} {getattr(event, 'tensor', '')}")
        assert sum(edge.core.counts.values()) == edge.fed, "a datagram without exactly one fate at the edge"
        assert edge.core.open_tensors == len(edge.open) <= self.swarm.edge.tensors_in_flight

    # --- the cloud and its back-end ---

    def _drain_cloud(self, cloud: CloudSessions) -> None:
        while (event := cloud.next_event()) is not None:
            match event:
                case Decided():
                    self._infer(event)
                case Finished():
                    sent = self.sent[event.session, event.tensor]
                    assert not sent.finished, "finished twice"
                    sent.finished = True
                    assert (event.result.outcome, event.result.recovered, event.result.missing) == sent.decided
                case SessionOpened() | SessionEnded():
                    pass
            self.note(f"cloud: {type(event).__name__} {event.session} {getattr(event, 'tensor', '')}")
        for datagram, peer in cloud.datagrams_to_send():
            assert len(datagram) <= wire.MAX_DATAGRAM_BYTES
            for edge in self.edges:
                if edge.address == peer:  # one that has moved is not found there
                    edge.down[-1].send([(edge.address, datagram)], self.now)
        self._check_cloud(cloud)

    def _check_cloud(self, cloud: CloudSessions) -> None:
        limits, tensors = cloud.limits, cloud.tensors
        assert sum(cloud.counts.values()) == self.cloud_fed, "a datagram without exactly one fate at the cloud"
        ended = sum(count for fate, count in tensors.items() if fate != "opened")
        assert tensors["opened"] == ended + cloud.open_tensors, "a tensor without exactly one fate"
        assert cloud.open_sessions <= limits.sessions
        assert cloud.held_bytes <= limits.reassembly_bytes
        assert cloud.unacknowledged <= limits.answers_per_session * cloud.open_sessions
        assert cloud.open_tensors <= (limits.tensors_per_session + limits.pending_tensors) * cloud.open_sessions
        assert self.owed <= limits.pending_tensors

    def _infer(self, decided: Decided) -> None:
        """Decode, compare with what was sent, and answer when the back-end gets to it."""
        sent = self.sent[decided.session, decided.tensor]  # KeyError: decided what nobody sent
        assert sent.decided is None, "decided twice"
        self._check_decoded(sent, decided)
        life, swarm = self.cloud_life, self.swarm
        self.owed += 1
        service = 2.0 if self.rng.random() < swarm.stall else swarm.service_s
        fails = self.rng.random() < swarm.failure
        if self.healed:
            service, fails = min(swarm.service_s, 0.02), False
        self.back_end_free_at = max(self.now, self.back_end_free_at) + service
        self.at(self.back_end_free_at, lambda: self._answer(decided, sent, life, fails))

    def _check_decoded(self, sent: Sent, decided: Decided) -> None:
        plan = sent.content.encoded.plan
        decoded = decode_tensor(decided.arrived)
        packets = GRID.split(decoded.chi)
        there = packets.any(axis=1)
        assert (packets[there] == sent.content.packets[there]).all(), "a packet of the tensor is wrong"
        assert decoded.conflicting == 0
        assert int(there.sum()) == plan.kept - decoded.missing
        received = sum(index < block.k for n, block in enumerate(plan.blocks) for index in sent.got[n])
        assert decided.complete == (decoded.missing == 0)
        assert sent.complete or not decided.complete, "complete without k symbols of each block"
        if not sent.refused:
            assert decided.complete == sent.complete, "k symbols of each block came in time, and it is not complete"
            assert plan.kept == received + decoded.recovered + decoded.missing
        sent.decided = ("complete" if decided.complete else "partial", decoded.recovered, decoded.missing)

    def _answer(self, decided: Decided, sent: Sent, life: int, fails: bool) -> None:
        if self.cloud is None or life != self.cloud_life:
            return
        self.owed -= 1
        assert sent.decided is not None
        if fails:
            self.cloud.fail(decided)
            return
        _, recovered, missing = sent.decided
        self.cloud.answer(decided, [[sent.uid, "a label", 0.5]], recovered, missing, {"back_end": 1.0}, self.now)

    # --- time ---

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self.script, (when, next(self.ticket), action))

    def note(self, what: str) -> None:
        """Write a line of the trace."""
        self.trace.update(f"{self.now!r} {what}\n".encode())

    def _next(self) -> float:
        dues: list[Any] = [edge.core.next_timer() for edge in self.edges]
        dues += [channel.next_timer() for channel in self._channels()]
        if self.cloud:
            dues.append(self.cloud.next_timer())
        if self.script:
            dues.append(self.script[0][0])
        return min(due for due in dues if due is not None)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, at most until something is so; tell whether it is."""
        end, at_once = self.now + seconds, 0
        while not until():
            due, tick = self._next(), self.swarm.tick_s
            if due > self.now and tick:
                due = max(math.ceil(due / tick) * tick, due)
            if due > end:
                self.now = end
                return until()
            at_once = at_once + 1 if due <= self.now else 0
            assert at_once < 1000, "time stands still: a timer comes again and again"
            self.now = max(due, self.now)
            self._step()
        return True

    def _step(self) -> None:
        while self.script and self.script[0][0] <= self.now:
            heapq.heappop(self.script)[2]()
        self._deliver()
        for edge in self.edges:
            if edge.core.next_timer() <= self.now:
                edge.core.handle_timer(self.now)
            self._drain_edge(edge)
        if self.cloud:
            if (due := self.cloud.next_timer()) is not None and due <= self.now:
                self.cloud.handle_timer(self.now)
            self._drain_cloud(self.cloud)
