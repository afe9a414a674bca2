"""What the cloud says to its edges: sealed, and to no address more bytes than have come from it."""

from __future__ import annotations

from collections.abc import Hashable

from gradfec_common.session.effects import Bite
from gradfec_common.session.sessions import Session
from gradfec_common.wire import SEAL_BYTES, Kind


class Outbox:
    """Datagrams that are due, each with its destination."""

    def __init__(self) -> None:
        self._due: list[tuple[bytes, Hashable]] = []

    def say(self, session: Session, body: bytes) -> list[Bite]:
        """Seal the body of a message for a session's edge; leave it out where its credit is too small.

        A source address can be forged, and then the cloud would send its answers to a victim. So the authentic bytes
        that come from an address are the most that go there. An edge that is really there sends far more than it gets.
        """
        if not session.pay(len(body) + SEAL_BYTES):
            return [Bite("credit")]
        self._due.append((session.sealer.seal_one(Kind.MESSAGE, body), session.peer))
        return []

    def welcome(self, datagram: bytes, peer: Hashable) -> None:
        """Answer a hello, which is never shorter than its answer."""
        self._due.append((datagram, peer))

    def drain(self) -> list[tuple[bytes, Hashable]]:
        """Return what is due, each once."""
        due, self._due = self._due, []
        return due
