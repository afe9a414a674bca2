"""Edge and cloud, their cores joined by a bad link in virtual time: they find each other, and tensors are answered."""

import heapq
import itertools

import numpy as np
import pytest
from tests.common.answers import HEAD, TIGER_CAT
from tests.common.small_tensors import CUT, GRID, ZERO, encoded, planned

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.decode import decode_tensor
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import Answered, Closed, Connected, EdgeSession, LinkLost, new_hello
from gradfec_common.session.events import Decided, SessionEnded, SessionMoved, SessionOpened
from gradfec_common.wire import Kind

from .clouds import ALICE, BOB, DEADLINE_S
from .ends import KEY, entropy_of

TENSOR = encoded(planned("FEC_50_50"))


class Pair:
    """An edge and a cloud, and a link that loses, delays and so reorders what they say."""

    def __init__(self, seed, loss=0.0, delay_s=0.01, jitter_s=0.02, cipher=Cipher.AES_256_GCM):
        self.now = 1000.0
        self.rng = np.random.default_rng(seed)
        self.loss, self.delay_s, self.jitter_s = loss, delay_s, jitter_s
        self.entropy = entropy_of(seed)
        self.start_cloud()
        self.edge = EdgeSession(new_hello(CUT, GRID.rows, "edge", cipher), HEAD, KEY, self.entropy, self.now)
        self.address = ALICE
        self.on_the_way = []  # (when it arrives, ticket, to the cloud?, datagram, address of the edge)
        self.ticket = itertools.count()
        self.events, self.cloud_events = [], []
        self.heard = []  # by the cloud

    def start_cloud(self):
        """Start the cloud, or one that knows nothing."""
        self.cloud = CloudSessions([CUT], DEADLINE_S, {KEY.id: KEY}, self.entropy)

    def carry(self, datagram, address, *, up):
        if self.rng.random() >= self.loss:
            when = self.now + self.delay_s + self.rng.random() * self.jitter_s
            heapq.heappush(self.on_the_way, (when, next(self.ticket), up, datagram, address))

    def run(self, seconds, until=lambda: False):
        """Let time pass, at most until something is so; tell whether it is."""
        end, steps = self.now + seconds, 0
        self.look()
        while not until():
            dues = [self.edge.next_timer(), self.cloud.next_timer(), *(when for when, *_ in self.on_the_way[:1])]
            due = min(due for due in dues if due is not None)
            if due > end:
                self.now = end
                return until()
            steps += 1
            assert steps < 20_000, "time stands still"
            self.now = max(due, self.now)
            self.step()
        return True

    def step(self):
        while self.on_the_way and self.on_the_way[0][0] <= self.now:
            _, _, up, datagram, address = heapq.heappop(self.on_the_way)
            if up:
                self.cloud.receive(wire.batch_of([datagram], [address]), self.now)
                self.heard.append(datagram)
            elif address == self.address:
                self.edge.receive(wire.batch_of([datagram], [None]), self.now)
        if self.edge.next_timer() <= self.now:
            self.edge.handle_timer(self.now)
        if (due := self.cloud.next_timer()) is not None and due <= self.now:
            self.cloud.handle_timer(self.now)
        self.look()

    def look(self):
        while (event := self.cloud.next_event()) is not None:
            self.cloud_events.append(event)
            if isinstance(event, Decided):
                decoded = decode_tensor(event.arrived, ZERO)
                self.cloud.answer(event, TIGER_CAT, decoded.recovered, decoded.missing, {}, self.now)
        for datagram, address in self.cloud.datagrams_to_send():
            self.carry(datagram, address, up=False)
        while (event := self.edge.next_event()) is not None:
            self.events.append(event)
        for datagram in self.edge.datagrams_to_send():
            self.carry(datagram, self.address, up=True)

    def send(self):
        number, bodies = self.edge.open_tensor(TENSOR, self.now)
        for datagram in self.edge.seal(number, bodies):
            self.carry(datagram.tobytes(), self.address, up=True)
        return number

    def took(self, kind):
        return [event for event in [*self.events, *self.cloud_events] if isinstance(event, kind)]

    def answered(self):
        return any(isinstance(event, Answered) for event in self.events)


def first_answer_s(pair):
    """How long an edge that sends a tensor whenever it is connected waits for the first answer."""
    start = pair.now
    while not pair.answered():
        assert pair.now - start < 60
        if pair.run(60, lambda: pair.edge.connected or pair.answered()) and not pair.answered():
            pair.send()
            pair.run(0.5, pair.answered)
    return pair.now - start


@pytest.mark.parametrize("cipher", Cipher, ids=[cipher.name for cipher in Cipher])
def test_on_a_good_link_the_first_answer_comes_after_two_round_trips(cipher):
    pair = Pair(1, jitter_s=0.0, cipher=cipher)
    assert first_answer_s(pair) == pytest.approx(0.04)
    pair.run(1)
    (closed,) = pair.took(Closed)
    assert closed.report.received == 12
    assert pair.cloud.unacknowledged == 0
    assert len(pair.took(SessionOpened)) == 1


