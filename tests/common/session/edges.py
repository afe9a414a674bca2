"""An edge's core under a clock that the test moves, and answers for it."""

from tests.common.answers import HEAD, TIGER_CAT
from tests.common.small_tensors import encoded, planned

from gradfec_common import wire
from gradfec_common.session.edge import Closed, EdgeLimits, EdgeSession
from gradfec_common.session.handshake import answer_hello, read_hello
from gradfec_common.wire import Kind, Pong, Refuse, Report, Result, Welcome
from gradfec_common.wire.symbol import read_headers

from .ends import KEY, WANTED, cloud_end, entropy_of

SESSION, OTHER = 7, 8
TENSOR = encoded(planned("FEC_50_50"))
WELCOME = Welcome(250)


def result(number, outcome="complete"):
    return Result(number, outcome, TIGER_CAT.packed(), 0, 0, {"decode": 1.0})


def report(number):
    return Report(number, 12, 12, 0)


class Edge:
    """An edge's core under a clock that the test moves; checks what must hold after every step."""

    def __init__(self, **limits):
        self.start = self.now = 50.0
        self.core = EdgeSession(WANTED, HEAD, KEY, entropy_of(2), self.now, EdgeLimits(**limits))
        self.events = []
        self.sent = []  # (time since the start, session, message)
        self.more = []  # the bodies of symbols that were asked for
        self.fed = 0
        self.opened, self.closed = set(), []
        self.hellos = []  # the datagrams that the edge has said hello with
        self.ends = {}  # the cloud's ends, by session
        self.entropy = entropy_of(3)

    # --- what comes ---

    def feed(self, *datagrams):
        """Take in a batch of datagrams."""
        self.core.receive(wire.batch_of(datagrams, [None] * len(datagrams)), self.now)
        self.fed += len(datagrams)
        self.look()

    def hear(self, *messages, session=SESSION):
        """Take in a batch of messages, or of any bytes as their bodies, from the cloud's end of a session."""
        self.feed(*self.ends[session].says(*messages))

    def answer_to(self, hello, message=WELCOME, session=SESSION, key=KEY):
        """Make the answer to a hello, and keep the cloud's end of the session."""
        body = message if isinstance(message, bytes) else wire.message_body(message)
        welcome, established = answer_hello(read_hello(hello, {key.id: key}), session, body, self.entropy)
        if session:
            self.ends[session] = cloud_end(established)
        return welcome

    def welcome(self, message=WELCOME, session=SESSION):
        """Hear a welcome to the newest hello."""
        self.feed(self.answer_to(self.hellos[-1], message, session))

    def refuse(self, reason, detail="because"):
        """Hear a refusal of the newest hello."""
        self.feed(self.answer_to(self.hellos[-1], Refuse(reason, detail), 0))

    # --- what goes ---

    def wait(self, seconds):
        """Let time pass, with each timer handled when it is due."""
        end = self.now + seconds
        while (due := self.core.next_timer()) <= end:
            self.now = max(due, self.now)
            self.core.handle_timer(self.now)
            assert self.core.next_timer() > self.now  # or the shell would spin
            self.look()
        self.now = end

    def look(self):
        """Take what the edge says and does, and check it."""
        for datagram in self.core.datagrams_to_send():
            assert len(datagram) <= wire.MAX_DATAGRAM_BYTES
            if datagram[2] == Kind.SYMBOL:
                self.more.append(self.ends[int.from_bytes(datagram[4:8], "big")].opener.open_one(datagram))
            else:
                self.sent.append((round(self.now - self.start, 6), *self._read(datagram)))
        while (event := self.core.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, Closed):
                self.closed.append(event.tensor)
        assert sum(self.core.counts.values()) == self.fed  # exactly one fate each
        assert len(self.closed) == len(set(self.closed))  # closed once
        assert self.opened - set(self.closed) == set(self.core._tensors._tensors)

    def _read(self, datagram):
        number = int.from_bytes(datagram[4:8], "big")
        if datagram[2] != Kind.HELLO:
            return number, self.ends[number].reads(datagram)
        self.hellos.append(datagram)
        return number, wire.read_message(read_hello(datagram, {KEY.id: KEY}).body)

    def connect(self, session=SESSION):
        """Say hello, be welcomed, and hear that the cloud has heard it."""
        self.wait(0)
        self.welcome(session=session)
        self.hear(Pong(), session=session)
        assert self.core.connected
        self.took()
        self.said()

    def open(self, sending_s=0.0, tensor=TENSOR):
        number, bodies = self.core.open_tensor(tensor, self.now, sending_s)
        self.opened.add(number)
        assert set(read_headers(bodies)["tensor"].tolist()) == {number}
        return number

    def took_more(self):
        """Take the bodies of symbols that were asked for."""
        more, self.more = self.more, []
        return more

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
        """Fates of datagrams, without those that are 0."""
        return dict(+self.core.counts)
