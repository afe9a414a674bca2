"""DeepStack's requests, sent as Frigate's `deepstack` detector sends them: a form with a JPEG file."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from gradfec_cloud.infer.deepstack import read_confidence
from gradfec_cloud.infer.protocol import RequestError
from gradfec_cloud.infer.server import InferServer
from gradfec_cloud.inference import Whole
from gradfec_common.heads import Box, Boxes, boxes
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_host.console import Endpoint

TOKEN = "a-token-of-the-server-1234"
SOON_S = 60.0
FOUND = Boxes((Box(0, "person", 0.875, (0.25, 0.5, 0.75, 1.0)), Box(2, "car", 0.25, (0.0, 0.0, 0.5, 0.5))))
FILE = cv2.imencode(".jpg", np.zeros((224, 224, 3), np.uint8))[1].tobytes()
BOUNDARY = "8d3d0e2c5a7f4b1e"
DETECT = "/v1/vision/detection"


class Finder:
    """The head of a detector."""

    name = boxes.NAME


FINDER = replace(RESNET50, name="finder", head=Finder())  # type: ignore[arg-type]


@contextmanager
def serving(*networks: Any, token: str | None = None) -> Iterator[str]:
    def ask(cut: Any, features: Any) -> Future[Whole]:
        asked = Whole(cut, features, FOUND)
        asked.done.set_result(asked)
        return asked.done

    listener = socket.create_server(("127.0.0.1", 0))
    endpoint = Endpoint("127.0.0.1", listener.getsockname()[1])
    cuts = [network.cut(network.input.name) for network in networks]
    server = InferServer(endpoint, listener, token, cuts, ask, lambda: "")
    yield str(endpoint)
    server.close()


def form(**fields: bytes | str) -> bytes:
    parts = []
    for name, value in fields.items():
        file = f'; filename="{name}"' if isinstance(value, bytes) else ""
        data = value if isinstance(value, bytes) else value.encode()
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def post(where: str, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    try:
        request = urllib.request.Request(f"http://{where}{path}", body, kind | headers)
        with urllib.request.urlopen(request, timeout=SOON_S) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text else None


PERSON = {"label": "person", "confidence": 0.875, "x_min": 56, "y_min": 112, "x_max": 168, "y_max": 224}
CAR = {"label": "car", "confidence": 0.25, "x_min": 0, "y_min": 0, "x_max": 112, "y_max": 112}


def test_a_photograph_gets_the_boxes_in_its_pixels_best_first() -> None:
    with serving(FINDER) as where:
        assert post(where, DETECT, form(api_key="", image=FILE)) == (
            200,
            {"success": True, "predictions": [PERSON], "count": 1},
        )
        assert post(where, DETECT, form(image=FILE, min_confidence="0.2"))[1]["predictions"] == [PERSON, CAR]
        assert post(where, "/v1/vision/custom/finder", form(image=FILE))[0] == 200


def test_the_first_detector_answers_and_who_names_another_network_is_told_what_is_wrong() -> None:
    with serving(RESNET50, FINDER) as where:
        assert post(where, DETECT, form(image=FILE))[0] == 200
        for name, said in (("resnet50", "no boxes come from resnet50"), ("x", "there is no model 'x'")):
            status, told = post(where, f"/v1/vision/custom/{name}", form(image=FILE))
            assert (status, told["success"], told["error"][: len(said)]) == (404, False, said)
    with serving(RESNET50) as where:
        assert post(where, DETECT, form(image=FILE))[1]["error"] == "no boxes come from resnet50"


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"{}", {"Content-Type": "application/json"}, "a request is a form, multipart/form-data, with the file image"),
        (b"nonsense", {}, "the form cannot be read"),
        (form(image=FILE), {"Content-Type": "multipart/form-data"}, "the form cannot be read"),
        (form(image="text"), {}, "the form has no file image"),
        (form(picture=FILE), {}, "the form has no file image"),
        (form(image=b"text"), {}, "file 0: it is not a JPEG file"),
        (form(image=FILE, other=FILE), {}, "the form cannot be read"),
        (form(image=FILE, **{f"field{number}": "" for number in range(9)}), {}, "the form cannot be read"),
        (form(image=FILE, min_confidence="much"), {}, "min_confidence is not a number from 0 to 1"),
        (form(image=FILE)[:60], {}, "the form"),
    ],
)
def test_what_is_no_such_form_is_refused_with_the_reason(body: bytes, headers: dict[str, str], said: str) -> None:
    with serving(FINDER) as where:
        status, told = post(where, DETECT, body, **headers)
        assert (status, told["success"]) == (400, False)
        assert told["error"].startswith(said)


@pytest.mark.parametrize("untrusted", ["nan", "-0.1", "1.1", "1e999", b"0.5", 0.5, []])
def test_a_confidence_that_is_not_a_share_is_refused(untrusted: object) -> None:
    with pytest.raises(RequestError):
        read_confidence(untrusted)


def test_the_token_may_be_the_password_of_the_url() -> None:
    with serving(FINDER, token=TOKEN) as where:
        for user, status in ((f"frigate:{TOKEN}", 200), ("frigate:wrong", 403), (TOKEN, 403)):
            basic = b64encode(user.encode()).decode()
            assert post(where, DETECT, form(image=FILE), Authorization=f"Basic {basic}")[0] == status
        assert post(where, DETECT, form(image=FILE), Authorization="Basic ?")[0] == 403
