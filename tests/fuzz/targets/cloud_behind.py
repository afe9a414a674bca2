"""A cloud and a malicious insider: bounds hold, and an honest edge beside the insider is served."""

from __future__ import annotations

from tests.fuzz.reader import Reader
from tests.fuzz.symbols_of import edited_symbol
from tests.fuzz.world import INSIDER, KINDS, MOST_HELD, PEERS, CloudWorld, Insider, content, hello_body

from gradfec_common import wire
from gradfec_common.wire import Ack, Bye, Hello, Kind, Ping, Pong, Refuse, Report, Result, SketchPart, Welcome

MOST_SENT = 400  # datagrams
MOST_STEPS = 40
MOST_TENSORS = 6  # of the honest edge
MOST_S = 20.0
LIMITS = {
    "sessions": 4,
    "sessions_per_key": 3,
    "greetings": 6,
    "addresses": 3,
    "tensors_per_s": 20.0,
    "tensors_per_session": 2,
    "pending_tensors": 4,
    "reassembly_bytes": 4 * MOST_HELD,
    "answers_per_session": 4,
    "tensor_window": 16,
    "sketch_bytes": 2048,
}


def target(data: bytes) -> None:
    """Let an insider say what the bytes say, and an honest edge send its tensors in between."""
    world = CloudWorld(**LIMITS)
    story = Story(world, Reader(data))
    story.greet(hello_body())
    for _ in range(MOST_STEPS):
        if not story.reader.more or story.sent >= MOST_SENT or story.waited >= MOST_S:
            break
        story.step()
    story.flush()
    story.flush()
    world.finish()


class Story:
    """What happens, one thing after the other."""

    def __init__(self, world: CloudWorld, reader: Reader) -> None:
        self.world, self.reader, self.insider = world, reader, Insider(5)
        self.batch: list[tuple[bytes, object]] = []
        self.later: list[tuple[bytes, object]] = []  # the rest of the honest edge's tensor, for the next batch
        self.sent, self.waited = 0, 0.0

    def greet(self, body: bytes, cipher: int | None = None) -> None:
        """Say hello as the insider, and take what the cloud answers."""
        self.flush()
        hello = self.insider.hello(body) if cipher is None else self.insider.hello(body, cipher)
        self.put(hello)
        self.flush()

    def put(self, datagram: bytes, peer: object = INSIDER) -> None:
        """Put something into the next batch."""
        self.batch.append((datagram, peer))
        self.sent += 1

    def flush(self) -> None:
        """Deliver the batch, and let the insider hear the replies."""
        batch, self.batch, self.later = self.batch, self.later, []
        self.world.feed(batch)
        heard, self.world.to_others = self.world.to_others, []
        for datagram, _ in heard:
            self.insider.hear(datagram)

    def step(self) -> None:
        """Do what the next bytes say."""
        reader, world = self.reader, self.world
        sealer = self.insider.sealer
        match reader.below(10):
            case 0 if sealer:
                body = edited_symbol(reader)
                peer = PEERS[reader.below(3)] if reader.below(8) == 1 else INSIDER
                for _ in range((1, 1, 1, 40)[reader.below(4)]):
                    self.put(sealer.seal_one(Kind.SYMBOL, body), peer)
            case 1 if sealer:
                sealer.counter += (0, 0, 1, 2**22)[reader.below(4)]
                self.put(sealer.seal_one(Kind(1 + reader.below(2)), reader.piece()[: wire.MAX_DATAGRAM_BYTES - 32]))
            case 2 if sealer:
                self.put(sealer.seal_one(Kind.MESSAGE, self.message()[: wire.MAX_DATAGRAM_BYTES - 32]))
            case 3:
                body = reader.piece() if reader.below(4) == 0 else b""
                wanted = {"name": "n" * reader.below(257)}
                if reader.below(4) == 0:
                    wanted |= {"cipher": reader.number(), "rows": reader.number(), "cut": reader.number(2)}
                self.greet(body[:446] or hello_body(**wanted), wanted.get("cipher"))
            case 4:
                self.put(world.log[reader.below(65536) % len(world.log)], PEERS[reader.below(3)])
            case 5 | 6:
                self.flush()
            case 7:
                self.flush()
                self.flush()
                seconds = (0.001, 0.02, 0.1, 0.3, 1.0, 6.0)[reader.below(6)]
                self.waited += seconds
                world.wait(seconds)
            case 8 if not world.edge.in_flight and len(world.expected) < MOST_TENSORS:
                tensor = world.send(reader.below(len(KINDS)))
                at_once = len(tensor) - reader.below(len(tensor))
                self.batch, self.later = [*self.batch, *tensor[:at_once]], [*self.later, *tensor[at_once:]]
            case 9 if sealer:
                tensor = reader.number(4) if reader.below(4) == 0 else reader.number()
                bodies = content(reader.below(len(KINDS))).encoded.bodies(tensor)
                for body in bodies[: max(len(bodies) - reader.below(16), 1)]:
                    self.put(sealer.seal_one(Kind.SYMBOL, body.tobytes()))

    def message(self) -> bytes:
        """Return the body of a message."""
        reader = self.reader
        kind, number = reader.below(10), reader.number()
        if kind == 9:
            part = SketchPart(number, reader.number(), reader.number(), reader.piece()[:1024])
            return wire.message_body(part)
        messages = (
            Ping(),
            Ack([number, number + 1], [*range(number)]),
            Bye(),
            Hello(1, bytes(16), 2, 7, "again"),
            Welcome(5),
            Refuse("full", ""),
            Pong(),
            Result(number, "complete", [], 1, 2, {}),
            Report(number, 1, 1, 0),
        )
        body = wire.message_body(messages[kind])
        return reader.edited(body) if reader.below(4) == 0 else body
