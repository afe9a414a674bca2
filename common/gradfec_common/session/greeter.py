"""Which hellos are answered: they are judged, limited and remembered, so that each is answered to one address only.

A hello proves that it was made with the key, but not that it is new. It carries no time, because the clocks of
edge and cloud need not agree. So the cloud remembers the hellos that it has answered. The edge's own repetition comes
from the same address, and gets the same welcome again; a replay from elsewhere gets nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import NamedTuple

from gradfec_common.session.effects import Bite
from gradfec_common.session.events import CloudLimits
from gradfec_common.session.handshake import AuthenticHello, HandshakeKey, read_hello
from gradfec_common.session.rates import Allowance
from gradfec_common.wire import Drop

Keys = Mapping[bytes, HandshakeKey]  # by their ids


class Greeting(NamedTuple):
    """A hello that has been answered: to whom, with what, and until when again."""

    peer: Hashable
    welcome: bytes
    until: float


class Greeter:
    """The hellos that were answered, and how many more may be."""

    def __init__(self, keys: Keys, limits: CloudLimits) -> None:
        """Answer the hellos of `keys`."""
        self.keys = keys
        self._limits = limits
        self._greeted: OrderedDict[bytes, Greeting] = OrderedDict()  # by the edge's public key, oldest first
        self._overall: Allowance | None = None
        self._by_host: OrderedDict[Hashable, Allowance] = OrderedDict()  # the longest silent first

    def read(self, datagram: bytes, peer: Hashable, now: float) -> tuple[AuthenticHello | bytes | Drop, list[Bite]]:
        """Return a hello that is to be answered, the answer to repeat, or why there is none; and limits that were hit.

        Only hellos made with a key count towards the limits, so nobody else can use them up.
        """
        hello = read_hello(datagram, self.keys)
        if isinstance(hello, Drop):
            return hello, []
        known = self._greeted.get(hello.public)
        if known is not None:
            return (known.welcome if known.peer == peer and now < known.until else Drop.REPLAYED), []
        allowed, bites = self._allow(peer, now)
        return (hello if allowed else Drop.RATE_LIMIT), bites

    def remember(self, hello: AuthenticHello, peer: Hashable, welcome: bytes, now: float) -> list[Bite]:
        """Remember the answer to a hello; the oldest is forgotten if there are too many."""
        self._greeted[hello.public] = Greeting(peer, welcome, now + self._limits.greeting_s)
        if len(self._greeted) <= self._limits.greetings:
            return []
        self._greeted.popitem(last=False)
        return [Bite("greetings")]

    def settle(self, public: bytes) -> None:
        """Do not answer a hello again: its edge has the answer."""
        if public in self._greeted:
            self._greeted[public] = self._greeted[public]._replace(welcome=b"", until=0.0)

    def _allow(self, peer: Hashable, now: float) -> tuple[bool, list[Bite]]:
        limits, bites = self._limits, list[Bite]()
        host = peer[0] if isinstance(peer, tuple) else peer  # of (host, port)
        mine = self._by_host.pop(host, None) or Allowance(
            limits.hellos_per_s_and_address, limits.hellos_per_s_and_address * limits.hello_burst_s, now
        )
        self._by_host[host] = mine
        if len(self._by_host) > limits.addresses:
            self._by_host.popitem(last=False)
            bites.append(Bite("addresses"))
        self._overall = self._overall or Allowance(limits.hellos_per_s, limits.hellos_per_s * limits.hello_burst_s, now)
        for allowance, limit in ((mine, "hellos_per_s_and_address"), (self._overall, "hellos_per_s")):
            if not allowance.has_any(now):
                return False, [*bites, Bite(limit)]
        mine.spend(1)
        self._overall.spend(1)
        return True, bites
