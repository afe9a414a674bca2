"""Who does not want the edges well: each a node of the network with an address of its own, and its habits."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.session.edge import EdgeSession
from gradfec_common.wire import Kind

from . import nodes
from .network import Origin, Parcel
from .nodes import CLOUD, Address
from .simulation import Edge, Simulation
from .swarm import POOL

Deeds = list[Parcel]
SESSIONS_AT_ONCE = 12
GIANT = (2**16, 2**31, 2**32 - 1)
LATER_S = 0.01  # after which an insider says more of a tensor


class Attacker:
    """Acts now and then, until the network is healed."""

    name = "nobody"
    strikes = (3, 10, 30)

    def __init__(self, simulation: Simulation, end: float) -> None:
        """Take an address, and act at random times until `end`."""
        self.simulation = simulation
        self.address: Address = (self.name, next(simulation.ports))
        self.dice = random.Random(simulation.dice.getrandbits(63))
        for _ in range(self.dice.choice(self.strikes)):
            simulation.at(self.dice.uniform(simulation.now, end), self._strike)

    def _strike(self) -> None:
        self._say(self.deeds())

    def _say(self, parcels: Deeds) -> None:
        if not self.simulation.healed:
            self.simulation.network.inject(parcels, self.simulation.now)

    def deeds(self) -> Deeds:
        """Return what to put on the wire now."""
        raise NotImplementedError

    def somebody(self) -> Address:
        """Return an edge's address, or the cloud's."""
        return self.dice.choice([CLOUD, *(edge.address for edge in self.simulation.edges)])

    def anybody(self) -> Address:
        """Return an address to speak from: one's own, an edge's, the cloud's, or one that is nobody's."""
        return self.dice.choice([self.address, self.somebody(), ("nobody", self.dice.randrange(1, 6))])

    def overheard(self) -> list[Parcel]:
        """Return some of what has been on the wire of late."""
        heard = [*self.simulation.network.overheard]
        return self.dice.sample(heard, min(len(heard), self.dice.choice([1, 5, 20])))


class Garbage(Attacker):
    """Sends random bytes, and plausible headers, to everybody."""

    name = "garbage"

    def deeds(self) -> Deeds:
        """See Attacker."""
        count = self.dice.choice([1, 5, 30])
        draw = lambda: Parcel(self.anybody(), self.somebody(), nodes.garbage(self.dice), Origin.FORGED)  # noqa: E731
        return [draw() for _ in range(count)]


class Spoofer(Attacker):
    """Speaks in the name of an edge, or of the cloud: what it heard, changed; or what it makes up."""

    name = "spoofer"
    strikes = (10, 30)

    def deeds(self) -> Deeds:
        """See Attacker."""
        said = [(parcel, lie) for parcel in self.overheard() if (lie := self._lie(parcel)) != parcel.payload]
        sources = [self.dice.choice([parcel.source, parcel.source, self.anybody()]) for parcel, _ in said]
        return [
            Parcel(source, parcel.destination, lie, Origin.FORGED)
            for source, (parcel, lie) in zip(sources, said, strict=True)
        ]

    def _lie(self, parcel: Parcel) -> bytes:
        if self.dice.random() < 0.5:
            return nodes.forged(self.dice, parcel.payload)
        return nodes.mutated(self.dice, parcel.payload)


class Replayer(Attacker):
    """Says again what it heard, at once or much later, as itself or as who said it, to whom it was said or back."""

    name = "replayer"
    strikes = (10, 30)

    def deeds(self) -> Deeds:
        """See Attacker."""
        said = [self._said(parcel) for parcel in self._heard()]
        if self.dice.random() < 0.6:
            later = self.simulation.now + self.dice.choice([0.1, 1.0, 3.0])
            self.simulation.at(later, lambda: self._say(said))
            return []
        return said

    def _heard(self) -> Deeds:
        handshakes = [*self.simulation.network.handshakes]
        if handshakes and self.dice.random() < 0.4:  # those of long ago, too: the cloud may have forgotten them
            return [self.dice.choice(handshakes)] * self.dice.choice([1, 3])
        return self.overheard()

    def _said(self, parcel: Parcel) -> Parcel:
        match self.dice.choice(["as it was", "as itself", "as anybody", "back"]):
            case "as itself":
                parcel = parcel._replace(source=self.address)
            case "as anybody":
                parcel = parcel._replace(source=self.anybody())
            case "back":
                parcel = parcel._replace(source=parcel.destination, destination=parcel.source)
        return parcel._replace(origin=Origin.REPLAYED)


class Flooder(Attacker):
    """Sends many forged hellos, from one address or from many, and many symbols of sessions that it has heard of."""

    name = "flooder"

    def deeds(self) -> Deeds:
        """See Attacker."""
        count = self.dice.choice([5, 30, 60, 200])
        heard = self.overheard()
        if heard and self.dice.random() < 0.5:
            draw = lambda: nodes.forged(self.dice, self.dice.choice(heard).payload)  # noqa: E731
        else:
            ids = [*self.simulation.known]
            draw = lambda: nodes.forged_hello(self.dice, ids)  # noqa: E731
        sources = [self.address]
        if self.dice.random() < 0.5:
            sources = [(f"flooder {self.dice.randrange(50)}", 1) for _ in range(count)]
        return [Parcel(self.dice.choice(sources), CLOUD, draw(), Origin.FORGED) for _ in range(count)]


class Middle(Attacker):
    """Sits on an edge's link: holds back what it says, drops some, and says it from an address of its own.

    What the cloud says to that address it hands on; and it may tire of that, at any time, or take another address.
    """

    name = "middle"
    strikes = (2, 5)

    def deeds(self) -> Deeds:
        """Begin at an edge, or end."""
        if not self.simulation.victims:
            return []
        edge = self.dice.choice(self.simulation.victims)
        if self.simulation.taps.pop(edge.name, None) is None or self.dice.random() < 0.5:
            address = ("middle", next(self.simulation.ports))
            self.simulation.hear[address] = lambda datagram: self._hand_on(edge, datagram)
            delay, loss = self.dice.choice([0.0, 0.01, 0.3]), self.dice.choice([0.0, 0.1])
            self.simulation.taps[edge.name] = lambda parcels: self._take(parcels, address, delay, loss)
        return []

    def _take(self, parcels: Deeds, address: Address, delay: float, loss: float) -> Deeds:
        """Say what an edge says from another address, later; return what passes as it is."""
        if self.simulation.healed:
            return parcels
        mine = [parcel._replace(source=address, origin=Origin.REPLAYED) for parcel in parcels]
        passed = [parcel for parcel in mine if self.dice.random() >= loss]
        self.simulation.at(self.simulation.now + delay, lambda: self._say(passed))
        return [parcel for parcel in parcels if self.dice.random() < 0.05]

    def _hand_on(self, edge: Edge, datagram: bytes) -> None:
        self._say([Parcel(CLOUD, edge.address, datagram, Origin.REPLAYED)])


class KeyHolder(Attacker):
    """Somebody with a good key, whose cores come in like any edge, and never acknowledge anything."""

    def __init__(self, simulation: Simulation, end: float) -> None:
        """Come in."""
        super().__init__(simulation, end)
        self.key = simulation.keys[-1]
        self.cores: dict[Address, EdgeSession] = {}
        self._come(self.address)

    def _come(self, address: Address) -> EdgeSession:
        core = self.simulation.new_core(self.name, self.key, self.dice.choice([*Cipher]))
        self.cores[address] = core
        self.simulation.hear[address] = lambda datagram: self._hear(core, datagram)
        return core

    def _hear(self, core: EdgeSession, datagram: bytes) -> None:
        core.receive(wire.batch_of([datagram], [None]), self.simulation.now)
        self.simulation.ledger.take()
        while core.next_event() is not None:
            pass

    def _said(self, address: Address) -> Deeds:
        """Return what a core has to say, but for some of its acknowledgements."""
        core, now = self.cores[address], self.simulation.now
        if core.next_timer() <= now:
            core.handle_timer(now)
        said = core.datagrams_to_send()
        self.lied(datagram for datagram in said if datagram[2] == Kind.HELLO)
        return [Parcel(address, CLOUD, datagram, Origin.INSIDER) for datagram in said if self.dice.random() < 0.8]

    def lied(self, hellos: Any) -> None:
        """Note that what follows these hellos is not to be believed."""
        self.simulation.truth.lies.update(hellos)

    def _bodies(self) -> wire.Bytes:
        """Return the bodies of a tensor of the pool."""
        encoded = self.simulation.pool[self.dice.randrange(POOL)].encoded
        return encoded.bodies(0)


class Insider(KeyHolder):
    """Lies in every field of headers, in symbols and messages, and about what they are sealed in."""

    name = "insider"
    strikes = (20, 60)

    def __init__(self, simulation: Simulation, end: float) -> None:
        """Begin with the first tensor."""
        super().__init__(simulation, end)
        self._next = 0
        self._at_once = self.dice.choice([1, 2, 20])  # lies: with many, most are over the limit of what may be sent
        self._tensor: tuple[int, wire.Bytes] | None = None  # the latest: its number and its true bodies
        self._latest = np.empty((0, 0), np.uint8)  # the bodies that were sent last

    def deeds(self) -> Deeds:
        """See Attacker."""
        if self.dice.random() < 0.1 or self._is_out:  # what was said may leave the old session no way on
            self._come(self.address)
            self._next, self._tensor = 0, None
        core, lies = self.cores[self.address], list[bytes]()
        said = self._said(self.address)
        if self.dice.random() < 0.1:
            lies.append(nodes.odd_hello(self.key, self.dice))
            self.lied(lies)
        if core.session:
            for _ in range(self.dice.randint(1, self._at_once)):
                lies += self._lies(core)
        source = self.address if self.dice.random() < 0.8 else self.anybody()
        return said + [Parcel(source, CLOUD, lie, Origin.INSIDER) for lie in lies]

    @property
    def _is_out(self) -> bool:
        """Whether the cloud has ended the insider's session, or been told that it is over."""
        cloud, number = self.simulation.cloud, self.cores[self.address].session
        return bool(cloud and number) and number not in nodes.sessions_of(cloud)

    def _lies(self, core: EdgeSession) -> list[bytes]:
        match self.dice.choice([*["message"] * 2, "counter", *["again"] * 4, *["teach"] * 4, *["symbols"] * 12]):
            case "message":
                return [nodes.message_by(core, nodes.lies(self.dice, self._number()))]
            case "counter":
                return [nodes.miscounted_by(core, self.dice)]
            case "again" if self._tensor:  # sealed anew
                self._say_later(core, self._latest if self.dice.random() < 0.5 else self._altered(self._tensor[1]))
                return []
            case "teach" if grouped := [one for one in self.simulation.pool if len(one.plan.groups) > 1]:
                whole = self.dice.choice(grouped).encoded.bodies(0).copy()
                self._tensor, self._latest = (self._number(), whole), whole[:1]
                self._say_later(core, nodes.of_another_group(whole))
                return nodes.symbols_by(core, self._tensor[0], self._latest)
        self._tensor = self._number(), self._bodies().copy()
        self._latest = self._altered(self._tensor[1])
        said = nodes.symbols_by(core, self._tensor[0], self._latest)
        return said * self.dice.choice([1, 1, 2])

    def _say_later(self, core: EdgeSession, bodies: wire.Bytes) -> None:
        """Say more of the latest tensor in another batch."""
        assert self._tensor is not None
        number = self._tensor[0]

        def say() -> None:
            said = nodes.symbols_by(core, number, bodies)
            self._say([Parcel(self.address, CLOUD, datagram, Origin.INSIDER) for datagram in said])

        self.simulation.at(self.simulation.now + LATER_S, say)

    def _number(self) -> int:
        """Return a tensor's number: the next one, mostly, or one far away, after which most others are late."""
        far = self.dice.choice(GIANT) if self.dice.random() < 0.1 else self._next + 200
        self._next = self.dice.choice([self._next, *[self._next + 1] * 5, far]) % 2**32
        return self._next

    def _altered(self, whole: wire.Bytes) -> wire.Bytes:
        """Return some of a tensor's bodies, with lies."""
        count = min(self.dice.choice([1, 2, self.dice.randint(1, len(whole))]), len(whole))
        some = sorted(self.dice.sample(range(len(whole)), count))
        bodies = whole[some].copy()
        for _ in range(self.dice.choice([0, 0, 0, 1, 1, 2, 5])):
            nodes.lie_in_header(self.dice, bodies)
        if self.dice.random() < 0.3:  # the same datagram twice, each sealed by itself
            bodies = bodies.repeat(2, axis=0)
        match self.dice.choice(["length", "inside", "made up", *["honest"] * 4]):
            case "length":
                length = self.dice.choice([1, 18, 20, 40, bodies.shape[1] - 1, bodies.shape[1] + 1, 1168])
                return np.resize(bodies, (len(bodies), length))
            case "inside":
                nodes.lie_inside(self.dice, bodies)
            case "made up":
                return nodes.made_up(self.dice, self.simulation.grid.count)
        return bodies


