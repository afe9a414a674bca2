"""Both cores read the golden datagrams, and answer them with golden datagrams."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from tests.common import second_encoder, second_seal
from tests.common.answers import HEAD
from tests.common.golden_inputs import (
    CONTROL_SESSION,
    CONTROLS,
    GOLDEN,
    RESNET50,
    SESSION,
    TENSORS,
    Session,
    TensorVector,
)
from tests.common.second_seal import CLOUD, EDGE, PSK
from tests.common.trimmed import Trimmed

from gradfec_common import networks, wire
from gradfec_common.conceal import make_concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.keys import Key
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, read_policy
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import EdgeSession
from gradfec_common.session.edge_events import Answered, Closed, Connected, Refused, Reported
from gradfec_common.session.events import Decided
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.transmit import EncodedTensor, encode_tensor, room_for

KEY = HandshakeKey(Key(PSK))
SEALED = [name for name, vector in CONTROLS.items() if vector.kind not in ("HELLO", "WELCOME", "REFUSE")]
REFUSALS = [name for name, vector in CONTROLS.items() if vector.kind == "REFUSE"]
ZERO = make_concealment("zero", networks.RESNET50.cuts[0], {})


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUANTISERS, Trimmed().name, Trimmed())


def golden(name: str) -> bytes:
    lines = (GOLDEN / f"{name}.hex").read_text("utf-8").splitlines()
    (line,) = [line for line in lines if not line.startswith("#")]
    return bytes.fromhex(line)


def golden_body(name: str) -> bytes:
    (line,) = re.findall(r"^# body (\w+)$", (GOLDEN / f"{name}.hex").read_text("utf-8"), re.MULTILINE)
    return bytes.fromhex(line)


def entropy_of_the_cloud(count: int) -> bytes:
    """The session number and the private key of the golden vectors."""
    return {4: SESSION.to_bytes(4, "big"), 32: CLOUD}[count]


def cloud_of(session: Session, *, sketches: bool = False) -> CloudSessions:
    """A cloud with one session, opened by a hello from the second implementation; it may want sketches."""
    cut = networks.RESNET50.cut_by_id(session.cut)
    assert cut is not None
    cloud = CloudSessions([cut], 0.25, {KEY.id: KEY}, entropy_of_the_cloud, sketches=sketches)
    cloud.receive(wire.batch_of([session.hello], ["edge"]), 0.0)
    welcome = golden("welcome_to_look") if sketches else session.welcome
    assert cloud.datagrams_to_send() == [(welcome, "edge")]
    cloud.counts.clear()
    return cloud


def edge_that_asks() -> EdgeSession:
    """An edge that has said the golden hello."""
    edge = EdgeSession(wire.Hello(1, RESNET50, 175, 7, "edge 1"), HEAD, KEY, lambda _: EDGE, 0.0)
    edge.handle_timer(0.0)
    assert edge.datagrams_to_send() == [golden("hello")]
    return edge


def waiting_edge() -> EdgeSession:
    """An edge in the session of the golden vectors that awaits the answers for tensors 0 and 1, and has asked once."""
    edge = edge_that_asks()
    edge.receive(wire.batch_of([golden("welcome")], ["cloud"]), 0.0)
    assert edge.next_event() == Connected(SESSION, 0.25, fresh=True)
    assert edge.datagrams_to_send() == [golden("ping")]
    assert [edge.open_tensor(encoded(), 0.0)[0] for _ in range(2)] == [0, 1]
    edge.counts.clear()
    return edge


def encoded() -> EncodedTensor:
    """A tensor of eleven datagrams, as the golden report has it."""
    grid, quantiser = PacketGrid((7, 7, 11), 7), QUANTISERS["uniform8"]
    coded = quantiser.encode(np.zeros(grid.shape, np.float32), grid)
    plan = read_policy("none").plan(
        np.zeros(11, np.float32), coded.packets.sizes, UNKNOWN_LINK, room_for(8, packets_a_symbol=1)
    )
    return encode_tensor(coded, quantiser, plan)


@pytest.mark.parametrize("name", TENSORS)
def test_the_cloud_collects_each_golden_datagram_of_a_tensor_on_its_own(name: str) -> None:
    vector = TENSORS[name]
    for position in vector.shown:
        cloud = cloud_of(vector.session)
        cloud.receive(wire.batch_of([vector.datagrams[position]], ["edge"]), 1.0)
        assert cloud.counts == Counter({"collected": 1})


@pytest.mark.parametrize("name", TENSORS)
def test_the_cloud_gives_each_golden_datagram_of_a_tensor_a_good_fate_one_by_one(name: str) -> None:
    vector = TENSORS[name]
    cloud = cloud_of(vector.session)
    for datagram in vector.datagrams[: vector.unasked]:
        cloud.receive(wire.batch_of([datagram], ["edge"]), 1.0)
    needed = 1 + max(  # data goes first: with the last of it the tensor is complete, and parity is surplus
        position for position, (group, index) in enumerate(vector.order) if index < vector.groups[group].most_k
    )
    assert cloud.counts == +Counter({"collected": needed, "surplus": vector.unasked - needed})
    assert decided_by(cloud).complete


@pytest.mark.parametrize("name", TENSORS)
def test_the_cloud_decides_a_golden_tensor_that_decodes_whole(name: str) -> None:
    vector = TENSORS[name]
    cloud = cloud_of(vector.session)
    cloud.receive(wire.batch_of(vector.datagrams, ["edge"] * len(vector.datagrams)), 1.0)
    assert cloud.counts == Counter({"collected": len(vector.datagrams)})
    decided = decided_by(cloud)
    assert (decided.session, decided.tensor, decided.complete) == (SESSION, vector.number, True)
    assert whole(vector) == sorted(decode_tensor(decided.arrived, ZERO).found.places.tolist())


def whole(vector: TensorVector) -> list[int]:
    return sorted(place for group in vector.groups for stripe in group.stripes for place in stripe.places)


def decided_by(cloud: CloudSessions) -> Decided:
    (decided,) = [event for event in iter(cloud.next_event, None) if isinstance(event, Decided)]
    return decided


@pytest.mark.parametrize("name", [name for name in SEALED if not CONTROLS[name].downwards])
def test_the_cloud_takes_each_golden_message_of_an_edge(name: str) -> None:
    cloud = cloud_of(CONTROL_SESSION, sketches=CONTROLS[name].kind == "SKETCH")
    cloud.receive(wire.batch_of([golden(name)], ["edge"]), 1.0)
    assert cloud.counts == Counter({CONTROLS[name].kind.lower(): 1})
    assert cloud.open_sessions == (CONTROLS[name].kind != "BYE")
    answer = {"PING": "pong", "BYE": "bye_of_cloud"}.get(CONTROLS[name].kind)
    assert cloud.datagrams_to_send() == ([(golden(answer), "edge")] if answer else [])


@pytest.mark.parametrize("name", [name for name in SEALED if CONTROLS[name].downwards])
def test_the_edge_takes_each_golden_message_of_the_cloud(name: str) -> None:
    edge = waiting_edge()
    edge.receive(wire.batch_of([golden(name)], ["cloud"]), 0.1)
    assert edge.counts == Counter({CONTROLS[name].kind.lower(): 1})


@pytest.mark.parametrize("name", REFUSALS)
def test_the_edge_takes_each_golden_refusal(name: str) -> None:
    edge = edge_that_asks()
    edge.receive(wire.batch_of([golden(name)], ["cloud"]), 0.1)
    assert edge.counts == Counter({"refuse": 1})
    assert edge.next_event() == Refused(**CONTROLS[name].values)


def test_the_edge_closes_a_tensor_with_the_golden_result_and_report_and_acknowledges_both() -> None:
    edge = waiting_edge()
    report = second_seal.seal(CONTROL_SESSION.secrets[1], 1, SESSION, 1, second_seal.MESSAGE, golden_body("report"))
    edge.receive(wire.batch_of([golden("result_partial"), report], ["cloud"] * 2), 0.1)
    told = wire.Result(**CONTROLS["result_partial"].values), wire.Report(**CONTROLS["report"].values)
    answer = HEAD.read(told[0].answer)
    assert [*iter(edge.next_event, None)] == [
        Answered(1, told[0], answer),
        Reported(told[1]),
        Closed(1, *told, 0, answer),
    ]
    acknowledged = second_encoder.message("ACK", {"results": [1], "reports": [1]})
    up = CONTROL_SESSION.secrets[0]
    assert edge.datagrams_to_send() == [second_seal.seal(up, 1, SESSION, 1, second_seal.MESSAGE, acknowledged)]
