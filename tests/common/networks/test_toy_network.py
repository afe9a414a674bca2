"""Frames of a network and a head that this test adds go through both protocol cores, which serve ResNet-50 besides."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from tests.common.networks.toy import TOY, Point, back_end, front_end

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.conceal import make_concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.errors import UsageError
from gradfec_common.heads import Answer
from gradfec_common.keys import Key
from gradfec_common.networks import NETWORKS, Cut, full_name, named_cut, named_network
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, Policy, read_policy
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import Answered, EdgeSession, Refused, new_hello
from gradfec_common.session.events import Decided
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.transmit import EncodedTensor, encode_tensor, room_for

KEY = HandshakeKey(Key(bytes(range(32))))
UNIFORM8 = QUANTISERS["uniform8"]
ROWS, FRAMES = 2, 8

Image = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Cut:
    """The toy network's only cut that is not its input."""
    monkeypatch.setitem(NETWORKS, TOY.name, TOY)
    return named_cut("toy:mix")


def encoded(image: Image, cut: Cut, policy: Policy) -> EncodedTensor:
    """Run the front-end, and encode its features, of which the largest matter most."""
    tensor, grid = front_end(image), PacketGrid(cut.shape, ROWS)
    coded = UNIFORM8.encode(tensor, grid)
    importance = np.abs(grid.split(tensor)).sum(axis=1)
    plan = policy.plan(importance, coded.packets.sizes, UNKNOWN_LINK, room_for(packets_a_symbol=1))
    return encode_tensor(coded, UNIFORM8, plan)


