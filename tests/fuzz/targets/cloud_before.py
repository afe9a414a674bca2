"""A cloud and senders without a key: each datagram has one fate, gets no reply, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache

from tests.fuzz.reader import Reader
from tests.fuzz.state import state_of
from tests.fuzz.world import PEERS, STRANGERS_KEY, CloudWorld, Insider, hello_body

from gradfec_common.session.rates import Allowance
from gradfec_common.wire import Kind

MOST_S = 8.0  # of waiting
GOOD = {"hello", "ping", "ack", "bye", "collected", "surplus", "sketch"}


def target(data: bytes) -> None:
    """Throw datagrams at a cloud in the middle of an honest edge's tensor: made up, changed, and recorded ones.

    That they change nothing is seen at once, so that one cloud serves for all inputs in which no time passes.
    """
    reader = Reader(data)
    if reader.below(8):
        world = standing()
        (session,) = world.core._sessions
        session.allowance = Allowance(1e6, 1e6, world.now)
        throw_all(world, reader)
        return
    world, rest = in_the_middle()
    while reader.more and world.now < 100 + MOST_S:
        throw_all(world, reader)
        world.wait((0.0, 0.03, 0.3, 1.0)[reader.below(4)])
    if world.now < 100.1:
        world.feed(rest)
    else:  # it has been decided without them
        world.wait(1.0)
        world.answered, world.closed, world.expected = {}, {}, {}
        world.feed(world.send(2))
    world.finish()


def in_the_middle() -> tuple[CloudWorld, list[tuple[bytes, Hashable]]]:
    """Return a cloud that has some of a tensor's datagrams, and the others."""
    world = CloudWorld()
    tensor = world.send(0)
    world.feed(tensor[:5])
    return world, tensor[5:]


@lru_cache
def standing() -> CloudWorld:
    """Return the cloud that serves for all inputs in which no time passes."""
    return in_the_middle()[0]


@lru_cache
def recorded() -> list[bytes]:
    """Return datagrams that have come to the cloud already, or were meant for another."""
    seen = in_the_middle()[0].log
    other = CloudWorld(edge_seed=7)
    other.feed(other.send(1))
    other.finish()
    others = [datagram for datagram in other.log if datagram[2] != Kind.HELLO]
    return [*seen, *others[:3], *others[-8:], Insider(9, STRANGERS_KEY).hello(hello_body())]


def throw_all(world: CloudWorld, reader: Reader) -> None:
    """Check that some batches change nothing."""
    stock = recorded()
    before, fates = state_of(world.core), world.core.counts.copy()
    for _ in range(reader.below(4) + 1):
        batch = []
        for _ in range(reader.below(8)):
            datagram = reader.edited(stock[reader.below(len(stock))]) if reader.below(4) else reader.piece()
            batch.append((datagram, PEERS[reader.below(len(PEERS))]))
        logged = len(world.log)
        world.receive(batch)
        del world.log[logged:]
    assert not world.core.datagrams_to_send(), "a word to somebody without the key"
    assert not GOOD & (world.core.counts - fates).keys()
    assert state_of(world.core) == before, "what is not authentic has changed something"