class Greedy(KeyHolder):
    """Takes as many sessions as it gets, from many addresses, and sends more good tensors in each than are answered."""

    name = "greedy"
    strikes = (10, 30)

    def deeds(self) -> Deeds:
        """See Attacker."""
        if self.dice.random() < 0.3:
            for _ in range(self.dice.choice([1, 5, 60])):
                self._come((f"greedy {self.dice.randrange(3)}", next(self.simulation.ports)))
        said = [parcel for address in self.cores for parcel in self._said(address)]
        insiders = [address for address, core in self.cores.items() if core.session]
        for address in self.dice.sample(insiders, min(len(insiders), self.dice.choice([1, 2, 6]))):
            said += self._flood(address)
        if len(self.cores) > SESSIONS_AT_ONCE:
            self.cores = dict([*self.cores.items()][-SESSIONS_AT_ONCE:])
        return said

    def _flood(self, address: Address) -> Deeds:
        """Send tensors one after the other."""
        core, bodies, said = self.cores[address], self._bodies(), list[bytes]()
        for _ in range(self.dice.choice([1, 3, 10])):
            said += nodes.symbols_by(core, nodes.next_number(core), bodies)
        return [Parcel(address, CLOUD, datagram, Origin.INSIDER) for datagram in said]


ATTACKERS = {attacker.name: attacker for attacker in (Garbage, Spoofer, Replayer, Flooder, Middle, Insider, Greedy)}
