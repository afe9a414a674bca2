"""Keys that change while edges are there: whose key is gone goes, and the others are who they were."""

from __future__ import annotations

import random

import pytest
from tests.common.answers import HEAD

from gradfec_common.ciphers import Cipher
from gradfec_common.keys import Key
from gradfec_common.networks import named_cut
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import Connected, EdgeSession, LinkLost, Refused, new_hello
from gradfec_common.session.events import CloudLimits, SessionEnded, SessionOpened
from gradfec_common.session.greeter import Keys
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.wire import batch_of

NORTH, SOUTH = (Key(bytes(32 * [n])) for n in (1, 2))
CUT = named_cut("pool1_pool")


def keys(*named: tuple[Key, str]) -> Keys:
    """Derive keys anew, as from files that are read again."""
    return {key.id: HandshakeKey(key, label) for key, label in named}


class World:
    """A cloud that has both keys, and edges without a network between them."""

    def __init__(self, limits: CloudLimits) -> None:
        self.entropy = random.Random(1).randbytes
        self.cloud = CloudSessions([CUT], 0.25, keys((NORTH, "north"), (SOUTH, "south")), self.entropy, limits)
        self.edges: dict[str, EdgeSession] = {}

    def edge(self, name: str, key: Key) -> EdgeSession:
        hello = new_hello(CUT, 14, name, Cipher.CHACHA20_POLY1305)
        edge = self.edges[name] = EdgeSession(hello, HEAD, HandshakeKey(key), self.entropy, 0.0)
        self.exchange(0.0)
        return edge

    def exchange(self, now: float) -> None:
        """Let the edges do what is due, and carry what all sides say, until nobody says any more."""
        for edge in self.edges.values():
            edge.handle_timer(now)
        while said := [(d, name) for name, edge in self.edges.items() for d in edge.datagrams_to_send()]:
            self.cloud.receive(batch_of([datagram for datagram, _ in said], [name for _, name in said]), now)
            for datagram, name in self.cloud.datagrams_to_send():
                self.edges[str(name)].receive(batch_of([datagram], [None]), now)

    def hand_over(self) -> None:
        """Carry what the cloud says by itself."""
        for datagram, name in self.cloud.datagrams_to_send():
            self.edges[str(name)].receive(batch_of([datagram], [None]), 1.0)

    def events(self, of: CloudSessions | EdgeSession) -> list[object]:
        return [*iter(of.next_event, None)]


@pytest.fixture
def world() -> World:
    return World(CloudLimits(sessions_per_key=2))


def test_an_edge_whose_key_is_removed_is_told_so_and_comes_no_more_until_the_key_is_back(world: World) -> None:
    north, south = world.edge("a", NORTH), world.edge("b", SOUTH)
    assert [event.edge for event in world.events(world.cloud) if isinstance(event, SessionOpened)] == ["north", "south"]
    world.events(south)
    world.cloud.change_keys(keys((NORTH, "north")))
    world.hand_over()
    (ended,) = world.events(world.cloud)
    assert isinstance(ended, SessionEnded)
    assert (ended.edge, ended.reason) == ("south", "key removed")
    assert world.events(south) == [LinkLost(leaving=True)]
    world.exchange(2.0)
    assert (north.connected, south.connected, world.cloud.counts["unknown_key"]) == (True, False, 1)
    world.cloud.change_keys(keys((NORTH, "north"), (SOUTH, "south")))
    world.exchange(4.0)
    assert [event.fresh for event in world.events(south) if isinstance(event, Connected)] == [True]


def test_an_edge_that_has_said_next_to_nothing_is_said_goodbye_to_for_its_hello_has_paid_for_it(world: World) -> None:
    idle = world.edge("a", NORTH)
    world.events(idle)
    world.cloud.leave()
    world.hand_over()
    assert world.events(idle) == [LinkLost(leaving=True)]
    assert not world.cloud.bites["credit"]


def test_sessions_count_for_their_key_however_often_it_is_read_again(world: World) -> None:
    world.edge("a", NORTH)
    world.cloud.change_keys(keys((NORTH, "north")))
    world.edge("b", NORTH)
    world.cloud.change_keys(keys((NORTH, "north")))
    third = world.edge("c", NORTH)
    assert world.events(third) == [Refused("full", "the cloud serves 2 edges with this key already")]
    assert world.cloud.open_sessions == 2
