"""Whatever byte of a datagram somebody changes on its way, the receivers name the fate, and nothing else happens."""

import pytest
from tests.fuzz.state import state_of
from tests.fuzz.world import CUT, HONEST, CloudWorld, EdgeWorld, Insider, content, hello_body, sketch_of

from gradfec_common import wire
from gradfec_common.sketch import sketch_bytes
from gradfec_common.wire import Ack, Bye, Hello, Kind, Ping, Pong, Refuse, Report, Result, SketchPart, Welcome

FLIPS = (0x01, 0x80, 0xFF)
RESULT = Result(0, "complete", [[282, "tiger cat", 0.5]], 0, 0, {"decode": 1.0})
REPORT = Report(0, 16, 16, 0, b"\xff\xff")
MESSAGES = (
    Hello(1, CUT.network.digest, CUT.id, 7, "e"),
    Welcome(5),
    Refuse("full", ""),
    Ping(),
    Pong(),
    RESULT,
    REPORT,
    Ack([0], [0]),
    Bye(),
    SketchPart(0, 0, 1, sketch_bytes(sketch_of(content(0))._replace(photograph=b""))),
)


def name_of(message):
    return message.kind.name.lower()


def flipped(datagram):
    """Each byte with each flip: (offset, the datagram)."""
    for offset in range(len(datagram)):
        for flip in FLIPS:
            yield offset, datagram[:offset] + bytes([datagram[offset] ^ flip]) + datagram[offset + 1 :]


def outer_fate(offset, changed):
    """What can be seen of a changed datagram without a key, or None: section 7.4 of docs/reference/protocol.md."""
    if offset == 0:
        return "not_gradfec"
    if offset == 1:
        return "unknown_version"
    if offset == 2 and changed[2] not in {*Kind}:
        return "unknown_kind"
    return None


class Watched:
    """A receiver of which all is compared before and after each datagram."""

    def __init__(self, world, receive):
        self.world, self._receive = world, receive
        self.before = state_of(world.core)

    def fate(self, datagram):
        """The one fate of a datagram that changes nothing and is not answered."""
        counted = self.world.core.counts.copy()
        self._receive(datagram)
        assert not self.world.core.datagrams_to_send()
        assert self.world.core.next_event() is None
        assert state_of(self.world.core) == self.before
        (fate,) = (self.world.core.counts - counted).elements()
        return fate


# --- the cloud ---


def clouds(cipher):
    """A cloud in whose session with an insider counter 0 has come, and that insider."""
    world = CloudWorld()
    insider = Insider(5)
    world.feed([(insider.hello(hello_body(cipher=cipher), cipher), HONEST)])
    for datagram in world.log:
        insider.hear(datagram)
    world.feed([(insider.sealer.seal_one(Kind.MESSAGE, wire.message_body(Ping())), HONEST)])
    return world, insider


def watched_cloud(world):
    return Watched(world, lambda datagram: world.receive([(datagram, HONEST)]))


@pytest.fixture(params=[1, 2], ids=["AES_256_GCM", "CHACHA20_POLY1305"])
def cloud(request):
    return clouds(request.param)


def symbol_of(insider):
    return insider.sealer.seal_one(Kind.SYMBOL, content(0).bodies[0])


def sealed_fate(offset, changed):
    """What the cloud makes of a changed sealed datagram of a session in which counter 0 alone has come."""
    if fate := outer_fate(offset, changed):
        return fate
    if 4 <= offset < 8:
        return "unknown_session"
    if 8 <= offset < 16 and int.from_bytes(changed[8:16], "big") == 0:
        return "replayed"
    return "forged"


def test_the_cloud_takes_no_hello_with_any_byte_changed():
    world = CloudWorld()
    watched, hello = watched_cloud(world), Insider(5).hello(hello_body())
    for offset, changed in flipped(hello):
        expected = outer_fate(offset, changed) or ("unknown_key" if 8 <= offset < 16 else "forged")
        if offset == 2 and changed[2] == Kind.WELCOME:
            expected = "unexpected"
        assert watched.fate(changed) == expected, offset
    world.feed([(hello, HONEST)])
    assert world.core.counts["hello"] == 2  # the honest edge's, and this one after all


