"""Edges, a cloud and its back-end, strangers, and a network between them, in virtual time and from one seed."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gradfec_cloud.turns import Turns
from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.keys import Key
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import Answered, Closed, Connected, EdgeSession, LinkLost, Refused
from gradfec_common.session.events import (
    Decided,
    Finished,
    GivenUp,
    SessionEnded,
    SessionMoved,
    SessionOpened,
    Sketched,
)
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.wire import Drop, Kind
from gradfec_common.wire.symbol import MAX_AGAIN

from . import bounds, ledger, nodes
from .network import Network, Origin, Parcel, Way, Weather
from .nodes import CLOUD, POWERLESS, Address
from .swarm import POOL, Swarm, content
from .truth import Cloud, Due, Sent, Truth
from .workers import Workers

SECOND_LOOKS = (0.0, 0.0, 0.3, 0.7)  # of a run: how often a tensor is a second look, if there is a frame for it
LATELY = 80  # tensors: more than may lie between the two of a frame
LOOK_S = 0.1  # how often a back-end that stalls sees whether it still does
LEAST = (100.0, 100.0)  # datagrams a second and at once, of a session with small tensors: control messages count, too
CENSUS_EVERY = 100  # steps: it costs as much as several
APART = 0.2  # of the batches: what may change nothing is taken apart, so that it can be seen that it does not
MOST_AT_ONCE = 1000  # steps without time passing
MOST_A_SECOND = 5000  # steps in a second of virtual time


@dataclass
class Edge:
    """An edge, through all its restarts and changes of address."""

    name: str
    address: Address  # as the cloud sees it
    core: EdgeSession
    up: Way
    down: Way
    key: HandshakeKey
    cipher: Cipher
    fed: int = 0
    life: int = 0
    leaving: bool = False
    hellos: set[bytes] = field(default_factory=set)  # that it has said
    sessions: list[int] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    sent: dict[int, Sent] = field(default_factory=dict)
    session_of: dict[int, int] = field(default_factory=dict)  # by tensor
    sealed: Counter[int] = field(default_factory=Counter)  # datagrams, by tensor
    answered: dict[int, str] = field(default_factory=dict)  # outcome, by tensor
    reported: set[int] = field(default_factory=set)
    lost_links: int = 0
    refusals: list[str] = field(default_factory=list)


class Simulation:
    """One run; `AssertionError` where a promise is broken."""

    def __init__(self, seed: int, swarm: Swarm | None = None) -> None:
        """Start the cloud and the edges at time 0, in clean weather."""
        self.dice = random.Random(seed)
        self.swarm = swarm or Swarm.draw(self.dice)
        self.now = 0.0
        self.grid = self.swarm.grid
        draws = self.generator()
        self.pool = [content(draws, self.grid) for _ in range(POOL)]
        while not (large := [one for one in self.pool if one.is_large]):
            self.pool[0] = content(draws, self.grid)
        self.large = large  # they pay for their answers
        drawn, floor = self.swarm, LEAST if self.swarm.is_small else (0.0, 0.0)
        self.ledger = ledger.begin(ledger.Ledger(drawn.epoch, drawn.window, *floor))
        secrets = [Key(self.dice.randbytes(32)) for _ in range(1 if drawn.shared_key else drawn.edges)]
        secrets.append(secrets[0] if drawn.liars_share_key else Key(self.dice.randbytes(32)))
        self.keys = [HandshakeKey(key) for key in secrets]  # of the edges, and the liars' last
        labels = [f"label {n}" if drawn.labels else "" for n in range(len(secrets))]
        self.known = {key.id: HandshakeKey(key, label) for key, label in zip(secrets, labels, strict=True)}
        self.truth = Truth(self.swarm, self.ledger)
        self.network = Network(self.dice)
        self.ports = itertools.count(1)
        self.script: list[tuple[float, int, Callable[[], None]]] = []
        self.ticket = itertools.count()
        self.trace = hashlib.sha256()
        self.lives = itertools.count()
        self.steps = 0
        self.stirred = True  # whether a core may have something to say that nobody has looked for
        self.second, self.steps_before = 0, 0  # the second that passes, and the steps before it
        self.cloud: CloudSessions | None = None
        self.passes: Callable[[bytes], bool] = lambda datagram: True  # what the way to the cloud lets through at all
        self.healed = False
        self.hear: dict[Address, Callable[[bytes], None]] = {}  # strangers and liars, by address
        self.taps: dict[str, Callable[[list[Parcel]], list[Parcel]]] = {}  # what edges send passes through, by name
        self.spared: Edge | None = None  # whose link stays good
        # Drawn apart, so that the other seeds' stories stay as they were; where a scenario says all, there are none.
        self.worker_dice = random.Random(f"workers of {seed}")
        self.has_workers = swarm is None and "spared" not in self.swarm.features and self.worker_dice.random() < 0.5
        self.look_dice = random.Random(f"second looks of {seed}")
        self.looks = self.look_dice.choice(SECOND_LOOKS) if swarm is None else 0.0
        self.start_cloud()
        self.edges = [self.new_edge(f"edge {n}") for n in range(self.swarm.edges)]

    # --- who there is ---

    @property
    def victims(self) -> list[Edge]:
        """Return the edges that accidents befall."""
        return [edge for edge in self.edges if edge is not self.spared]

    def generator(self) -> np.random.Generator:
        """Draw a generator for a core, or for whatever draws much."""
        return np.random.default_rng(self.dice.getrandbits(63))

    def start_cloud(self) -> None:
        """Start the cloud, or a new one that knows nothing."""
        self.truth.cloud, self.truth.keys = Cloud(), dict(self.known)
        keys, limits = dict(self.known), self.swarm.cloud
        self.cloud = nodes.new_cloud(self.swarm.cuts, self.swarm.deadline_s, keys, limits, self.generator())
        self.turns: Turns[tuple[Decided, Due]] = Turns(lambda: self.now)  # for the back-end
        self.waiting: list[Decided] = []  # in all these turns, and what it works on
        self.serving = False
        self.cloud_life = next(self.lives)
        self.leased: dict[int, tuple[Decided, Due]] = {}  # what workers have, by lease
        self.workers = self._new_workers() if self.has_workers else None
        self.back_end_free_at = self.now
        self.note("cloud starts")

    def _new_workers(self) -> Workers:
        """Start a pool of workers, in the place of the back-end."""
        life = self.cloud_life

        def done(lease: int, answered: bool) -> None:
            self._answer(self.leased.pop(lease), life, not answered)

        return Workers(self, random.Random(self.worker_dice.getrandbits(63)), self.swarm.service_s, done, self._serve)

    def stop_cloud(self) -> None:
        """Kill the cloud, with all that it knows."""
        self.cloud = None
        if self.workers:
            self.workers.stop()
        self.note("cloud dies")

    def change_keys(self, removed: set[bytes]) -> None:
        """Take keys away from the cloud, by their ids, or give back those that were."""
        self.note(f"keys without {len(removed)}")
        left = {name: key for name, key in self.known.items() if name not in removed}
        self.truth.keys, self.truth.keys_changed = left, True
        if self.cloud:
            self.cloud.change_keys(dict(left))
            self._drain_cloud(self.cloud)

    def new_edge(self, name: str) -> Edge:
        """Start an edge at an address of its own."""
        home = (name, next(self.ports))
        up, down = self.network.connect(home)
        key = self.keys[int(name.rsplit(maxsplit=1)[-1]) % (len(self.keys) - 1)]
        cipher = self.dice.choice([*Cipher])
        return Edge(name, home, self.new_core(name, key, cipher), up, down, key, cipher)

    def new_core(self, name: str, key: HandshakeKey, cipher: Cipher = Cipher.AES_256_GCM) -> EdgeSession:
        """Start the core of an edge."""
        limits = self.swarm.edge
        return nodes.new_edge(name, self.swarm.cuts, self.grid, key, cipher, limits, self.generator(), self.now)

    def restart_edge(self, edge: Edge) -> None:
        """Kill an edge, and start it again at the same address."""
        self.note(f"{edge.name} restarts")
        edge.core, edge.fed, edge.life = self.new_core(edge.name, edge.key, edge.cipher), 0, edge.life + 1
        edge.open, edge.sent, edge.session_of, edge.answered, edge.reported = set(), {}, {}, {}, set()
        edge.sealed, edge.sessions, edge.leaving = Counter(), [], False

    def let_go(self, edge: Edge) -> None:
        """Let an edge say goodbye, until the cloud has heard it, and start again then."""
        self.note(f"{edge.name} leaves")
        edge.core.leave(self.now)
        edge.leaving = True
        self._drain_edge(edge)
        assert not edge.open, "an edge that leaves closes its tensors"

    def move_edge(self, edge: Edge) -> None:
        """Give an edge another address, as a router does that has forgotten it."""
        edge.address = (edge.name, next(self.ports))
        self.note(f"{edge.name} moves")

    # --- the network ---

    def weather(self, edge: Edge, up: Weather, down: Weather) -> None:
        """Change the link of an edge; what is on its way still arrives."""
        edge.up.change(up)
        edge.down.change(down)

    def _deliver(self) -> set[str]:
        """Hand over what has arrived; return the names of the edges that have got something."""
        to_cloud: list[Parcel] = []
        to_edges: dict[Address, list[Parcel]] = {edge.address: [] for edge in self.edges}
        for parcel in self.network.deliver(self.now):
            if parcel.destination == CLOUD:
                if self.passes(parcel.payload):
                    to_cloud.append(parcel)
            elif parcel.destination in to_edges:
                to_edges[parcel.destination].append(parcel)
        if "shuffled batches" in self.swarm.features and not self.healed:
            self.dice.shuffle(to_cloud)
        fed = set()
        for edge in self.edges:
            if mine := to_edges[edge.address]:
                self._feed_edge(edge, mine)
                fed.add(edge.name)
        size = self.swarm.batch
        for start in range(0, len(to_cloud), size):
            if self.cloud:
                self.feed_cloud(self.cloud, to_cloud[start : start + size])
        return fed

    def _feed_edge(self, edge: Edge, parcels: list[Parcel]) -> None:
        """Hand an edge a batch of datagrams, as its shell does: what is not from the cloud is only counted."""
        heard = [parcel for parcel in parcels if parcel.source == CLOUD]
        edge.core.counts[Drop.FOREIGN_ADDRESS.value] += len(parcels) - len(heard)
        edge.fed += len(parcels)
        for parcel in heard:
            self.record(edge.name, parcel)
        if not heard:
            return
        payloads, core = [parcel.payload for parcel in heard], edge.core
        at_hand, powerless = nodes.hello_at_hand(core), self.truth.is_powerless_at_edge
        before = None
        if all(powerless(at_hand, core.session, payload) for payload in payloads) and self.dice.random() < APART:
            before = bounds.picture(core)
        core.receive(wire.batch_of(payloads, [CLOUD] * len(payloads)), self.now)
        accepted = self.ledger.take()
        assert all(payload in payloads for payload in accepted), "something was accepted that has not come"
        assert before is None or bounds.picture(core) == before, "what is not authentic and new changes an edge"

    def feed_cloud(self, cloud: CloudSessions, parcels: list[Parcel]) -> None:
        """Hand the cloud a batch of datagrams, and hold what it makes of them against the truth."""
        for parcel in parcels:
            self.record("cloud", parcel)
        if self.dice.random() < APART:
            powerless = [parcel for parcel in parcels if self.truth.is_powerless(cloud, parcel, self.now)]
            self._feed_powerless(cloud, powerless)
            parcels = [parcel for parcel in parcels if parcel not in powerless]
        self._feed(cloud, parcels)

    def _feed_powerless(self, cloud: CloudSessions, parcels: list[Parcel]) -> None:
        """Hand the cloud what may change nothing."""
        if parcels:
            self._drain_cloud(cloud)
            nodes.settle(cloud, self.now)
            picture, counts = bounds.picture(cloud), Counter(cloud.counts)
            self._feed(cloud, parcels, drain=False)
            assert bounds.picture(cloud) == picture, "what is not authentic and new changes the cloud"
            good = {fate: n for fate, n in (cloud.counts - counts).items() if fate not in POWERLESS}
            assert not good, f"what is not authentic and new is {good}"
            assert cloud.next_event() is None, "what is not authentic and new is told"
            assert not cloud.datagrams_to_send(), "what is not authentic and new is answered"

    def _feed(self, cloud: CloudSessions, parcels: list[Parcel], *, drain: bool = True) -> None:
        if not parcels:
            return
        touched = self.truth.before(cloud, parcels)
        before = Counter(cloud.counts)
        payloads = [parcel.payload for parcel in parcels]
        cloud.receive(wire.batch_of(payloads, [parcel.source for parcel in parcels]), self.now)
        fates = Counter(cloud.counts)
        fates.subtract(before)
        self.truth.after(cloud, parcels, touched, fates)
        self.note(f"cloud {sorted((+fates).items())}")
        if drain:
            self._drain_cloud(cloud, parcels)

    # --- the edges ---

    def send_tensor(self, edge: Edge, first: int | None = None) -> int | None:
        """Let an edge send a tensor, if it may now; return the number.

        It is the second one of the frame whose `first` one has that number, or of one that is drawn, or of none.
        """
        if not edge.core.connected or edge.core.open_tensors >= self.swarm.edge.tensors_in_flight:
            return None
        swarm, pool = self.swarm, self.large if self.healed or edge is self.spared else self.pool
        chosen = pool[len(self.truth.sent) % len(pool)]
        sending_s = 0.0 if self.healed else swarm.sending_s  # which may well be longer than the deadline
        first = self._draw_first(edge) if first is None else first
        number, bodies = edge.core.open_tensor(chosen.encoded, self.now, sending_s, first)
        bodies = bodies.copy()  # the same tensor may be sent again before all of this one has gone
        edge.sent[number] = self.truth.send(edge.core.session, number, chosen, first)
        if edge.core.wants_sketch(self.now):
            edge.core.send_sketch(number, chosen.sketch, self.now)
        edge.session_of[number] = edge.core.session
        edge.open.add(number)
        life = edge.life
        for burst in range(swarm.bursts):
            share = slice(burst * len(bodies) // swarm.bursts, (burst + 1) * len(bodies) // swarm.bursts)
            when = self.now + burst * sending_s / swarm.bursts
            self.at(when, lambda share=share: self._send_share(edge, life, number, share.start, bodies[share]))  # type: ignore[misc]
        self.note(f"{edge.name} sends {number}")
        return number

    def _draw_first(self, edge: Edge) -> int | None:
        """Draw the first tensor of a frame that an edge looks at again: one that was answered lately in its session."""
        if self.look_dice.random() >= self.looks or not (answered := [*edge.answered][-LATELY:]):
            return None
        first, following = self.look_dice.choice(answered), max(edge.sent) + 1
        may = edge.session_of[first] == edge.core.session and following - first <= MAX_AGAIN
        assert edge.core.may_look_again(first) == may, "a second look that may not be, or one that may, and is refused"
        return first if may else None

    def _send_share(self, edge: Edge, life: int, number: int, first: int, bodies: wire.Bytes) -> None:
        """Let an edge seal and send some of a tensor's datagrams, if anybody awaits its answer still."""
        if edge.life != life:
            return
        sealed = edge.core.seal(number, bodies)
        assert (sealed is not None) == (number in edge.open), "what nobody awaits any more is sealed, or is not"
        if sealed is not None:
            datagrams = [row.tobytes() for row in sealed]
            self.truth.seal(edge.session_of[number], number, first, datagrams)
            edge.sealed[number] += len(datagrams)
            self._transmit(edge, datagrams)

    def _check_asked(self, edge: Edge, datagram: bytes) -> None:
        """What a cloud has asked for comes from a tensor's reserve, in order, each position once."""
        body = self.ledger.sealed[datagram].body
        number, position = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:6], "big")
        assert number in edge.open and number not in edge.answered, "more of a tensor that nobody awaits any more"
        assert position == edge.sealed[number] >= edge.sent[number].plan.unasked, "a position twice, or too early"
        self.truth.seal(edge.session_of[number], number, position, [datagram])
        edge.sealed[number] += 1

    def _transmit(self, edge: Edge, datagrams: list[bytes]) -> None:
        parcels = [Parcel(edge.address, CLOUD, datagram, Origin.GENUINE) for datagram in datagrams]
        for datagram in datagrams:
            if datagram[2] == Kind.HELLO:
                edge.hellos.add(datagram)
                self.truth.homes[datagram].add(edge.address)
        if edge.name in self.taps:
            parcels = self.taps[edge.name](parcels)
        self.network.send(edge.up, parcels, self.now)

    def _drain_edge(self, edge: Edge) -> None:
        out = edge.core.datagrams_to_send()
        assert all(len(datagram) <= wire.MAX_DATAGRAM_BYTES for datagram in out), "a datagram too long for the path"
        for datagram in out:
            if datagram[2] == Kind.SYMBOL:  # the cloud has asked for it
                self._check_asked(edge, datagram)
        if out:
            self._transmit(edge, out)
        while (event := edge.core.next_event()) is not None:
            match event:
                case Answered(tensor, result, answer):
                    assert tensor in edge.sent, "an answer for a tensor that was not sent"
                    assert tensor not in edge.answered, "answered twice"
                    assert tensor in edge.open, "answered after it was closed"
                    edge.answered[tensor] = result.outcome
                    self.truth.check_result(edge.sent[tensor], result)
                    assert answer == edge.sent[tensor].answer, "the head reads another answer"
                case Closed(tensor, result, report, sealed, _):
                    assert sealed == edge.sealed[tensor], "a tensor's sealed datagrams are miscounted"
                    assert tensor in edge.open, "closed twice, or never opened"
                    edge.open.discard(tensor)
                    assert (result is not None) == (tensor in edge.answered), "closed with another answer"
                    if report is not None:
                        edge.reported.add(tensor)
                        self.truth.check_report(edge.sent[tensor], report)
                case Connected(session, _, fresh):
                    if fresh:
                        edge.sessions.append(session)
                        welcomed = self.ledger.sessions[session]
                        assert welcomed.hello in edge.hellos, "an edge is in another's session"
                    assert session == edge.sessions[-1], "an edge goes on in a session that it had not"
                case LinkLost():
                    edge.lost_links += 1
                case Refused(reason, _):
                    edge.refusals.append(reason)
            self.note(f"{edge.name}: {type(event).__name__} {getattr(event, 'tensor', '')}")
        assert sum(edge.core.counts.values()) == edge.fed, "a datagram without exactly one fate at the edge"
        assert edge.core.open_tensors == len(edge.open) <= self.swarm.edge.tensors_in_flight

    # --- the cloud and its back-end ---

    def _drain_cloud(self, cloud: CloudSessions, parcels: list[Parcel] | None = None) -> None:
        """Take events and datagrams from the cloud; `parcels` are what it has just heard."""
        while (event := cloud.next_event()) is not None:
            match event:
                case Decided():
                    self._infer(event)
                case GivenUp():
                    tensor = event.tensor
                    self._forget(cloud, self.turns.give_up(event.session, lambda one, t=tensor: one[0].tensor == t))
                case Finished():
                    self.truth.finished(event)
                case Sketched():
                    self.truth.sketched(event)
                case SessionOpened():
                    self.truth.opened(event)
                case SessionMoved():
                    assert event.session in self.truth.cloud.opened, "a session moves before it is open"
                case SessionEnded():
                    self.truth.ended(event)
                    self._forget(cloud, self.turns.forget(event.session))
            self.note(f"cloud: {type(event).__name__} {event.session} {getattr(event, 'tensor', '')}")
        said = [p for p in parcels or () if len(p.payload) > 2 and p.payload[2] == Kind.HELLO]
        hellos = Counter((parcel.payload, parcel.source) for parcel in said)
        for datagram, peer in cloud.datagrams_to_send():
            assert len(datagram) <= wire.MAX_DATAGRAM_BYTES, "a datagram too long for the path"
            assert isinstance(peer, tuple)
            self.truth.check_reply(datagram, peer, hellos, cloud.bites["greetings"], self.now)
            self.truth.check_request(datagram)
            for edge in self.edges:
                if edge.address == peer:  # one that has moved is not found there
                    self.network.send(edge.down, [Parcel(CLOUD, peer, datagram, Origin.GENUINE)], self.now)
            if peer in self.hear:
                self.hear[peer](datagram)
        self.truth.check_cloud(cloud, len(self.waiting), self.now)

    def _infer(self, decided: Decided) -> None:
        """Let a decided tensor wait for its turn."""
        self.waiting.append(decided)
        self.turns.put(decided.session, (decided, self.truth.decided(decided)))
        self._serve()

    def _serve(self) -> None:
        """Let the back-end take the tensor that has its turn, as soon as it is free; or workers that have room."""
        if self.workers:
            while len(self.leased) < min(len(self.waiting), self.workers.room):
                (taken,) = self.turns.take(1)
                self.leased[self.workers.begin()] = taken
        elif not self.serving and self.waiting:
            self.serving = True
            life, stalls_s = self.cloud_life, max(self.back_end_free_at - self.now, 0.0)
            self.at(self.now + min(stalls_s, LOOK_S), lambda: self._work(life))

    def _work(self, life: int) -> None:
        if self.cloud is None or life != self.cloud_life:
            return
        if not self.waiting or self.now < self.back_end_free_at:  # given up, or it stalls
            self.serving = False
            self._serve()
            return
        (taken,) = self.turns.take(1)
        service, fails = self.swarm.service_s, self.dice.random() < self.swarm.failure
        if self.healed:
            service, fails = min(service, 0.02), False
        self.at(self.now + service, lambda: self._answer(taken, life, fails))

    def _forget(self, cloud: CloudSessions, gone: list[tuple[Decided, Due]]) -> None:
        """Let go of what nobody waits for."""
        for decided, _ in gone:
            self.waiting.remove(decided)
            cloud.fail(decided)

    def _answer(self, taken: tuple[Decided, Due], life: int, fails: bool) -> None:
        """Answer a tensor, or fail to, and go on with the next."""
        if self.cloud is None or life != self.cloud_life:
            return
        decided, due = taken
        self.waiting.remove(decided)
        self.turns.done([taken])
        if not fails:
            self.truth.cloud.answered[decided.session] += decided.arrived.sent
        if fails:
            self.cloud.fail(decided)
        else:
            self.cloud.answer(decided, due.answer, due.recovered, due.missing, {"back_end": 1.0}, self.now)
        self.serving = False
        self._serve()

    # --- time ---

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self.script, (when, next(self.ticket), action))

    def note(self, what: str) -> None:
        """Write a line of the trace."""
        self.trace.update(f"{self.now!r} {what}\n".encode())

    def record(self, who: str, parcel: Parcel) -> None:
        """Write a datagram's arrival into the trace."""
        self.note(f"{who} {parcel.source} {parcel.origin.value} {len(parcel.payload)}")
        self.trace.update(parcel.payload)

    def _next(self) -> float:
        dues: list[float | None] = [edge.core.next_timer() for edge in self.edges]
        dues.append(self.network.next_timer())
        if self.cloud:
            dues.append(self.cloud.next_timer())
        if self.script:
            dues.append(self.script[0][0])
        return min(due for due in dues if due is not None)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, at most until something is so; tell whether it is."""
        end, at_once, self.stirred = self.now + seconds, 0, True
        while not until():
            due, tick = self._next(), self.swarm.tick_s
            if due > self.now and tick:
                due = max(math.ceil(due / tick) * tick, due)
            if due > end:
                self.now = end
                return until()
            at_once = at_once + 1 if due <= self.now else 0
            assert at_once < MOST_AT_ONCE, "time stands still: something comes again and again"
            self.now = max(due, self.now)
            if int(self.now) != self.second:
                self.second, self.steps_before = int(self.now), self.steps
            assert self.steps - self.steps_before < MOST_A_SECOND, "something comes again and again"
            self._step()
        return True

    def _step(self) -> None:
        self.steps += 1
        stirred, self.stirred = self.stirred, False
        while self.script and self.script[0][0] <= self.now:
            heapq.heappop(self.script)[2]()
            stirred = True
        fed = self._deliver()
        for edge in self.edges:
            is_due = edge.core.next_timer() <= self.now
            if is_due:
                edge.core.handle_timer(self.now)
                assert edge.core.next_timer() > self.now, "an edge's timer is due again at once"
            if is_due or stirred or edge.name in fed:
                self._drain_edge(edge)
            if edge.leaving and edge.core.left:
                self.restart_edge(edge)
        if self.cloud:
            due = self.cloud.next_timer()
            is_due = due is not None and due <= self.now
            if is_due:
                self.cloud.handle_timer(self.now)
                due = self.cloud.next_timer()
                assert due is None or due > self.now, "the cloud's timer is due again at once"
            if is_due or stirred:
                self._drain_cloud(self.cloud)
            self.truth.check_times(self.cloud, self.now)
        if self.steps % CENSUS_EVERY == 0:
            self.take_census()

    def take_census(self) -> None:
        """Count all that the cores hold."""
        for edge in self.edges:
            most = bounds.most_edge_elements(self.swarm.edge)
            assert bounds.census(edge.core)[0] <= most, "an edge keeps more than its limits allow for"
        if self.cloud:
            self.truth.check_size(self.cloud)
