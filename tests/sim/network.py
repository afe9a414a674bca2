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
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.common.small_tensors import GRID, SPLIT, features, odd_plan

from gradfec_common import wire
from gradfec_common.quantise import dequantise, quantise
from gradfec_common.reassembly import decode_tensor
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import (
    Answered,
    Closed,
    EdgeLimits,
    EdgeSession,
    LinkLost,
    Refused,
    new_hello,
)
from gradfec_common.session.events import CloudLimits, Decided, Finished, SessionEnded, SessionOpened
from gradfec_common.transmit import EncodedTensor, encode_tensor
from gradfec_lab.channel import Channel, ChannelSettings

Address = tuple[str, int]
# intact datagrams of an open session that the cloud may refuse: after these it need not know all that arrived
REFUSALS = ("memory_limit", "tensor_limit", "out_of_window", "leaving", "foreign_address")
POOL = 8  # different tensors that a simulation sends over and over
MOST_SYMBOLS = 64  # of one tensor of an `odd_plan`
SYMBOL_BYTES = wire.PLACE_BYTES + GRID.size


@dataclass(frozen=True)
class Content:
    """A tensor of the pool: as it is sent, and the packets (12, 28) that the cloud should make of it."""

    encoded: EncodedTensor
    packets: npt.NDArray[np.float32]


def content(seed: int) -> Content:
    """Draw a tensor and an odd plan for it."""
    rng = np.random.default_rng(seed)
    chi = features(rng)
    return Content(encode_tensor(chi, odd_plan(rng), GRID, SPLIT), GRID.split(dequantise(*quantise(chi))))


@dataclass
class Sent:
    """A tensor that an edge has sent, and what the simulation knows of it."""

    uid: int
    content: Content
    got: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))  # by block: indices at the cloud
    refused: bool = False
    decided: tuple[str, int, int] | None = None  # outcome, recovered, missing
    finished: bool = False

    @property
    def complete(self) -> bool:
        """Whether every block has k symbols at the cloud."""
        return all(len(self.got[n]) >= block.k for n, block in enumerate(self.content.encoded.plan.blocks))


@dataclass
class Edge:
    """An edge, through all its restarts and changes of address."""

    name: str
    address: Address
    core: EdgeSession
    up: list[Channel[Address]]  # the newest last; the others deliver what they still hold
    down: list[Channel[Address]]
    fed: int = 0
    life: int = 0
    open: set[int] = field(default_factory=set)
    sent: dict[int, Sent] = field(default_factory=dict)
    answered: dict[int, str] = field(default_factory=dict)  # outcome, by tensor
    lost_links: int = 0
    refusals: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Swarm:
    """What a seed draws for the whole of its simulation."""

    edges: int
    interval_s: float  # between the tensors of an edge
    sending_s: float
    bursts: int  # in which a tensor's datagrams leave
    deadline_s: float
    tick_s: float  # the shells look at sockets and clocks this often
    service_s: float  # of the back-end, which takes one tensor at a time
    stall: float  # probability that it takes 2 s
    failure: float  # probability that it fails
    bad_phase_s: float
    cloud: CloudLimits
    edge: EdgeLimits

    @staticmethod
    def draw(rng: np.random.Generator) -> Swarm:
        """Draw parameters, often extreme ones."""
        edges = int(rng.integers(1, 5))
        phase = float(rng.uniform(2, 8))
        interval = max(float(rng.choice([0.02, 0.1, 0.3])), edges * phase / 100)
        some_memory = int(rng.choice([1, 2, 5])) * MOST_SYMBOLS * SYMBOL_BYTES
        cloud = CloudLimits(
            sessions=edges + int(rng.choice([0, 1, 50])),
            tensors_per_session=int(rng.choice([1, 2, 8])),
            pending_tensors=int(rng.choice([1, 3, 64])),
            reassembly_bytes=int(rng.choice([some_memory, 2**29])),
            reorder_s=float(rng.choice([0.0, 0.03, 0.2])),
            answers_per_session=int(rng.choice([2, 6, 64])),
            tensor_window=int(rng.choice([3, 20, 256])),
        )
        return Swarm(
            edges=edges,
            interval_s=interval,
            sending_s=float(rng.choice([0.0, 0.02, 0.2])),
            bursts=int(rng.choice([1, 2, 4])),
            deadline_s=float(rng.choice([0.05, 0.25, 1.0])),
            tick_s=float(rng.choice([0.0, 0.001, 0.005, 0.02])),
            service_s=float(rng.choice([0.0, 0.02, 0.2])),
            stall=float(rng.choice([0.0, 0.0, 0.1])),
            failure=float(rng.choice([0.0, 0.0, 0.2])),
            bad_phase_s=phase,
            cloud=cloud,
            edge=EdgeLimits(tensors_in_flight=int(rng.choice([1, 4, 64]))),
        )


CLEAN = ChannelSettings(delay_s=0.001)


