"""A cloud's core under a clock that the test moves, and tensors for it."""

import numpy as np
from tests.common.small_tensors import GRID, SPLIT, checksum_holds, datagrams_of

from gradfec_common import wire
from gradfec_common.codes import BARE, ZFEC
from gradfec_common.plan import Block, Plan
from gradfec_common.reassembly import decode_tensor
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.events import CloudLimits, Decided, SessionOpened
from gradfec_common.wire import Hello

DEADLINE_S = 0.25
ALICE, BOB = ("alice", 1), ("bob", 2)
# 11 packets kept, 16 symbols sent: (7, 4) and (9, 7); without parity: 12 bare ones
PLAN = Plan(
    GRID.count,
    np.array([11]),
    (Block(np.array([3, 1, 4, 0]), 7, ZFEC), Block(np.array([5, 9, 2, 6, 8, 7, 10]), 9, ZFEC)),
)
BARE_PLAN = Plan(GRID.count, np.empty(0, np.intp), (Block(np.arange(12), 12, BARE),))
SYMBOL_BYTES = 30
TOP5 = [[282, "tiger cat", 0.5]]


class Cloud:
    """A cloud's core under a clock that the test moves; checks what must hold after every step."""

    def __init__(self, **limits):
        self.now = 100.0
        self.core = CloudSessions(SPLIT, DEADLINE_S, np.random.default_rng(1), CloudLimits(**limits))
        self.events = []
        self.answers = []  # (session, message, peer) not yet looked at
        self.fed = 0

    def feed(self, *datagrams, peer=ALICE):
        self.core.receive(wire.batch_of(datagrams, [peer] * len(datagrams)), self.now)
        self.fed += len(datagrams)
        self._collect()

    def say(self, message, session=0, peer=ALICE):
        self.feed(wire.control_datagram(session, message), peer=peer)

    def wait(self, seconds):
        """Let time pass, with each timer handled when it is due."""
        end = self.now + seconds
        while (due := self.core.next_timer()) is not None and due <= end:
            self.now = max(due, self.now)
            self.core.handle_timer(self.now)
            self._collect()
        self.now = end

    def _collect(self):
        while (event := self.core.next_event()) is not None:
            self.events.append(event)
        for datagram, peer in self.core.datagrams_to_send():
            row = np.frombuffer(datagram, np.uint8)
            assert checksum_holds(datagram)
            assert len(datagram) <= wire.MAX_DATAGRAM_BYTES
            self.answers.append((*wire.read_control(row), peer))
        assert sum(self.core.counts.values()) == self.fed  # exactly one fate each
        tensors = self.core.tensors
        ended = sum(count for fate, count in tensors.items() if fate != "opened")
        assert tensors["opened"] == ended + self.core.open_tensors
        assert self.core.held_bytes <= self.core.limits.reassembly_bytes

    def told(self, kind=None):
        """Take the messages sent since the last call."""
        answers, self.answers = self.answers, []
        return [message for _, message, _ in answers if kind is None or isinstance(message, kind)]

    def took(self, kind):
        """Take the events of a kind."""
        found = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found

    def connect(self, nonce=1, peer=ALICE, name="edge"):
        self.say(Hello(nonce, SPLIT.id, GRID.rows, name), peer=peer)
        return self.took(SessionOpened)[-1].session

    def answer(self, decided, recovered=0, missing=0):
        self.core.answer(decided, TOP5, recovered, missing, {"back_end": 1.0}, self.now)
        self._collect()

    def answer_all(self):
        decided = self.took(Decided)
        for tensor in decided:
            result = decode_tensor(tensor.arrived)
            self.answer(tensor, result.recovered, result.missing)
        return decided

    @property
    def counts(self):
        """Fates that have befallen a datagram."""
        return dict(+self.core.counts)

    @property
    def tensors(self):
        return dict(+self.core.tensors)


def tensor_of(session, number=0, plan=PLAN):
    return datagrams_of(plan, seed=number, session=session, tensor=number)
