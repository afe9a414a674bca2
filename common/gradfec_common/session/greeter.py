"""Who may come in: hellos are judged, limited and remembered, so that each is answered to one address for a while."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping
from typing import NamedTuple

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
    """Remembers hellos, which carry no time: the clocks of edge and cloud need not agree on anything."""

    def __init__(self, keys: Keys, limits: CloudLimits, bites: Counter[str]) -> None:
        """Let in who has one of `keys`; count in `bites` how often each limit bites."""
        self.keys = keys
        self._limits, self._bites = limits, bites
        self._greeted: OrderedDict[bytes, Greeting] = OrderedDict()  # by the edge's public key, oldest first
        self._overall: Allowance | None = None
        self._by_host: OrderedDict[Hashable, Allowance] = OrderedDict()  # the longest silent first

    def read(self, datagram: bytes, peer: Hashable, now: float) -> AuthenticHello | bytes | Drop:
        """Return a hello that is to be answered, the answer to repeat, or why there is none.

        Only who has a key gets as far as the limits, so nobody else can use them up.
        """
        hello = read_hello(datagram, self.keys)
        if isinstance(hello, Drop):
            return hello
        known = self._greeted.get(hello.public)
        if known is not None:  # the answer was lost; or somebody replays a hello, which opens nothing
            return known.welcome if known.peer == peer and now < known.until else Drop.REPLAYED
        return hello if self._allow(peer, now) else Drop.RATE_LIMIT

    def answered(self, hello: AuthenticHello, peer: Hashable, welcome: bytes, now: float) -> None:
        """Remember the answer to a hello; the oldest is forgotten where there are too many."""
        self._greeted[hello.public] = Greeting(peer, welcome, now + self._limits.greeting_s)
        if len(self._greeted) > self._limits.greetings:
            self._greeted.popitem(last=False)
            self._bites["greetings"] += 1

    def settled(self, public: bytes) -> None:
        """Answer a hello no more: its edge has the answer."""
        if public in self._greeted:
            self._greeted[public] = self._greeted[public]._replace(welcome=b"", until=0.0)

    def _allow(self, peer: Hashable, now: float) -> bool:
        limits = self._limits
        host = peer[0] if isinstance(peer, tuple) else peer  # of (host, port)
        mine = self._by_host.pop(host, None) or Allowance(
            limits.hellos_per_s_and_address, limits.hellos_per_s_and_address * limits.hello_burst_s, now
        )
        self._by_host[host] = mine
        if len(self._by_host) > limits.addresses:
            self._by_host.popitem(last=False)
            self._bites["addresses"] += 1
        self._overall = self._overall or Allowance(limits.hellos_per_s, limits.hellos_per_s * limits.hello_burst_s, now)
        for allowance, limit in ((mine, "hellos_per_s_and_address"), (self._overall, "hellos_per_s")):
            if not allowance.has_any(now):
                self._bites[limit] += 1
                return False
        mine.take(1)
        self._overall.take(1)
        return True
