"""A cloud that has the daemons' key and answers their hellos, and nothing else."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradfec_cli.daemons import own_key
from gradfec_common import wire
from gradfec_common.session.handshake import AuthenticHello, HandshakeKey, answer_hello, read_hello
from gradfec_host.key_files import read_key

SESSION = 1
Reply = Callable[[wire.Hello], wire.Welcome | wire.Refuse]


@contextmanager
def fake_cloud(reply: Reply, got_symbol: threading.Event | None = None, version: int = wire.VERSION) -> Iterator[int]:
    """Answer each hello as `reply` says, in that version of the protocol, and nothing else; yield the port."""
    key = HandshakeKey(read_key(own_key()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (received := server.recvfrom(2048))[0] != b"stop":
                datagram, peer = received
                hello = read_hello(datagram, {key.id: key})
                if isinstance(hello, AuthenticHello):
                    said = answer(hello, reply)
                    server.sendto(said[:1] + bytes([version]) + said[2:], peer)
                elif got_symbol and datagram[2] == wire.Kind.SYMBOL:
                    got_symbol.set()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.sendto(b"stop", server.getsockname())
            thread.join()


def answer(hello: AuthenticHello, reply: Reply) -> bytes:
    """Return the welcome, or the refusal, that `reply` wants a hello to be answered with."""
    wanted = wire.read_message(hello.body)
    assert isinstance(wanted, wire.Hello)
    said = reply(wanted)
    number = SESSION if isinstance(said, wire.Welcome) else 0
    answered = answer_hello(hello, number, wire.message_body(said), os.urandom)
    assert answered
    return answered[0]
