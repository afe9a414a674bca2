"""The source whose frames are Frigate's questions, asked as Frigate's plugin asks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gradfec_cli.daemons import free_port
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.heads import Box, Boxes
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.quantisers import AUTO
from gradfec_edge.coding import coding_of
from gradfec_edge.frames import Asker
from gradfec_edge.frigate import detector as module
from gradfec_edge.frigate import open_detector
from gradfec_edge.frigate.detector import Detector
from gradfec_edge.frigate.protocol import where_of

zmq = pytest.importorskip("zmq")

SOON_S = 60.0  # a safety net
FOUND = Boxes((Box(2, "car", 0.5, (0.125, 0.25, 0.5, 0.75)),))
PATIENT = "?request_timeout_ms=60000"


class Frigate:
    """A client written from the plugin's protocol: a REQ socket that waits for its replies."""

    def __init__(self, endpoint: str, context: Any) -> None:
        self._socket = context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.RCVTIMEO, round(1000 * SOON_S))
        self._socket.connect(endpoint)

    def send(self, picture: npt.NDArray[Any]) -> None:
        header = {"shape": list(picture.shape), "dtype": picture.dtype.name, "model_type": "ssd"}
        self._socket.send_multipart([json.dumps(header).encode(), picture.tobytes()])

    def table(self) -> npt.NDArray[np.float32]:
        header, data = self._socket.recv_multipart()
        told = json.loads(header)
        return np.frombuffer(data, told["dtype"]).reshape(told["shape"])

    def asks_for_the_model(self) -> Any:
        self._socket.send_multipart([json.dumps({"model_request": True, "model_name": "x.onnx"}).encode()])
        (reply,) = self._socket.recv_multipart()
        return json.loads(reply)


class World:
    """A detector, and clients of its."""

    def __init__(self, context: Any) -> None:
        self._context, self._opened, self.warnings = context, list[Detector](), list[str]()

    def open(self, query: str = PATIENT) -> tuple[Detector, str]:
        port = free_port()
        made = Detector(f"zmq://127.0.0.1:{port}{query}", self.warnings.append)
        self._opened.append(made)
        return made, f"tcp://127.0.0.1:{port}"

    def client(self, endpoint: str) -> Frigate:
        return Frigate(endpoint, self._context)

    def close(self) -> None:
        for one in self._opened:
            one.close()


@pytest.fixture
def world() -> Iterator[World]:
    context = zmq.Context()
    made = World(context)
    yield made
    made.close()
    context.destroy(0)


def picture(level: int = 7) -> npt.NDArray[np.uint8]:
    return np.full((1, 4, 5, 3), level, np.uint8)


def test_a_question_becomes_a_frame_and_its_answer_the_reply(world: World) -> None:
    detector, endpoint = world.open()
    assert isinstance(detector, Asker)
    frigate = world.client(endpoint)
    assert frigate.asks_for_the_model() == {"model_available": True, "model_loaded": True}
    for number in range(2):
        frigate.send(picture(number))
        frame = detector.next_frame(SOON_S)
        assert frame is not None
        assert (frame.number, frame.image.shape, frame.image.max()) == (number, (4, 5, 3), number)
        detector.reply(frame, FOUND)
        assert frigate.table()[0].tolist() == [2, 0.5, 0.25, 0.125, 0.75, 0.5]
    assert detector.replies == {"answered": 2}


def test_several_ask_at_a_time_and_each_gets_its_own_answer(world: World) -> None:
    detector, endpoint = world.open()
    clients = [world.client(endpoint) for _ in range(3)]
    for level, client in enumerate(clients):
        client.send(picture(level))
    frames = [frame for _ in clients if (frame := detector.next_frame(SOON_S))]
    for frame in reversed(frames):
        level = int(frame.image[0, 0, 0])
        detector.reply(frame, Boxes((Box(level, "thing", 0.5, (0.0, 0.0, 1.0, 1.0)),)))
    assert [client.table()[0, 0] for client in clients] == [0, 1, 2]