def bad_weather(rng: np.random.Generator) -> ChannelSettings:
    """Draw the state of one way of a link."""
    kind = rng.choice(["clean", "loss", "bursts", "blackout", "slow", "disorder", "broken"])
    match kind:
        case "loss":
            return ChannelSettings(loss=float(rng.uniform(0, 0.7)))
        case "bursts":
            return ChannelSettings(loss=float(rng.uniform(0.05, 0.5)), burst=float(rng.uniform(2, 20)), delay_s=0.01)
        case "blackout":
            return ChannelSettings(loss=1.0)
        case "slow":
            return ChannelSettings(loss=0.1, delay_s=float(rng.uniform(0.1, 1.0)))
        case "disorder":
            delay = float(rng.uniform(0.001, 0.2))
            return ChannelSettings(
                delay_s=delay, jitter_s=delay, reorder=0.2, reorder_by_s=float(rng.uniform(0, 0.5)), duplicate=0.2
            )
        case "broken":
            return ChannelSettings(corrupt=float(rng.uniform(0.01, 0.4)), duplicate=0.1, loss=0.1)
    return CLEAN


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

    # --- the story ---

    def bad_phase(self) -> None:
        """Everything that may go wrong does."""
        end = self.now + self.swarm.bad_phase_s
        for edge in self.edges:
            self._keep_sending(edge, end)
            self._keep_changing_weather(edge, end)
        for _ in range(int(self.rng.integers(0, 4))):
            self.at(float(self.rng.uniform(self.now, end)), self._accident)
        self.run(self.swarm.bad_phase_s)

    def _keep_sending(self, edge: Edge, end: float) -> None:
        def frame() -> None:
            if self.now < end:
                self.send_tensor(edge)
                self.at(self.now + self.swarm.interval_s, frame)

        self.at(self.now + float(self.rng.uniform(0, 0.5)), frame)

    def _keep_changing_weather(self, edge: Edge, end: float) -> None:
        def change() -> None:
            if self.now < end:
                self.weather(edge, bad_weather(self.rng), bad_weather(self.rng))
                self.at(self.now + float(self.rng.uniform(0.3, 3)), change)

        self.at(self.now + float(self.rng.uniform(0, 1)), change)

    def _accident(self) -> None:
        if self.healed:
            return
        edge = self.edges[int(self.rng.integers(len(self.edges)))]
        match self.rng.choice(["cloud", "cloud leaves", "edge", "edge leaves", "edge moves"]):
            case "cloud" if self.cloud:
                self.stop_cloud()
                self.at(self.now + float(self.rng.choice([0.0, 0.3, 3.0])), self._start_if_down)
            case "cloud leaves" if self.cloud:
                self.cloud.leave()
                life = self.cloud_life
                self.at(self.now + float(self.rng.uniform(0, 1)), lambda: self._say_goodbye(life))
            case "edge":
                self.restart_edge(edge)
            case "edge leaves":
                self.restart_edge(edge, politely=True)
            case "edge moves":
                self.move_edge(edge)

    def _start_if_down(self) -> None:
        if self.cloud is None:
            self.start_cloud()

    def _say_goodbye(self, life: int) -> None:
        if self.cloud is None or life != self.cloud_life:
            return
        self.cloud.say_goodbye()
        self._drain_cloud(self.cloud)
        assert (self.cloud.open_sessions, self.cloud.open_tensors, self.cloud.unacknowledged) == (0, 0, 0)
        self.stop_cloud()
        self.at(self.now + 0.5, self._start_if_down)

    def heal(self) -> None:
        """Make the network, the cloud and its back-end good, for good."""
        self.note("healed")
        self.healed = True
        for edge in self.edges:
            self.weather(edge, CLEAN, CLEAN)
        if self.cloud is not None and self.cloud.leaving:
            self._say_goodbye(self.cloud_life)
        self._start_if_down()

    @property
    def quiet(self) -> bool:
        """Whether every edge is connected, to a session of its address, and nothing is open or on its way anywhere."""
        assert self.cloud is not None
        return (
            all(edge.core.connected and not edge.core.open_tensors for edge in self.edges)
            and {(edge.core.session, edge.address) for edge in self.edges}
            == {(session.id, session.peer) for session in self.cloud._sessions.values()}
            and not self.cloud.open_tensors
            and not self.cloud.unacknowledged
            and not self.owed
            and all(len(edge.up) == len(edge.down) == 1 for edge in self.edges)
        )

    def converge(self) -> None:
        """Assert that, healed, edges and cloud find each other and all that they held is over, in bounded time."""
        self.heal()
        idle_s = self.swarm.cloud.session_idle_s  # after which a place is free that an edge's former address holds
        assert self.run(idle_s + 15, lambda: self.quiet), f"not quiet {idle_s + 15:g} s after the network has healed"
        for edge in self.edges:
            strays = 0
            for _ in range(3):
                outcome = self.probe(edge)
                if outcome is None and not strays:
                    strays += 1  # its number was too far ahead; the next must do
                    outcome = self.probe(edge)
                assert outcome == "complete", f"{edge.name}: a tensor over a clean link is {outcome}"
        assert self.run(5, lambda: self.quiet)
        self.run(5.5)  # beyond any deadline and repetition
        assert self.quiet
        assert self.cloud is not None
        assert len(self.cloud._timers) == 1, "timers are left over"
        assert len(self.cloud._sessions) == len(self.cloud._by_peer) == len(self.edges)

    def probe(self, edge: Edge) -> str | None:
        """Send one tensor and return its outcome; None where it was out of the window."""
        assert self.cloud is not None
        before = self.cloud.counts["out_of_window"]
        number = self.send_tensor(edge)
        assert number is not None, f"{edge.name} may not send"
        closed = self.run(
            self.swarm.edge.answer_timeout_s + self.swarm.sending_s + 1.1, lambda: number not in edge.open
        )
        assert closed, "a tensor is not closed in time"
        if self.cloud.counts["out_of_window"] > before:
            return None
        return edge.answered.get(number, "unanswered")

    def story(self) -> str:
        """Run the whole story and return the hash of its trace."""
        self.bad_phase()
        self.converge()
        return self.trace.hexdigest()
