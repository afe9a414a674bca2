"""A cloud that answers hellos, and says nothing else."""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from gradfec_common import wire

Reply = Callable[[wire.Hello], bytes]


@contextmanager
def fake_cloud(reply: Reply, got_symbol: threading.Event | None = None) -> Iterator[int]:
    """Answer each hello as `reply` says, and nothing else; yield the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (datagram := server.recvfrom(2048))[0] != b"stop":
                opened = wire.read_control(np.frombuffer(datagram[0], np.uint8))
                if not isinstance(opened, wire.Drop) and isinstance(opened[1], wire.Hello):
                    server.sendto(reply(opened[1]), datagram[1])
                elif got_symbol and datagram[0][2] == wire.Kind.SYMBOL:
                    got_symbol.set()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.sendto(b"stop", server.getsockname())
            thread.join()


def in_version(version: int, datagram: bytes) -> bytes:
    """Return a datagram as another version of the protocol would write it."""
    body = datagram[:1] + bytes([version]) + datagram[2:-4]
    return body + zlib.crc32(body).to_bytes(4, "big")
