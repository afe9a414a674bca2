"""A UDP relay that can be switched off, and that can change its address as a NAT does."""

from __future__ import annotations

import socket
import threading

from gradfec_host.console import Endpoint


class Relay:
    """A relay for one client."""

    def __init__(self, target: int) -> None:
        self.on = True
        self._front = bound()
        self._front.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 2**20)
        self.port = self._front.getsockname()[1]
        self._target = ("127.0.0.1", target)
        self._client: tuple[str, int] | None = None
        self._back: socket.socket
        self.rebind()
        threading.Thread(target=self._up, daemon=True).start()

    def rebind(self) -> None:
        """Send from another port from now on, and hear nothing at the old one any more."""
        self._back = bound()
        threading.Thread(target=self._down, args=(self._back,), daemon=True).start()

    @property
    def address(self) -> Endpoint:
        """Where the target sees the client."""
        return Endpoint(*self._back.getsockname())

    def carried(self, datagram: bytes) -> None:
        """Hear of a datagram on its way to the target."""

    def _up(self) -> None:
        while True:
            data, self._client = self._front.recvfrom(2048)
            if self.on:
                self.carried(data)
                self._back.sendto(data, self._target)

    def _down(self, back: socket.socket) -> None:
        while back is self._back:
            data, _ = back.recvfrom(2048)
            if self.on and self._client and back is self._back:
                self._front.sendto(data, self._client)


def bound() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("127.0.0.1", 0))
    return opened
