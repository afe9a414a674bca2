"""A cloud's core under a clock that the test moves, and tensors for it."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
from tests.common.answers import TIGER_CAT
from tests.common.small_tensors import CUT, GRID, ZERO, alone, bodies_of, planned

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.codes import ZFEC
from gradfec_common.decode import decode_tensor
from gradfec_common.protect import Group, Plan
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.events import CloudLimits, Decided, SessionOpened
from gradfec_common.transmit import room_for
from gradfec_common.wire import Hello, Kind, Ping, Welcome

from .ends import KEY, OTHER_KEY, WANTED, drawn_handshake, edge_end, entropy_of

DEADLINE_S = 0.25
ALICE, BOB = ("alice", 1), ("bob", 2)
# 11 packets kept, 16 datagrams sent, with a packet each: groups of (7, 4) and (9, 7); without parity: 12 bare ones
PLAN = Plan(
    GRID.count,
    np.array([11]),
    (Group(7, (alone([3, 1, 4, 0], ZFEC),)), Group(9, (alone([5, 9, 2, 6, 8, 7, 10], ZFEC),))),
)
BARE_PLAN = planned("none")
NESTED = planned("nested:2,4/6", room=room_for())  # all 12 packets in 6 datagrams, 2 to a symbol; any 2 give back 4
SYMBOL_BYTES = PLAN.symbol_bytes
FAST, MOMENT_S = 1e9, 1e-6  # tensors a second, and a moment after which the allowance is full again


class Cloud:
    """A cloud's core under a clock that the test moves; checks what must hold after every step."""

    def __init__(self, keys=(KEY, OTHER_KEY), cuts=(CUT,), sketches=False, **limits):
        self.now = 100.0
        by_id = {key.id: key for key in keys}
        self.core = CloudSessions(cuts, DEADLINE_S, by_id, entropy_of(1), CloudLimits(**limits), sketches=sketches)
        self.events = []
        self.sent = []  # (datagram, peer) not yet looked at
        self.fed = 0
        self.hellos = {}  # handshake and cipher of each hello that was drawn
        self.welcomes = {}  # what each welcome establishes
        self.ends = {}  # the edges' ends, by session
        self.end_of = {}  # the same, by hello
        self.seeds = itertools.count(1000)
        self.came, self.went = Counter(), Counter()  # bytes, by address

    # --- what comes ---

    def feed(self, *datagrams, peer=ALICE):
        """Take in a batch of datagrams from one address."""
        self.feed_from(*[(datagram, peer) for datagram in datagrams])

    def feed_from(self, *pairs, waited_s=0.0):
        """Take in a batch of datagrams, each with its sender; they came `waited_s` ago, one number or one for each."""
        datagrams = [datagram for datagram, _ in pairs]
        batch = wire.batch_of(datagrams, [peer for _, peer in pairs])
        batch.waited_s[:] = waited_s
        self.core.receive(batch, self.now)
        self.fed += len(datagrams)
        for datagram, peer in pairs:
            self.came[peer] += len(datagram)
        self.look([datagram for datagram in datagrams if datagram in self.hellos])

    def say(self, message, session, peer=ALICE):
        self.feed(*session.says(message), peer=peer)

    def hello(self, wanted=WANTED, key=KEY):
        """Draw a hello, whose answer will be understood."""
        handshake = drawn_handshake(next(self.seeds), wanted, key)
        self.hellos[handshake.hello] = handshake, wanted.cipher if isinstance(wanted, Hello) else 0
        return handshake.hello

    def greet(self, wanted=WANTED, peer=ALICE, key=KEY):
        """Say hello, and return the edge's end of the new session, None where there is none."""
        hello = self.hello(wanted, key)
        self.feed(hello, peer=peer)
        return self.end_of.get(hello)

    def connect(self, peer=ALICE, name="edge", key=KEY, cipher=WANTED.cipher):
        """Open a session, and use it: with a question, whose answer is not looked at."""
        session = self.greet(replace(WANTED, cipher=cipher, name=name), peer, key)
        self.feed(*session.says(Ping()), peer=peer)
        assert self.took(SessionOpened)[-1].session == session.number
        self.told()
        return session

    # --- what goes ---

    def wait(self, seconds):
        """Let time pass, with each timer handled when it is due."""
        end = self.now + seconds
        while (due := self.core.next_timer()) is not None and due <= end:
            self.now = max(due, self.now)
            self.core.handle_timer(self.now)
            again = self.core.next_timer()
            assert again is None or again > self.now  # or the shell would spin
            self.look()
        self.now = end

    def look(self, hellos=()):
        """Take what the cloud says and does, and check it."""
        while (event := self.core.next_event()) is not None:
            self.events.append(event)
        for datagram, peer in self.core.datagrams_to_send():
            assert len(datagram) <= wire.MAX_DATAGRAM_BYTES
            self.went[peer] += len(datagram)
            self.sent.append((datagram, peer))
            if datagram[2] == Kind.WELCOME:
                self._meet(datagram, hellos)
        assert not self.went - self.came  # to no address more bytes than came from it
        assert sum(self.core.counts.values()) == self.fed  # exactly one fate each
        tensors = self.core.tensors
        ended = sum(count for fate, count in tensors.items() if fate != "opened")
        assert tensors["opened"] == ended + self.core.open_tensors
        assert self.core.held_bytes <= self.core.limits.reassembly_bytes
        assert self.core.open_sessions <= self.core.limits.sessions

    def _meet(self, welcome, hellos):
        """Read a welcome to one of `hellos`; keep the edge's end if the session is new."""
        hello, established = next((h, e) for h in hellos if (e := self.hellos[h][0].finish(welcome)) is not None)
        self.welcomes[welcome] = established
        if established.session and established.session not in self.ends:
            self.end_of[hello] = edge_end(established, Cipher(self.hellos[hello][1]))
            self.ends[established.session] = self.end_of[hello]

    @property
    def answers(self):
        """Take what was sent since the last call: (session, message, peer)."""
        sent, self.sent = self.sent, []
        return [(*self._read(datagram), peer) for datagram, peer in sent]

    def _read(self, datagram):
        if datagram in self.welcomes:
            return self.welcomes[datagram].session, wire.read_message(self.welcomes[datagram].body)
        number = int.from_bytes(datagram[4:8], "big")
        return number, self.ends[number].reads(datagram)

    def told(self, kind=None):
        """Take the messages sent since the last call."""
        return [message for _, message, _ in self.answers if kind is None or isinstance(message, kind)]

    def took(self, kind):
        """Take the events of a kind."""
        found = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found

    def answer(self, decided, recovered=0, missing=0):
        self.core.answer(decided, TIGER_CAT, recovered, missing, {"back_end": 1.0}, self.now)
        self.look()

    def answer_all(self):
        decided = self.took(Decided)
        for tensor in decided:
            result = decode_tensor(tensor.arrived, ZERO)
            self.answer(tensor, result.recovered, result.missing)
        return decided

    @property
    def counts(self):
        """Fates of datagrams, without those that are 0."""
        return dict(+self.core.counts)

    @property
    def tensors(self):
        return dict(+self.core.tensors)


def timers_of(cloud):
    """How many places the timers take."""
    core = cloud.core
    return len(core._tensors._timers) + len(core._repeater._timers) + (core._sessions.look_at is not None)


def tensor_of(session, number=0, plan=PLAN):
    """A tensor's datagrams in send order, sealed anew each time."""
    return session.sends(*bodies_of(plan, seed=number, tensor=number))


WELCOME = Welcome(round(DEADLINE_S * 1000))
