"""Two gateways behind a balancer: what keeps an edge on its gateway, and what if nothing does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tests.cloud.small import GRID, SPLIT, encoded, sure

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.keys import Key
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import Answered, EdgeSession, new_hello
from gradfec_common.session.events import Decided
from gradfec_common.session.handshake import HandshakeKey

KEY = HandshakeKey(Key(bytes(range(32))))
STEP_S, LOST_S = 0.01, 2.0


class Service:
    """Two gateways with the same keys, two edges, and a balancer between them, in virtual time."""

    def __init__(self, choose: Callable[[str, int], int]) -> None:
        """Send the datagrams of an edge to the gateway that `choose` returns for its address and the datagram."""
        dice = np.random.default_rng(1)
        self.now, self.choose, self.datagrams = 1000.0, choose, 0
        self.gateways = [CloudSessions([SPLIT], 0.5, {KEY.id: KEY}, dice.bytes) for _ in range(2)]
        self.up = [True, True]
        hellos = {name: new_hello(SPLIT, GRID.rows, name, Cipher.AES_256_GCM) for name in ("one", "two")}
        self.edges = {
            name: EdgeSession(hello, SPLIT.network.head, KEY, dice.bytes, self.now) for name, hello in hellos.items()
        }
        self.answered: list[tuple[str, int, int]] = []  # edge, tensor, gateway

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end:
            for name, edge in self.edges.items():
                if edge.next_timer() <= self.now:
                    edge.handle_timer(self.now)
                for datagram in edge.datagrams_to_send():
                    self.carry(name, datagram)
            for number, gateway in enumerate(self.gateways):
                if self.up[number]:
                    self.serve(number, gateway)
            self.now += STEP_S

    def carry(self, name: str, datagram: bytes) -> None:
        self.datagrams += 1
        number = self.choose(name, self.datagrams)
        if self.up[number]:
            self.gateways[number].receive(wire.batch_of([datagram], [name]), self.now)

    def serve(self, number: int, gateway: CloudSessions) -> None:
        gateway.handle_timer(self.now)
        while (event := gateway.next_event()) is not None:
            if isinstance(event, Decided):
                gateway.answer(event, sure(number), 0, 0, {}, self.now)
        for datagram, peer in gateway.datagrams_to_send():
            edge = self.edges[str(peer)]
            edge.receive(wire.batch_of([datagram], [None]), self.now)
            while (event := edge.next_event()) is not None:
                if isinstance(event, Answered):
                    self.answered.append((str(peer), event.tensor, number))

    def send(self, name: str) -> bool:
        """Let an edge send a frame, and wait a second; return whether it was answered."""
        edge, before = self.edges[name], len(self.answered)
        if not edge.connected:
            return False
        tensor, bodies = edge.open_tensor(encoded(1), self.now)
        sealed = edge.seal(tensor, bodies)
        assert sealed is not None
        for row in sealed:
            self.carry(name, row.tobytes())
        self.run(1.0)
        return len(self.answered) > before


def by_address(name: str, datagram: int) -> int:
    return ["one", "two"].index(name)


def test_by_address_each_edge_stays_with_its_gateway() -> None:
    service = Service(by_address)
    service.run(0.5)
    for _ in range(3):
        assert service.send("one") and service.send("two")
    assert {(name, gateway) for name, _, gateway in service.answered} == {("one", 0), ("two", 1)}
    assert [gateway.open_sessions for gateway in service.gateways] == [1, 1]


def test_an_edge_whose_gateway_is_gone_connects_to_the_other_and_the_other_edge_does_not_notice() -> None:
    service = Service(by_address)
    service.run(0.5)
    assert service.send("one")
    service.up[0] = False
    service.choose = lambda name, datagram: 1
    assert not service.send("one"), "that frame is lost"
    assert service.send("two")
    service.run(LOST_S)
    assert service.send("one") and service.send("two")
    assert service.answered[-2][2] == service.answered[-1][2] == 1
    assert service.gateways[1].counts["unknown_session"] > 0, "it says nothing to a session that it does not know"


def test_balanced_by_datagram_half_of_each_frame_goes_to_a_gateway_that_does_not_know_the_session() -> None:
    service = Service(lambda name, datagram: datagram % 2)
    service.run(0.5)
    for _ in range(4):
        service.send("one")
    unknown = sum(gateway.counts["unknown_session"] for gateway in service.gateways)
    collected = sum(gateway.counts["collected"] + gateway.counts["surplus"] for gateway in service.gateways)
    assert unknown > 0.4 * (unknown + collected) > 0
