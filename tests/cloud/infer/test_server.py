"""The server for inference requests, asked by NVIDIA's client for Triton, and by clients that err."""

from __future__ import annotations

import json
import socket
import threading
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest

from gradfec_cloud.infer import server as module
from gradfec_cloud.infer.server import InferServer
from gradfec_cloud.inference import Whole
from gradfec_common.heads import Classes
from gradfec_common.networks.pixels import normalise
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.preprocess import to_input
from gradfec_host.console import Endpoint

INPUT = RESNET50.cut(RESNET50.input.name)
TOKEN = "a-token-of-the-server-1234"
PICTURE = np.random.default_rng(4).integers(0, 256, (40, 60, 3), np.uint8)  # RGB
SOON_S = 60.0


class Cloud:
    """Answers at once, or later."""

    def __init__(self) -> None:
        self.asked: list[Whole] = []
        self.why_not = ""
        self.error: Exception | None = None
        self.later = False

    def ask(self, cut: Any, features: Any) -> Future[Whole]:
        if self.why_not:
            raise RuntimeError(self.why_not)
        answer = None if self.error else Classes(((len(self.asked), f"class {len(self.asked)}", 0.5),))
        self.asked.append(Whole(cut, features, answer, error=self.error))
        if not self.later:
            self.asked[-1].done.set_result(self.asked[-1])
        return self.asked[-1].done

    def why_not_ready(self) -> str:
        return self.why_not


@contextmanager
def serving(cloud: Cloud, token: str | None = None) -> Iterator[tuple[str, InferServer]]:
    listener = socket.create_server(("127.0.0.1", 0))
    endpoint = Endpoint("127.0.0.1", listener.getsockname()[1])
    server = InferServer(endpoint, listener, token, [INPUT], cloud.ask, cloud.why_not_ready)
    yield str(endpoint), server
    server.close()


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def client(cloud: Cloud) -> Iterator[Any]:
    http = pytest.importorskip("tritonclient.http")
    with serving(cloud) as (where, _), http.InferenceServerClient(where) as made:
        yield made


def inputs(name: str, data: np.ndarray, *, binary: bool = True) -> list[Any]:
    from tritonclient import http

    one = http.InferInput(name, list(data.shape), {"image": "UINT8", "jpeg": "BYTES"}[name])
    one.set_data_from_numpy(data, binary_data=binary)
    return [one]


