"""Hellos and welcomes: nothing but what the one with the key has made is taken for that."""

from __future__ import annotations

from functools import lru_cache

from tests.fuzz.reader import Reader
from tests.fuzz.world import HONEST_KEY, KEYS, STRANGERS_KEY, entropy, hello_body

from gradfec_common import wire
from gradfec_common.session.handshake import (
    AuthenticHello,
    EdgeHandshake,
    Established,
    answer_hello,
    read_hello,
)
from gradfec_common.wire import Drop, Welcome

MOST_DATAGRAMS = 16


@lru_cache
def fixtures() -> tuple[EdgeHandshake, dict[bytes, Established], list[bytes], dict[bytes, bytes]]:
    """Return an edge, the welcomes to it, others' datagrams, and all hellos by their bodies."""
    edge = EdgeHandshake(HONEST_KEY, hello_body(), entropy(1))
    other = EdgeHandshake(HONEST_KEY, hello_body(), entropy(2))
    strange = EdgeHandshake(STRANGERS_KEY, hello_body(), entropy(3))
    hello, others = read_hello(edge.hello, KEYS), read_hello(other.hello, KEYS)
    assert isinstance(hello, AuthenticHello)
    assert isinstance(others, AuthenticHello)
    welcomes = {}
    for session, body in ((7, wire.message_body(Welcome(250))), (0, b"\3\x82"), (1, b""), (2**32 - 1, b"x" * 456)):
        welcome, established = answer_hello(hello, session, body, entropy(session))
        welcomes[welcome] = established
    stock = [*welcomes, answer_hello(others, 7, b"\2\x80", entropy(9))[0], edge.hello, other.hello, strange.hello]
    return edge, welcomes, stock, {edge.hello: hello_body(), other.hello: hello_body()}


def target(data: bytes) -> None:
    """Change real hellos and welcomes, and read them."""
    edge, welcomes, stock, hellos = fixtures()
    reader = Reader(data)
    for _ in range(MOST_DATAGRAMS):
        if not reader.more:
            break
        datagram = reader.edited(stock[reader.below(len(stock))]) if reader.below(4) else reader.piece()
        hello = read_hello(datagram, KEYS)
        if datagram in hellos:
            assert isinstance(hello, AuthenticHello)
            assert hello.body == hellos[datagram]
        elif len(datagram) != 512:
            assert hello is Drop.BAD_LENGTH
        else:
            assert hello is (Drop.FORGED if datagram[8:16] in KEYS else Drop.UNKNOWN_KEY)
        assert edge.finish(datagram) == welcomes.get(datagram)