def test_the_cloud_takes_no_hello_of_another_length():
    world = CloudWorld()
    watched, hello = watched_cloud(world), Insider(5).hello(hello_body())
    for length in range(len(hello)):
        assert watched.fate(hello[:length]) == ("too_short" if length <= 32 else "bad_length"), length
    assert watched.fate(hello + b"\0") == "bad_length"
    assert watched.fate(hello.ljust(1201, b"\0")) == "too_long"


def test_the_cloud_takes_no_symbol_with_any_byte_changed(cloud):
    world, insider = cloud
    watched, symbol = watched_cloud(world), symbol_of(insider)
    for offset, changed in flipped(symbol):
        assert watched.fate(changed) == sealed_fate(offset, changed), offset
    world.feed([(symbol, HONEST)])
    assert world.core.counts["collected"] == 1


def test_the_cloud_takes_no_symbol_of_another_length(cloud):
    world, insider = cloud
    watched, symbol = watched_cloud(world), symbol_of(insider)
    for length in range(len(symbol)):
        expected = "too_short" if length <= 32 else "bad_length" if length <= 32 + 22 else "forged"
        assert watched.fate(symbol[:length]) == expected, length
    assert watched.fate(symbol + b"\0") == "forged"
    assert watched.fate(symbol.ljust(1201, b"\0")) == "too_long"


@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_the_cloud_takes_no_message_with_any_byte_changed_nor_cut_short(cloud, message):
    world, insider = cloud
    watched = watched_cloud(world)
    sealed = insider.sealer.seal_one(Kind.MESSAGE, wire.message_body(message))
    for offset, changed in flipped(sealed):
        assert watched.fate(changed) == sealed_fate(offset, changed), offset
    for length in range(len(sealed)):
        assert watched.fate(sealed[:length]) == ("too_short" if length <= 32 else "forged"), length
    assert watched.fate(sealed + b"\0") == "forged"
    assert watched.fate(sealed.ljust(1201, b"\0")) == "too_long"
    good = {Ping: "ping", Ack: "ack", Bye: "bye", SketchPart: "sketch"}
    before = world.core.counts.copy()
    world.receive([(sealed, HONEST)])
    assert [*(world.core.counts - before)] == [good.get(type(message), "unexpected")]


# --- the edge ---


def edges(*, connected):
    world = EdgeWorld()
    if connected:
        world.receive(world.welcome(7, wire.message_body(Welcome(250))))
        world.settle()
        world.open()
        world.receive(world.seal(wire.message_body(Pong())))
        world.settle()
    return world, Watched(world, world.receive)


@pytest.mark.parametrize("message", [Welcome(250), Refuse("full", "")], ids=name_of)
def test_the_edge_takes_no_welcome_with_any_byte_changed_nor_cut_short(message):
    world, watched = edges(connected=False)
    welcome = world.welcome(7 if isinstance(message, Welcome) else 0, wire.message_body(message))
    for offset, changed in flipped(welcome):
        expected = outer_fate(offset, changed) or "forged"
        if offset == 2 and changed[2] == Kind.HELLO:
            expected = "unexpected"
        assert watched.fate(changed) == expected, offset
    for length in range(len(welcome)):
        assert watched.fate(welcome[:length]) == ("too_short" if length <= 32 else "forged"), length
    assert watched.fate(welcome + b"\0") == "forged"
    assert watched.fate(welcome.ljust(1201, b"\0")) == "too_long"
    world.receive(welcome)
    assert world.core.counts[name_of(message)] == 1


@pytest.mark.parametrize("kind", [Kind.MESSAGE, Kind.SYMBOL], ids=lambda kind: kind.name)
@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_the_edge_takes_no_message_with_any_byte_changed_nor_cut_short(message, kind):
    world, watched = edges(connected=True)
    sealed = world.seal(wire.message_body(message), kind)
    for offset, changed in flipped(sealed):
        assert watched.fate(changed) == sealed_fate(offset, changed), offset
    for length in range(len(sealed)):
        assert watched.fate(sealed[:length]) == ("too_short" if length <= 32 else "forged"), length
    assert watched.fate(sealed + b"\0") == "forged"
    assert watched.fate(sealed.ljust(1201, b"\0")) == "too_long"
    good = {Pong: "pong", Result: "result", Report: "report", Bye: "bye"}
    before = world.core.counts.copy()
    world.receive(sealed)
    expected = good.get(type(message), "unexpected") if kind is Kind.MESSAGE else "unexpected"
    assert [*(world.core.counts - before)] == [expected]