class Ends:
    """Both cores, without a link between them, and the back-end."""

    def __init__(self, cut: Cut, served: list[Cut], seed: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.now = 1000.0
        self.cloud = CloudSessions(served, 0.5, {KEY.id: KEY}, self.rng.bytes)
        hello = new_hello(cut, ROWS, "edge", Cipher.AES_256_GCM)
        self.edge = EdgeSession(hello, cut.network.head, KEY, self.rng.bytes, self.now)
        self.conceal = make_concealment("zero", cut, {})
        self.answers: dict[int, Answer] = {}
        self.outcomes: list[str] = []
        self.refusals: list[Refused] = []
        self.decided_cuts: set[Cut] = set()
        self.edge.handle_timer(self.now)
        self.exchange()

    def exchange(self) -> None:
        """Carry what both say until neither says more."""
        said = True
        while said:
            up = self.edge.datagrams_to_send()
            self.cloud.receive(wire.batch_of(up, ["edge"] * len(up)), self.now)
            while (event := self.cloud.next_event()) is not None:
                if isinstance(event, Decided):
                    self._infer(event)
            down = [datagram for datagram, _ in self.cloud.datagrams_to_send()]
            self.edge.receive(wire.batch_of(down, [None] * len(down)), self.now)
            while (event := self.edge.next_event()) is not None:
                self._note(event)
            said = bool(up or down)

    def _note(self, event: object) -> None:
        if isinstance(event, Answered):
            self.answers[event.tensor] = event.answer
            self.outcomes.append(event.result.outcome)
        elif isinstance(event, Refused):
            self.refusals.append(event)

    def _infer(self, decided: Decided) -> None:
        self.decided_cuts.add(decided.cut)
        decoded = decode_tensor(decided.arrived, self.conceal)
        output = back_end(decoded.tensor[np.newaxis])[0]
        answer = decided.cut.network.head.answer(output, ())
        self.cloud.answer(decided, answer, decoded.recovered, decoded.missing, {}, self.now)

    def send(self, tensor: EncodedTensor, lost: float) -> int:
        """Send a tensor, of whose datagrams some are lost, and wait for what becomes of it."""
        number, bodies = self.edge.open_tensor(tensor, self.now)
        sealed = self.edge.seal(number, bodies)
        assert sealed is not None
        arrived = [row.tobytes() for row in sealed[self.rng.random(len(sealed)) >= lost]]
        self.cloud.receive(wire.batch_of(arrived, ["edge"] * len(arrived)), self.now)
        self.exchange()
        self.now += 1.0
        self.cloud.handle_timer(self.now)
        self.exchange()
        return number


def images(count: int) -> list[Image]:
    return [*np.random.default_rng(5).integers(0, 256, (count, 8, 8, 3), np.uint8)]


def test_the_toy_is_named_as_any_other_network(toy: Cut) -> None:
    assert named_network("toy") is TOY
    assert full_name(toy) == "toy:mix"
    with pytest.raises(UsageError, match="Toy has no layer 'mixx': did you mean mix"):
        named_cut("toy:mixx")


def test_its_frames_are_answered_by_its_own_head(toy: Cut) -> None:
    ends = Ends(toy, [named_cut("pool1_pool"), toy])
    policy = read_policy("none")
    for number, image in enumerate(images(FRAMES)):
        assert ends.send(encoded(image, toy, policy), lost=0.0) == number
        answer = ends.answers[number]
        assert isinstance(answer, Point)
        exact = back_end(front_end(image)[np.newaxis])[0]
        assert np.allclose([answer.x, answer.y, answer.sure], exact, atol=0.05)  # 8 bits an element
    assert ends.outcomes == FRAMES * ["complete"]
    assert ends.decided_cuts == {toy}


def test_parity_gives_its_lost_packets_back(toy: Cut) -> None:
    lossless, lossy = Ends(toy, [toy]), Ends(toy, [toy])
    policy = read_policy("FEC_50_50")
    for image in images(FRAMES):
        tensor = encoded(image, toy, policy)
        number = lossless.send(tensor, lost=0.0)
        lossy.send(tensor, lost=0.3)
        if lossy.outcomes[-1] == "complete":
            assert lossy.answers[number] == lossless.answers[number]
    assert lossy.outcomes.count("complete") >= FRAMES // 2
    assert [*lossy.answers] == [*range(FRAMES)]


def test_an_answer_that_its_head_refuses_is_dropped_and_not_acknowledged(toy: Cut, monkeypatch) -> None:
    ends = Ends(toy, [toy])
    good = TOY.head.answer(np.ones(3, np.float32), ())
    for lie in (
        None,
        [],
        {"at": [1.0, 2.0]},
        {"at": [1.0, 2.0], "sure": 1},
        {"at": 1.0, "sure": 1.0},
        [[1, "cat", 1.0]],
    ):
        packed = iter([lie])
        monkeypatch.setattr(Point, "packed", lambda self, packed=packed: next(packed))
        monkeypatch.setattr(TOY.head, "answer", lambda output, labels: good, raising=False)
        number = ends.send(encoded(images(1)[0], toy, read_policy("none")), lost=0.0)
        assert number not in ends.answers
        assert ends.cloud.unacknowledged == 1
        assert ends.edge.counts["bad_message"] >= 1
        ends.now += 10.0
        ends.cloud.handle_timer(ends.now)
        ends.edge.handle_timer(ends.now)
        ends.exchange()


def test_a_cloud_without_the_network_says_which_it_has(toy: Cut) -> None:
    (refusal,) = Ends(toy, [named_cut("pool1_pool"), named_cut("conv2_block1_add")]).refusals
    assert refusal.reason == "model"
    there = "this cloud has resnet50 (2a137137) at pool1_pool, conv2_block1_add"
    assert refusal.detail == f"{there}; the edge asked for model {TOY.digest.hex()[:8]}"


def test_a_network_that_differs_in_anything_but_its_weights_is_another(toy: Cut) -> None:
    other = dataclasses.replace(TOY, preprocess=dataclasses.replace(TOY.preprocess, order="bgr"))
    (refusal,) = Ends(other.cut("mix"), [toy]).refusals
    assert refusal.reason == "model"
    assert f"this cloud has toy ({TOY.digest.hex()[:8]}) at mix;" in refusal.detail


def test_a_cloud_with_other_cuts_of_the_network_says_which_it_has(toy: Cut) -> None:
    (refusal,) = Ends(toy, [named_cut("toy:image")]).refusals
    assert (refusal.reason, refusal.detail) == (
        "cut",
        "this cloud has toy at image, not at mix: use --split toy:image on the edge",
    )