def test_tritons_client_learns_what_there_is(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("resnet50")
    assert client.is_model_ready("resnet50", "1")
    assert not client.is_model_ready("resnet101")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    about = client.get_model_metadata("resnet50")
    assert (about["name"], about["versions"]) == ("resnet50", ["1"])
    assert [one["name"] for one in about["inputs"]] == ["image", "jpeg"]
    assert [one["name"] for one in about["outputs"]] == ["label", "score", "answer"]


def test_a_server_whose_cloud_is_not_ready_says_so(client: Any, cloud: Cloud) -> None:
    from tritonclient.utils import InferenceServerException

    cloud.why_not = "the back-end is being loaded"
    assert client.is_server_live()
    assert not client.is_server_ready()
    assert not client.is_model_ready("resnet50")
    with pytest.raises(InferenceServerException, match="the back-end is being loaded") as error:
        client.infer("resnet50", inputs("image", PICTURE[np.newaxis]))
    assert error.value.status() == "503"


@pytest.mark.parametrize("binary", [True, False])
def test_pixels_become_the_networks_input_as_a_cameras_do(client: Any, cloud: Cloud, binary: bool) -> None:
    result = client.infer(
        "resnet50", inputs("image", np.stack([PICTURE, 255 - PICTURE]), binary=binary), request_id="7"
    )
    for one, picture in zip(cloud.asked, (PICTURE, 255 - PICTURE), strict=True):
        expected = normalise(to_input(picture[..., ::-1], RESNET50.preprocess), RESNET50.preprocess)
        assert np.array_equal(one.features, expected)
    assert result.as_numpy("label").tolist() == [[b"class 0"], [b"class 1"]]
    assert result.as_numpy("score").tolist() == [[0.5], [0.5]]
    assert json.loads(result.as_numpy("answer")[1])["top5"][0]["class_index"] == 1
    assert result.get_response()["id"] == "7"


def test_files_become_the_networks_input(client: Any, cloud: Cloud) -> None:
    file = cv2.imencode(".jpg", PICTURE[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    result = client.infer("resnet50", inputs("jpeg", np.array([file, file], np.object_)))
    assert result.as_numpy("label").shape == (2, 1)
    frame = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    assert isinstance(frame, np.ndarray)
    expected = normalise(to_input(frame.astype(np.uint8), RESNET50.preprocess), RESNET50.preprocess)
    assert np.array_equal(cloud.asked[1].features, expected)


def test_files_are_decoded_one_after_the_other() -> None:
    picture = np.zeros((2000, 2000, 3), np.uint8)
    file = cv2.imencode(".jpg", picture)[1].tobytes()
    tracemalloc.start()
    module._seen((), [file] * 8, RESNET50.preprocess)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * picture.nbytes


def test_only_the_outputs_that_are_asked_for_come(client: Any) -> None:
    from tritonclient import http

    wanted = [http.InferRequestedOutput("score", binary_data=False)]
    result = client.infer("resnet50", inputs("image", PICTURE[np.newaxis]), outputs=wanted)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["score"]


def test_what_the_client_gets_wrong_is_an_error_with_the_reason(client: Any, cloud: Cloud) -> None:
    from tritonclient.utils import InferenceServerException

    picture = inputs("image", PICTURE[np.newaxis])
    for arguments, status, said in (
        (("resnet101", picture), "404", "there is no model 'resnet101': there are resnet50"),
        (("resnet50", picture, "2"), "404", "there is no version '2' of resnet50: there is 1"),
        (("resnet50", [*picture, *picture]), "400", "a request has one input"),
        (("resnet50", inputs("jpeg", np.array([b"text"], np.object_))), "400", "file 0: it is not a JPEG file"),
    ):
        with pytest.raises(InferenceServerException, match=said) as error:
            client.infer(*arguments)
        assert error.value.status() == status
    assert cloud.asked == []


def test_a_network_that_fails_is_an_error_of_the_server(client: Any, cloud: Cloud) -> None:
    from tritonclient.utils import InferenceServerException

    cloud.error = MemoryError("out of memory")
    with pytest.raises(InferenceServerException, match="the network has failed: MemoryError"):
        client.infer("resnet50", inputs("image", PICTURE[np.newaxis]))


def asked(where: str, path: str, data: bytes | None = None, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://{where}{path}", data, {name.replace("_", "-"): value for name, value in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=SOON_S) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text else None


INFER = "/v2/models/resnet50/infer"


def test_requests_that_are_none_get_one_line_and_are_counted(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with serving(cloud) as (where, server):
        for data, headers, status, said in (
            (b"nonsense", {}, 400, "the request is not JSON"),
            (
                b"{}",
                {"Inference_Header_Content_Length": "x"},
                400,
                "inference-header-content-length is not a number of",
            ),
            (b"{}", {"Content_Encoding": "gzip"}, 415, "compressed requests are not read"),
            (b" " * 1001, {}, 413, "a request has at most 1000 bytes"),
        ):
            code, told = asked(where, INFER, data, **headers)
            assert (code, told["error"][: len(said)]) == (status, said)
        for path in ("/", "/v2/models", "/v2/repository/index"):
            code, told = asked(where, path, b"{}")
            assert code == 404
            assert told["error"].startswith(f"there is no {path}: there are /v2, /v2/health/live, ")
            assert "/v2/models/{model}/infer" in told["error"]
        assert asked(where, INFER)[0] == 405
        assert server.counts == {"refused": 4}


def test_more_requests_than_there_is_room_for_are_told_to_come_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_REQUESTS", 1)
    cloud.later = True
    body = json.dumps(
        {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 3]}]}
    ).encode()
    found: list[Any] = []
    with serving(cloud) as (where, server):
        first = threading.Thread(target=lambda: found.append(asked(where, INFER, body)))
        first.start()
        while not cloud.asked:
            first.join(0.01)
        assert asked(where, INFER, body) == (503, {"error": "1 requests are at work: come again"})
        cloud.asked[0].done.set_result(cloud.asked[0])
        first.join()
        assert found[0][0] == 200
        assert server.counts == {"busy": 1, "answered": 1}


def test_with_a_token_only_those_who_have_it_are_answered(cloud: Cloud) -> None:
    with serving(cloud, TOKEN) as (where, _):
        assert asked(where, "/v2") == (403, None)
        assert asked(where, "/v2", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_what_is_no_http_leaves_no_trace_in_the_daemons_log(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    with serving(cloud, TOKEN) as (where, _):
        host, _, port = where.rpartition(":")
        with socket.create_connection((host, int(port)), SOON_S) as stranger:
            stranger.sendall(b"\x16\x03\x01\r\n\r\n")
            assert stranger.recv(1000).startswith(b"HTTP/1.1 400")
    assert not caplog.records
