"""An edge and a mad cloud with the key: no exception, no counter used twice, each tensor closed once."""

from __future__ import annotations

from tests.fuzz.reader import Reader
from tests.fuzz.world import EdgeWorld

from gradfec_common import wire
from gradfec_common.wire import Ack, Bye, Hello, Kind, Ping, Pong, Refuse, Report, Request, Result, SketchPart, Welcome

MOST_S = 30.0
MOST_STEPS = 120
ANSWERS = (None, 1, [], [[]], [[1, "x"]], [[-1, "x", 0.5]], [[65_536, "x", 0.5]], [[1, "x" * 161, 0.5]], {"a": [b"b"]})


def target(data: bytes) -> None:
    """Let the cloud say what the bytes say."""
    reader = Reader(data)
    world = EdgeWorld(tensors_in_flight=4)
    waited = 0.0
    log: list[bytes] = []
    leaving = False
    for _ in range(MOST_STEPS):
        if not reader.more or waited > MOST_S:
            break
        match reader.below(8):
            case 0 if world.hellos:
                session = (7, 7, 8, 0)[reader.below(4)]
                body = reader.piece() if reader.below(4) == 0 else message(reader)
                log.append(world.welcome(session, body[:456]))
                world.receive(log[-1])
            case 1 | 2 if world.sessions:
                body = message(reader)[: wire.MAX_DATAGRAM_BYTES - 32]
                log.append(world.seal(body, Kind(1 + (reader.below(8) != 1))))
                world.receive(log[-1])
            case 3 if world.sessions:
                world.sessions[-1][1].counter += (0, 0, 1, 2**22)[reader.below(4)]
                log.append(world.seal(reader.piece()[: wire.MAX_DATAGRAM_BYTES - 32]))
                world.receive(log[-1])
            case 4 if log:
                batch = [log[-1 - reader.below(256) % len(log)] for _ in range(1 + reader.below(4))]
                world.receive(*batch)
            case 5:
                world.open()
            case 6:
                seconds = (0.001, 0.1, 0.5, 1.5, 3.0)[reader.below(5)]
                waited += seconds
                world.wait(seconds)
            case 7 if not leaving and reader.below(4) == 0:
                leaving = True
                world.core.leave(world.now)
        world.settle()
    if not leaving:
        world.wait(10.0)
        assert world.closed == world.opened, "a tensor that is never closed"


def message(reader: Reader) -> bytes:
    """Return the body of a message."""
    kind, number = reader.below(13), reader.number()
    messages = (
        Welcome(number * 10, number % 2 == 1),
        Welcome(2**32 - 1 - number),
        Result(number % 6, "complete", [[1, "x", 0.5]], 1, 2, {"decode": 1.0}),
        Report(number % 6, 16, 16, 0, b"\xff\xff"),
        Pong(),
        Bye(),
        Refuse("full", "wait"),
        Ping(),
        Ack([number], [2]),
        Hello(1, bytes(16), 2, 7, "e"),
        SketchPart(number, 0, 2, b"?"),
        Result(number % 6, "partial", ANSWERS[number % len(ANSWERS)], 0, 65_535, {}),
        Request(number % 6, number),
    )
    body = wire.message_body(messages[kind])
    return reader.edited(body) if reader.below(4) == 0 else body