def test_with_half_of_all_lost_either_way_every_edge_is_answered_and_most_within_2_s():
    times = sorted(first_answer_s(Pair(seed, loss=0.5)) for seed in range(150))
    assert times[len(times) // 2] < 2
    assert times[int(0.9 * len(times))] < 8  # one hello in four is answered, and after 3 s there is one a second
    assert times[-1] < 40


@pytest.mark.parametrize("seed", range(5))
def test_with_half_of_all_lost_sessions_last_and_nothing_piles_up(seed):
    pair = Pair(seed, loss=0.5)
    for _ in range(200):
        if pair.edge.connected and pair.edge.open_tensors < 100:
            pair.send()
        pair.run(0.3)
    assert len(pair.took(Answered)) > 50
    assert pair.cloud.open_sessions <= 10
    assert pair.cloud.open_tensors < 20
    assert pair.edge.open_tensors < 20
    assert len(pair.cloud._reception._greeter._greeted) < 100
    numbers = [event.tensor for event in pair.took(Closed)]
    assert len(numbers) == len(set(numbers))


def test_a_link_that_is_cut_for_a_while_goes_on_in_the_same_session():
    pair = Pair(3, jitter_s=0.0)
    first_answer_s(pair)
    (opened,) = pair.took(SessionOpened)
    pair.send()
    pair.loss = 1.0
    pair.run(1.6)  # lost after 1.5 s, and no new session is sought yet
    assert pair.took(LinkLost)
    pair.loss = 0.0
    assert pair.run(2, lambda: pair.edge.connected)
    assert [e.fresh for e in pair.took(Connected)] == [True, False]
    assert pair.edge.session == opened.session
    assert len(pair.took(SessionOpened)) == 1


@pytest.mark.parametrize("cut_s", [3.0, 10.0, 28.0])
def test_a_longer_cut_does_not_end_a_session_that_the_cloud_still_has(cut_s):
    pair = Pair(3, jitter_s=0.0)  # question and hello arrive in the order in which they were sent
    first_answer_s(pair)
    pair.loss = 1.0
    pair.run(cut_s)
    pair.loss = 0.0
    assert pair.run(2, lambda: pair.edge.connected)
    pair.run(1)
    assert [e.fresh for e in pair.took(Connected)][1:] in ([False], [])
    assert len(pair.took(SessionOpened)) == 1
    pair.run(15)
    assert len(pair.cloud._sessions) == 1


def test_a_cloud_that_has_restarted_is_found_with_a_new_session():
    pair = Pair(4)
    first_answer_s(pair)
    pair.start_cloud()
    pair.send()
    pair.run(1)
    assert pair.cloud.counts["unknown_session"] > 12
    assert pair.run(5, lambda: pair.edge.connected and pair.edge.session in pair.cloud._sessions)
    assert [e.fresh for e in pair.took(Connected)] == [True, True]
    pair.events.clear()
    assert first_answer_s(pair) < 1


def test_a_cloud_that_leaves_and_comes_back_is_found_at_once():
    pair = Pair(5)
    first_answer_s(pair)
    pair.cloud.leave()
    assert pair.run(1, lambda: pair.took(LinkLost))
    assert pair.took(LinkLost) == [LinkLost(leaving=True)]
    pair.cloud.say_goodbye()
    pair.run(0.2)
    pair.start_cloud()
    assert pair.run(2.5, lambda: pair.edge.connected)


def test_an_edge_whose_address_changes_goes_on_in_its_session():
    pair = Pair(6)
    first_answer_s(pair)
    pair.address = BOB
    pair.events.clear()
    pair.send()
    assert pair.run(1, pair.answered)
    assert [e.peer for e in pair.took(SessionMoved)] == [BOB]
    pair.address = (BOB[0], 99)
    pair.run(6, lambda: len(pair.took(SessionMoved)) == 2)  # with nothing to send, it is a question that moves it
    pair.run(5)
    assert pair.edge.connected
    assert not pair.took(LinkLost)
    assert len(pair.took(SessionOpened)) == 1


def test_an_edge_that_leaves_ends_its_session_though_half_is_lost():
    for seed in range(30):
        pair = Pair(seed, loss=0.5)
        first_answer_s(pair)
        session = pair.edge.session
        pair.edge.leave(pair.now)
        assert pair.run(1.2, lambda pair=pair: pair.edge.left)
        assert session in [e.session for e in pair.took(SessionEnded)]


def test_all_that_a_link_has_carried_changes_nothing_when_it_comes_again():
    pair = Pair(7)
    first_answer_s(pair)
    pair.send()
    pair.run(1)
    before, opened = pair.cloud.tensors.copy(), len(pair.took(SessionOpened))
    pair.cloud.datagrams_to_send()
    recorded = [*pair.heard]
    assert {datagram[2] for datagram in recorded} == {Kind.HELLO, Kind.SYMBOL, Kind.MESSAGE}
    replayed = pair.cloud.counts["replayed"]
    pair.cloud.receive(wire.batch_of(recorded, [("eve", 6)] * len(recorded)), pair.now)
    assert pair.cloud.counts["replayed"] == replayed + len(recorded)
    assert pair.cloud.datagrams_to_send() == []
    assert pair.cloud.tensors == before
    pair.run(0.1)
    assert len(pair.took(SessionOpened)) == opened
    assert not pair.took(SessionMoved)
