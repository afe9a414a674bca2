"""Who does not want the edges well: each a node of the network with an address of its own, and its habits."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from gradfec_common import wire
from gradfec_common.wire import Ack, Bye, Hello, Message, Report, Result, Welcome

from . import nodes
from .network import Origin, Parcel
from .nodes import CLOUD, Address
from .simulation import Simulation
from .swarm import POOL

Deeds = list[Parcel]
GIANT = (2**16, 2**31, 2**32 - 1)


class Attacker:
    """Acts now and then, until the network is healed."""

    name = "nobody"
    key_holder = False
    strikes = (3, 10, 30)

    def __init__(self, simulation: Simulation, end: float) -> None:
        """Take an address, and act at random times until `end`."""
        self.simulation = simulation
        self.address: Address = (self.name, next(simulation.ports))
        self.dice = random.Random(simulation.dice.getrandbits(63))
        self._become(self.address)
        for _ in range(self.dice.choice(self.strikes)):
            simulation.at(self.dice.uniform(simulation.now, end), self._strike)

    def _become(self, address: Address) -> None:
        truth = self.simulation.truth
        truth.not_sent.add(address)
        if not self.key_holder:
            truth.strangers.add(address)

    def _strike(self) -> None:
        if not self.simulation.healed:
            self.simulation.network.inject(self.deeds(), self.simulation.now)

    def deeds(self) -> Deeds:
        """Return what to put on the wire now."""
        raise NotImplementedError

    def somebody(self) -> Address:
        """Return an edge's address, or the cloud's."""
        return self.dice.choice([CLOUD, *(edge.address for edge in self.simulation.edges)])

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
        draw = lambda: Parcel(self.address, self.somebody(), nodes.garbage(self.dice), Origin.FORGED)  # noqa: E731
        return [draw() for _ in range(count)]


class Spoofer(Attacker):
    """Speaks in the name of an edge, or of the cloud: what it heard, changed; or what it makes up."""

    name = "spoofer"
    strikes = (10, 30)

    def deeds(self) -> Deeds:
        """See Attacker."""
        return [Parcel(p.source, p.destination, lie, Origin.FORGED) for p in self.overheard() for lie in self._lies(p)]

    def _lies(self, parcel: Parcel) -> list[bytes]:
        match self.dice.choice(["mutated", "mutated", "control", "symbols"]):
            case "control":
                return [nodes.forged_control(self.dice, parcel.payload)]
            case "symbols":
                encoded = self.simulation.pool[self.dice.randrange(POOL)].encoded
                return nodes.forged_symbols(self.dice, parcel.payload, encoded)
        lie = nodes.mutated(self.dice, parcel.payload)
        return [] if lie == parcel.payload else [lie]


class Replayer(Attacker):
    """Says again what it heard, at once or much later, as itself or as who said it."""

    name = "replayer"
    strikes = (10, 30)

    def deeds(self) -> Deeds:
        """See Attacker."""
        as_itself = self.dice.random() < 0.5
        said = [p._replace(source=self.address if as_itself else p.source) for p in self.overheard()]
        said = [parcel._replace(origin=Origin.REPLAYED) for parcel in said]
        if self.dice.random() < 0.7:
            later = self.simulation.now + self.dice.choice([0.1, 1.0, 3.0])
            self.simulation.at(later, lambda: self._say(said))
            return []
        return said

    def _say(self, said: Deeds) -> None:
        if not self.simulation.healed:
            self.simulation.network.inject(said, self.simulation.now)


class Flooder(Attacker):
    """Sends many hellos, from one address or from many, and many symbols of sessions that there are not."""

    name = "flooder"

    def deeds(self) -> Deeds:
        """See Attacker."""
        count = self.dice.choice([5, 30, 60])
        if self.dice.random() < 0.3:
            encoded = self.simulation.pool[self.dice.randrange(POOL)].encoded
            nowhere = self.dice.randbytes(8)
            flood = nodes.forged_symbols(self.dice, nowhere, encoded) * 3
            return [Parcel(self.address, CLOUD, datagram, Origin.FORGED) for datagram in flood]
        sources = [self.address]
        if self.dice.random() < 0.5:
            sources = [(f"flooder {self.dice.randrange(50)}", 1) for _ in range(count)]
            for source in sources:
                self._become(source)
        simulation = self.simulation
        draw = lambda: nodes.stray_hello(self.dice, simulation.split, simulation.grid)  # noqa: E731
        return [Parcel(self.dice.choice(sources), CLOUD, draw(), Origin.FORGED) for _ in range(count)]


class Insider(Attacker):
    """An edge with a good key that lies about every field of its symbols, and never acknowledges anything."""

    name = "insider"
    key_holder = True
    strikes = (10, 40)

    def __init__(self, simulation: Simulation, end: float) -> None:
        """Come in like any edge."""
        super().__init__(simulation, end)
        self.core = simulation.new_core(self.name)
        self._next = 0
        simulation.hear[self.address] = self._hear

    def _hear(self, datagram: bytes) -> None:
        self.core.receive(wire.batch_of([datagram], [None]), self.simulation.now)
        self.core.datagrams_to_send()  # acknowledgements, which it keeps to itself
        while self.core.next_event() is not None:
            pass

    def deeds(self) -> Deeds:
        """See Attacker."""
        now = self.simulation.now
        if self.core.next_timer() <= now:
            self.core.handle_timer(now)
        said = self.core.datagrams_to_send()
        if self.core.session:
            for _ in range(self.dice.choice([1, 1, 4, 20])):
                said += self._control() if self.dice.random() < 0.1 else self._symbols()
        return [Parcel(self.address, CLOUD, datagram, Origin.INSIDER) for datagram in said]

    def _control(self) -> list[bytes]:
        number, nonce = self._number(), self.dice.getrandbits(64)
        split, rows = self.simulation.split.id, self.simulation.grid.rows
        messages: list[Message] = [
            Ack([number] * 9, [*range(number % 100)]),
            Result(number, "partial", [], 0, 0, {}),
            Report(number, 1, 0, 9),
            Welcome(nonce, 1),
            Hello(nonce, split, rows, "insider"),
            Bye(),
        ]
        return [nodes.control_by(self.core, self.dice.choice(messages))]

    def _number(self) -> int:
        """Return a tensor's number: the next one, mostly, or one far away."""
        self._next = self.dice.choice([self._next, self._next + 1, self._next + 1, self._next + 200, *GIANT]) % 2**32
        return self._next

    def _symbols(self) -> list[bytes]:
        encoded = self.simulation.pool[self.dice.randrange(POOL)].encoded
        some = sorted(self.dice.sample(range(len(encoded.headers)), self.dice.randint(1, len(encoded.headers))))
        headers, symbols = encoded.headers[some].copy(), encoded.symbols[some].copy()
        for _ in range(self.dice.choice([0, 1, 1, 2, 5])):
            self._lie(headers)
        match self.dice.choice(["length", "places", "honest", "honest"]):
            case "length":
                symbols = np.resize(symbols, (len(some), self.dice.choice([1, 2, symbols.shape[1] + 1, 1156])))
            case "places":
                symbols[:, : wire.PLACE_BYTES] = self.dice.choice([0, 1, 255])
        said = nodes.symbols_by(self.core, self._number(), headers, symbols)
        return said * self.dice.choice([1, 1, 2])

    def _lie(self, headers: Any) -> None:
        """Say something else in one field, in all datagrams or in some."""
        field = self.dice.choice([*headers.dtype.names[6:], "position", "index", "n", "k", "sent", "kept"])
        where = slice(None, None, self.dice.choice([1, 1, 2, 3]))
        if field in ("low", "high"):
            lie: float = self.dice.choice([float("nan"), float("inf"), -3.4e38, 3.4e38, 0.0])
        else:
            most = 2 ** (8 * headers.dtype[field].itemsize) - 1
            true = int(headers[field][0])
            lie = self.dice.choice([0, 1, 2, max(true - 1, 0), true + 1, most, self.dice.randint(0, most)]) & most
        headers[field][where] = lie


ATTACKERS = {attacker.name: attacker for attacker in (Garbage, Spoofer, Replayer, Flooder, Insider)}
