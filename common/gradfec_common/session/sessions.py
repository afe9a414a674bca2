"""The cloud's sessions: the data of each edge, how many there may be, and how long each may be silent."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common.keys import Entropy
from gradfec_common.seal import Opener, Sealer
from gradfec_common.session.events import CloudLimits, SessionMoved, SessionOpened
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.session.offer import Form
from gradfec_common.session.rates import Allowance
from gradfec_common.session.states import SESSION, SessionEvent, SessionState, after
from gradfec_common.wire import Batch

Rows = npt.NDArray[np.intp]  # of a batch


@dataclass
class Session:
    """The cloud's data of one edge."""

    id: int
    key: HandshakeKey
    hello: bytes  # the public key in the edge's hello
    edge: str  # its name
    forms: Mapping[int, Form]  # of its tensors, by number
    sealer: Sealer
    opener: Opener
    allowance: Allowance  # of datagrams
    peer: Hashable
    heard_at: float
    credit: int  # bytes that may be sent to `peer`
    state: SessionState = SessionState.TENTATIVE

    @property
    def is_open(self) -> bool:
        """Whether its edge has used it."""
        return self.state is SessionState.OPEN

    def move(self, event: SessionEvent) -> None:
        """Change the state as the table says."""
        self.state = after(SESSION, self.state, event)

    def hear(
        self, batch: Batch, rows: Rows, counters: npt.NDArray[Any], now: float
    ) -> SessionOpened | SessionMoved | None:
        """Note that (m,) `rows` of a batch, with their counters, are authentic and new; return the news, if any.

        The edge is where its newest datagram came from. An older one moves nothing: anyone on the way can hold a
        datagram back, and send it later from somewhere else.
        """
        was_open, moved = self.is_open, False
        self.move(SessionEvent.SIGN_OF_LIFE)
        self.heard_at = now
        self.allowance.spend(len(rows))  # only authentic datagrams count, so nobody else can use it up
        latest = int(counters.argmax())
        peer = batch.peer(int(rows[latest]))
        if peer != self.peer and int(counters[latest]) == self.opener.newest:
            self.peer, self.credit, moved = peer, 0, True
        if self.peer in batch.peers:
            from_there = batch.senders[rows] == batch.peers.index(self.peer)
            self.credit += int(batch.lengths[rows][from_there].sum())
        if not was_open:
            return SessionOpened(self.id, self.edge, self.peer)
        return SessionMoved(self.id, self.edge, peer) if moved else None

    def pay(self, cost: int) -> bool:
        """Take bytes off the credit; return False, and take none, if there are too few."""
        if self.credit < cost:
            return False
        self.credit -= cost
        return True


class Sessions:
    """All sessions that have not ended, by number, the oldest first."""

    def __init__(self, limits: CloudLimits) -> None:
        self._limits = limits
        self._sessions: dict[int, Session] = {}
        self._look_at: float | None = None  # when to look for silent ones: one timer for all, or hellos would pile up

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        """Iterate over a copy, so that sessions may end meanwhile."""
        return iter([*self._sessions.values()])

    def __contains__(self, number: int) -> bool:
        return number in self._sessions

    def __getitem__(self, number: int) -> Session:
        return self._sessions[number]

    def get(self, number: int) -> Session | None:
        """Return the session of a number, or None."""
        return self._sessions.get(number)

    @property
    def open(self) -> list[Session]:
        """Those that an edge uses."""
        return [session for session in self._sessions.values() if session.is_open]

    def new_number(self, entropy: Entropy) -> int:
        """Draw a number (u32, not 0) that no session has."""
        number = 0
        while number == 0 or number in self._sessions:
            number = int.from_bytes(entropy(4), "big")
        return number

    def add(self, session: Session, now: float) -> None:
        """Keep a new session until it ends."""
        self._sessions[session.id] = session
        if self._look_at is None:
            self._look_at = now + self._limits.greeting_s

    def end(self, session: Session, event: SessionEvent) -> bool:
        """Forget a session; return whether an edge used it."""
        was_open = session.is_open
        session.move(event)
        del self._sessions[session.id]
        return was_open

    def in_the_way(self, key: HandshakeKey) -> Session | None:
        """Return the session that has to end before a new one with `key` can be kept, if any.

        It is the oldest tentative one, or the oldest tentative one with `key` if this key has no more places. So
        replayed hellos push out one another, but never an edge.
        """
        every = [*self._sessions.values()]
        of_key = [session for session in every if session.key.id == key.id]
        for sessions, most in ((of_key, self._limits.sessions_per_key), (every, self._limits.sessions)):
            if len(sessions) >= most:
                return next(session for session in sessions if not session.is_open)
        return None

    @property
    def look_at(self) -> float | None:
        """When to look for silent sessions next."""
        return self._look_at

    def silent(self, now: float) -> list[Session]:
        """Return the sessions that have been silent for too long, which have to end; look again later."""
        found = []
        for session in self._sessions.values():
            patience_s = self._limits.session_idle_s if session.is_open else self._limits.greeting_s
            if session.heard_at + patience_s <= now:
                found.append(session)
        self._look_at = now + self._limits.greeting_s if len(found) < len(self) else None
        return found
