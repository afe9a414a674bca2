"""The edge as everybody meets it who has no key: one fate a datagram, nothing changed, nothing said."""

from __future__ import annotations

from functools import lru_cache

from tests.fuzz.reader import Reader
from tests.fuzz.state import state_of
from tests.fuzz.world import EdgeWorld

from gradfec_common import wire
from gradfec_common.wire import Pong, Report, Result, Welcome

MOST_S = 8.0
WELCOME = wire.message_body(Welcome(250))
GOOD = {"welcome", "refuse", "pong", "result", "report", "bye"}
STAGES = ("looks", "connected", "leaves", "lost")


def target(data: bytes) -> None:
    """Throw datagrams at an edge that looks for its cloud, is connected, has lost it, or leaves.

    That they change nothing is seen at once, so that one edge serves for all inputs in which no time passes.
    """
    reader = Reader(data)
    stage = reader.below(len(STAGES))
    if reader.below(8):
        throw_all(standing(stage), reader, stage)
        return
    world = at(stage)
    end = world.now + MOST_S
    while reader.more and world.now < end:
        throw_all(world, reader, stage)
        world.wait((0.0, 0.1, 0.5, 1.0)[reader.below(4)])
    if STAGES[stage] in ("looks", "lost"):
        world.wait(4.0)
        world.receive(world.welcome(8, WELCOME))
        world.settle()
        assert world.core.connected
    elif STAGES[stage] == "connected":
        before = world.core.counts.copy()
        world.receive(world.seal(wire.message_body(Result(1, "partial", [], 0, 0, {}))))
        world.settle()
        assert (world.core.counts - before).keys() <= {"result", "late"}


def at(stage: int) -> EdgeWorld:
    """Return an edge at one of the STAGES; the same each time."""
    world = EdgeWorld()
    if STAGES[stage] == "looks":
        return world
    world.log.append(world.welcome(7, WELCOME))
    world.receive(world.log[0])
    world.settle()
    world.open()
    world.open()
    for message in (Pong(), Result(0, "complete", [], 0, 0, {}), Report(0, 16, 16, 0)):
        world.log.append(world.seal(wire.message_body(message)))
        world.receive(world.log[-1])
    world.settle()
    if STAGES[stage] == "leaves":
        world.core.leave(world.now)
        world.settle()
    if STAGES[stage] == "lost":
        world.wait(3.0)
    return world


@lru_cache
def standing(stage: int) -> EdgeWorld:
    """Return the edge at which all is thrown that takes no time."""
    return at(stage)


@lru_cache
def recorded(stage: int) -> list[bytes]:
    """Return what has come to the edge already, or was never meant for it; some of it of another session."""
    world, other = at(stage), EdgeWorld(seed=7)
    other.sessions.clear()
    welcome = other.welcome(7, WELCOME)
    return [*world.log, *world.hellos, welcome, other.seal(wire.message_body(Pong())), *other.hellos]


def throw_all(world: EdgeWorld, reader: Reader, stage: int) -> None:
    """See that what comes in some batches changes nothing."""
    stock = recorded(stage)
    before, fates = state_of(world.core), world.core.counts.copy()
    for _ in range(1 + reader.below(4)):
        batch = [
            reader.edited(stock[reader.below(len(stock))]) if reader.below(4) else reader.piece()
            for _ in range(reader.below(8))
        ]
        world.receive(*batch)
    assert state_of(world.core) == before, "what is not authentic has changed something"
    assert not GOOD & (world.core.counts - fates).keys()
