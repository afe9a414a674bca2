"""A relay between an edge and a cloud that keeps a copy of what the edge says: what an eavesdropper would have."""

from __future__ import annotations

import select
import socket
import threading
from pathlib import Path

from gradfec_cloud.port import RECEIVE_BUFFER_BYTES
from gradfec_common.wire import Kind
from gradfec_host.buffers import grow_receive_buffer

MOST = 4096  # datagrams kept: the first ones since it began, and each hello that was heard: others may be answered once


class Wiretap:
    """Relays one edge's datagrams both ways until closed."""

    def __init__(self, cloud_port: int) -> None:
        """Listen on `port` for the edge."""
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        grow_receive_buffer(self._front, RECEIVE_BUFFER_BYTES)
        self.port: int = self._front.getsockname()[1]
        self._back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._back.connect(("127.0.0.1", cloud_port))
        for each in (self._front, self._back):
            each.setblocking(False)  # what made it readable may be an error that a send has been told meanwhile
        self._edge: tuple[str, int] | None = None
        self._kept: list[bytes] = []
        self._asked: set[bytes] = set()  # hellos since the last welcome
        self._welcome = b""  # the last one
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._relay, daemon=True)
        self._thread.start()

    def save(self, path: Path) -> Path:
        """Write the copies to a file, each after its length."""
        path.write_bytes(b"".join(len(datagram).to_bytes(2, "big") + datagram for datagram in self._kept))
        return path

    def forget(self) -> None:
        """Throw the copies away and begin anew."""
        self._kept, self._asked = [], set()

    def close(self) -> None:
        """Relay nothing more."""
        self._closed.set()
        self._thread.join(timeout=5)
        self._front.close()
        self._back.close()

    def _relay(self) -> None:
        while not self._closed.is_set():
            ready, _, _ = select.select([self._front, self._back], [], [], 0.2)
            for source in ready:
                try:
                    self._pass_on(source)
                except OSError:  # noqa: PERF203 - nobody there, for now
                    continue

    def _pass_on(self, source: socket.socket) -> None:
        if source is self._back:
            datagram = self._back.recv(2048)
            if datagram[2:3] == bytes([Kind.WELCOME]) and datagram != self._welcome:
                if len(self._asked) == 1:  # of several it could be the answer to any, and the others were lost
                    self._kept += self._asked
                self._asked, self._welcome = set(), datagram
            if self._edge:
                self._front.sendto(datagram, self._edge)
            return
        datagram, self._edge = self._front.recvfrom(2048)
        if datagram[2:3] == bytes([Kind.HELLO]):
            self._asked.add(datagram)
        elif len(self._kept) < MOST:
            self._kept.append(datagram)
        self._back.send(datagram)
