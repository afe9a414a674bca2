"""Frames pass through both protocol cores and a worker pool that this file adds to the registry."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from tests.cloud.small import GRID, SPLIT, Deliveries, encoded, infer, stations, sure, sure_of

from gradfec_cloud.inference import Inference
from gradfec_cloud.workers import WORKERS
from gradfec_cloud.workers.local import LocalWorkers
from gradfec_cloud.workers.pool import Batch, WorkersKind
from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.heads import Answer
from gradfec_common.keys import Key
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import Answered, EdgeSession, new_hello
from gradfec_common.session.events import Decided
from gradfec_common.session.handshake import HandshakeKey
from gradfec_host.logs import Log

KEY = HandshakeKey(Key(bytes(range(32))))
FRAMES, IN_FLIGHT, LOST = 6, 3, 28  # of a frame's datagrams


class LosesEverySecond(LocalWorkers):
    """A toy pool that never gives back every second lease."""

    def start(self, batch: Batch) -> None:
        if batch.lease % 2:
            super().start(batch)


class Back:
    def warm_up(self) -> None:
        pass

    __call__ = staticmethod(sure_of)


class Link:
    """Both cores, without a network between them, and inference in real time."""

    def __init__(self, inference: Inference, delivered: Deliveries) -> None:
        dice = np.random.default_rng(1)
        self.now = 1000.0
        self.cloud = CloudSessions([SPLIT], 0.5, {KEY.id: KEY}, dice.bytes)
        hello = new_hello(SPLIT, GRID.rows, "edge", Cipher.AES_256_GCM)
        self.edge = EdgeSession(hello, SPLIT.network.head, KEY, dice.bytes, self.now)
        self.answers: dict[int, Answer] = {}  # by tensor
        self.failed: list[int] = []
        self._inference, self._delivered = inference, delivered

    def exchange(self) -> None:
        """Carry all that both say, and wait for inference, until neither says more."""
        said = True
        while said:
            up, down = self.edge.datagrams_to_send(), [datagram for datagram, _ in self.cloud.datagrams_to_send()]
            if up:
                self.cloud.receive(wire.batch_of(up, ["edge"] * len(up)), self.now)
            if down:
                self.edge.receive(wire.batch_of(down, [None] * len(down)), self.now)
            said = bool(up or down) | self._infer()
            while (event := self.edge.next_event()) is not None:
                if isinstance(event, Answered):
                    self.answers[event.tensor] = event.answer

    def _infer(self) -> bool:
        decided = 0
        while (event := self.cloud.next_event()) is not None:
            if isinstance(event, Decided):
                self._inference.submit(event)
                decided += 1
        for one in self._delivered.take(decided):
            if one.answer is not None:
                stages = one.stages_ms
                self.cloud.answer(one.decided, one.answer, one.recovered, one.missing, stages, self.now)
            else:
                self.cloud.fail(one.decided)
                self.failed.append(one.decided.tensor)
        return decided > 0

    def send(self, number: int) -> None:
        tensor, bodies = self.edge.open_tensor(encoded(number), self.now)
        assert tensor == number
        sealed = self.edge.seal(tensor, bodies)
        assert sealed is not None
        arrived = [row.tobytes() for row in sealed[LOST:]]
        self.cloud.receive(wire.batch_of(arrived, ["edge"] * len(arrived)), self.now)


def test_every_frame_is_answered_or_fails_as_its_lease_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORKERS, "toy", WorkersKind("toy", (), lambda given, log: LosesEverySecond))
    delivered = Deliveries()
    inference = infer(partial(WORKERS["toy"].open({}, Log("toy")), stations(Back)), delivered, lease_s=0.5, max_batch=1)
    link = Link(inference, delivered)
    link.edge.handle_timer(link.now)
    link.exchange()
    for first in range(0, FRAMES, IN_FLIGHT):
        for number in range(first, first + IN_FLIGHT):
            link.send(number)
        link.exchange()
        link.now += 10.0
        link.cloud.handle_timer(link.now)
        link.edge.handle_timer(link.now)
        link.exchange()
    inference.close()

    leases, tensors = inference.leases, link.cloud.tensors
    assert link.answers == {number: sure(number) for number in range(0, FRAMES, 2)}
    assert link.failed == [*range(1, FRAMES, 2)]
    assert (leases["opened"], leases["returned"], leases["given_up"]) == (FRAMES, FRAMES // 2, FRAMES // 2)
    assert (tensors["opened"], tensors["complete"], tensors["failed"]) == (
        FRAMES,
        leases["returned"],
        leases["given_up"],
    )
