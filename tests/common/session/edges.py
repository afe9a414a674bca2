"""An edge's core under a clock that the test moves, and answers for it."""

import numpy as np
from tests.common.small_tensors import GRID, SPLIT, checksum_holds, encoded, headers_of

from gradfec_common import wire
from gradfec_common.plan import UnequalProtection
from gradfec_common.session.edge import Closed, EdgeLimits, EdgeSession
from gradfec_common.wire import Hello, Report, Result, Welcome

NONCE, SESSION, OTHER = 42, 7, 8
TENSOR = encoded(UnequalProtection(50).plan(np.arange(GRID.count, dtype=np.float32)))


def result(number, outcome="complete"):
    return Result(number, outcome, [[282, "tiger cat", 0.5]], 0, 0, {"decode": 1.0})


def report(number):
    return Report(number, 12, 12, 0)


class Edge:
    """An edge's core under a clock that the test moves; checks what must hold after every step."""

    def __init__(self, **limits):
        self.start = self.now = 50.0
        self.core = EdgeSession(Hello(NONCE, SPLIT.id, GRID.rows, "edge"), self.now, EdgeLimits(**limits))
        self.events = []
        self.sent = []  # (time since the start, session, message)
        self.fed = 0
        self.opened, self.closed = set(), []

    def hear(self, *messages, session=SESSION):
        """Take in a batch of messages, or of raw datagrams."""
        raw = [m if isinstance(m, bytes) else wire.control_datagram(session, m) for m in messages]
        self.core.receive(wire.batch_of(raw, [None] * len(raw)), self.now)
        self.fed += len(raw)
        self._collect()

    def wait(self, seconds):
        """Let time pass, with each timer handled when it is due."""
        end = self.now + seconds
        while (due := self.core.next_timer()) <= end:
            self.now = max(due, self.now)
            self.core.handle_timer(self.now)
            assert self.core.next_timer() > self.now  # or the shell would spin
            self._collect()
        self.now = end

    def _collect(self):
        for datagram in self.core.datagrams_to_send():
            row = np.frombuffer(datagram, np.uint8)
            assert checksum_holds(datagram)
            assert len(datagram) <= wire.MAX_DATAGRAM_BYTES
            self.sent.append((round(self.now - self.start, 6), *wire.read_control(row)))
        while (event := self.core.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, Closed):
                self.closed.append(event.tensor)
        assert sum(self.core.counts.values()) == self.fed  # exactly one fate each
        assert len(self.closed) == len(set(self.closed))  # closed once
        assert self.opened - set(self.closed) == set(self.core._awaiting)

    def connect(self):
        self.wait(0)
        self.hear(Welcome(NONCE, 250))
        assert self.core.connected
        self.took()
        self.said()

    def open(self, sending_s=0.0):
        number, datagrams = self.core.open_tensor(TENSOR, self.now, sending_s)
        self.opened.add(number)
        assert set(headers_of([d.tobytes() for d in datagrams])["tensor"].tolist()) == {number}
        return number

    def took(self, kind=None):
        """Take the events of a kind."""
        found = [e for e in self.events if kind is None or isinstance(e, kind)]
        self.events = [e for e in self.events if e not in found]
        return found

    def said(self, kind=None):
        """Take what was sent since the last call: (time, message)."""
        sent, self.sent = self.sent, []
        return [(when, message) for when, _, message in sent if kind is None or isinstance(message, kind)]

    @property
    def counts(self):
        return dict(+self.core.counts)
