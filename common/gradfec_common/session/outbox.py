"""What the cloud says to its edges: sealed, and to no address more bytes than have come from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from gradfec_common.session.records import Session
from gradfec_common.wire import SEAL_BYTES, Kind, Message, message_body


class Outbox:
    """Datagrams that are due, each with its destination."""

    def __init__(self, bites: Counter[str]) -> None:
        """Start with nothing to say; count in `bites` what was not sent, for its address had not sent as many bytes."""
        self._bites = bites
        self._due: list[tuple[bytes, Hashable]] = []

    def say(self, session: Session, message: Message | bytes) -> None:
        """Seal a message, or its body, for a session's edge.

        Nobody is made to flood an address that he only claims to have: what has come from it, authentic, pays for what
        goes there. What is due but not paid for is left out; an edge that is there sends far more than it gets.
        """
        body = message if isinstance(message, bytes) else message_body(message)
        cost = len(body) + SEAL_BYTES
        if session.credit < cost:
            self._bites["credit"] += 1
            return
        session.credit -= cost
        self._due.append((session.sealer.seal_one(Kind.MESSAGE, body), session.peer))

    def welcome(self, datagram: bytes, peer: Hashable) -> None:
        """Answer a hello, which is longer than any answer to it."""
        self._due.append((datagram, peer))

    def take(self) -> list[tuple[bytes, Hashable]]:
        """Return what is due, each once."""
        due, self._due = self._due, []
        return due