def test_who_waits_too_long_gets_an_empty_table_and_what_comes_later_is_not_sent(world: World) -> None:
    detector, endpoint = world.open("?request_timeout_ms=10")
    frigate = world.client(endpoint)
    frigate.send(picture())
    frame = detector.next_frame(0.5)
    assert not frigate.table().any()
    assert detector.replies == {"late": 1}
    if frame is not None:  # a slow machine may not have taken it in time
        detector.reply(frame, FOUND)
    frigate.send(picture())
    assert not frigate.table().any()
    assert detector.replies == {"late": 2}


def test_a_question_that_is_too_late_before_it_is_taken_is_skipped(world: World) -> None:
    detector, endpoint = world.open("?request_timeout_ms=10")
    frigate = world.client(endpoint)
    frigate.send(picture())
    assert not frigate.table().any()
    assert (detector.next_frame(0), detector.skipped) == (None, 1)


def test_without_an_answer_the_reply_is_empty_at_once(world: World) -> None:
    detector, endpoint = world.open()
    frigate = world.client(endpoint)
    frigate.send(picture())
    frame = detector.next_frame(SOON_S)
    assert frame is not None
    detector.reply(frame, None)
    assert not frigate.table().any()
    assert detector.replies == {"unanswered": 1}


def test_wrong_pictures_get_empty_tables_and_one_warning(world: World) -> None:
    detector, endpoint = world.open()
    frigate = world.client(endpoint)
    for _ in range(3):
        frigate.send(picture().astype(np.float32))
        assert not frigate.table().any()
    assert detector.replies == {"refused": 3}
    (warning,) = world.warnings
    assert "leave Frigate's input_dtype at int" in warning


def test_of_too_many_questions_the_oldest_get_empty_tables(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    detector, endpoint = world.open()
    clients = [world.client(endpoint) for _ in range(4)]
    for client in clients:
        client.send(picture())
    replies = [threading.Thread(target=client.table) for client in clients]
    for reply in replies:
        reply.start()
    while detector.replies["busy"] < 2:
        threading.Event().wait(0.01)
    detector.close()  # the others get theirs now
    for reply in replies:
        reply.join(SOON_S)
        assert not reply.is_alive()


def test_it_can_listen_at_a_path(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("z") / "d"
    detector = Detector(f"zmq://{path}{PATIENT}", world.warnings.append)
    frigate = world.client(f"ipc://{path}")
    assert frigate.asks_for_the_model()["model_loaded"]
    detector.close()
    assert detector.ended
    assert detector.next_frame() is None


def test_a_port_that_is_taken_is_an_error_that_names_it(world: World) -> None:
    _, endpoint = world.open()
    with pytest.raises(GradfecError, match=r"cannot listen at zmq://127.0.0.1:[0-9]+: Address already in use"):
        Detector(endpoint.replace("tcp", "zmq"), world.warnings.append)


@pytest.mark.parametrize(
    "url",
    ["zmq://", "zmq://127.0.0.1", "zmq://host:0", "zmq://host:99999", "zmq://host:1/path", "zmq:///", "zmq://[::1:5"]
    + [f"zmq://host:1?{query}" for query in ("fps=3", "request_timeout_ms=", "request_timeout_ms=1", "x")],
)
def test_where_frigate_cannot_ask_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(UsageError, match=r"is not where Frigate can ask: use for example zmq://127.0.0.1:5555"):
        where_of(url)


def test_frigates_own_timeout_is_the_default() -> None:
    assert where_of("zmq://0.0.0.0:5555") == ("tcp://0.0.0.0:5555", 0.2)
    assert where_of("zmq:///run/d?request_timeout_ms=500") == ("ipc:///run/d", 0.5)


def test_a_network_without_boxes_is_of_no_use_to_frigate() -> None:
    with pytest.raises(UsageError, match="Frigate asks for boxes, and resnet50 finds none: use --model"):
        open_detector(
            "zmq://127.0.0.1:5555", coding_of(named_cut(DEFAULT_CUT), None, AUTO, None, "zfec").cut.network, print
        )
    assert open_detector("/dev/video0", RESNET50, print) is None
