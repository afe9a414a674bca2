"""Requests of the Open Inference Protocol: what is one, what is none, and what a response looks like."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_cloud.infer.protocol import MOST_PICTURES, RequestError, read_request, response
from gradfec_common.heads import Classes

PIXELS = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
ANSWERS = [
    Classes(((7, "caf\N{LATIN SMALL LETTER E WITH ACUTE}", 0.75), (8, "cup", 0.25))),
    Classes(((9, "cat", 1.0),)),
]


def image(**changes: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "UINT8", "shape": [2, 4, 5, 3], "data": PIXELS.ravel().tolist(), **changes}


def jpeg(*files: bytes, **changes: Any) -> dict[str, Any]:
    data = [base64.b64encode(file).decode() for file in files]
    return {"name": "jpeg", "datatype": "BYTES", "shape": [len(files)], "data": data, **changes}


def binary(one: dict[str, Any], data: bytes, **more: Any) -> tuple[bytes, int]:
    header = {key: value for key, value in one.items() if key != "data"}
    text = json.dumps({"inputs": [{**header, "parameters": {"binary_data_size": len(data)}}], **more}).encode()
    return text + data, len(text)


def read(one: object, **more: Any) -> Any:
    return read_request(json.dumps({"inputs": [one], **more}).encode(), None)


@pytest.mark.parametrize("data", [PIXELS.ravel().tolist(), PIXELS.tolist()])
def test_pixels_are_read_from_json_flat_or_nested(data: Any) -> None:
    request = read(image(data=data), id="7")
    assert request.id == "7"
    assert np.array_equal(request.images, PIXELS)


def test_pixels_are_read_from_the_bytes_behind_the_json() -> None:
    assert np.array_equal(read_request(*binary(image(), PIXELS.tobytes())).images, PIXELS)


def test_files_are_read_from_json_and_from_the_bytes_behind_it() -> None:
    assert read(jpeg(b"one", b"")).files == [b"one", b""]
    request = read_request(*binary(jpeg(b"one", b""), b"\x03\0\0\0one\0\0\0\0"))
    assert request.files == [b"one", b""]


def test_all_outputs_are_wanted_unless_some_are_named() -> None:
    assert read(image()).outputs == {"label": False, "score": False, "answer": False}
    assert read(image(), parameters={"binary_data_output": True}).outputs == dict.fromkeys(
        ("label", "score", "answer"), True
    )
    wanted = [{"name": "score", "parameters": {"binary_data": True}}, {"name": "label"}]
    assert read(image(), outputs=wanted).outputs == {"score": True, "label": False}


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (b"", "the request is not JSON"),
        (b"[" * 100_000, "the request is not JSON"),
        (b"[]", "the request is not a JSON object"),
        (b"{}", "a request has one input, image or jpeg"),
        (b'{"inputs": [1]}', "the input is not a JSON object"),
        (b'{"inputs": [{}], "id": 7}', "the request's id is not a string"),
        (image(name="pixels"), "the input is neither image, of datatype UINT8, nor jpeg, of datatype BYTES"),
        (image(datatype="FP32"), "the input is neither image, of datatype UINT8, nor jpeg, of datatype BYTES"),
        (image(shape="2"), "the input's shape is not a list of whole numbers from 1 to 65535"),
        (image(shape=[True, 4, 5, 3]), "the input's shape is not a list of whole numbers from 1 to 65535"),
        (image(shape=[0, 4, 5, 3]), "the input's shape is not a list of whole numbers from 1 to 65535"),
        (image(shape=[]), f"a request has 1 to {MOST_PICTURES} pictures"),
        (image(shape=[17, 4, 5, 3]), f"a request has 1 to {MOST_PICTURES} pictures"),
        (image(shape=[2, 3, 4, 5]), "the shape of image is [N, H, W, 3], not [2, 3, 4, 5]"),
        (image(data=[1, 2]), "the data of image are not 120 whole numbers from 0 to 255, as its shape"),
        (image(data=[[1], [1, 2]]), "the data of image are not 120 whole numbers"),
        (image(data=[256] * 120), "the data of image are not 120 whole numbers"),
        (image(data=[-1] * 120), "the data of image are not 120 whole numbers"),
        (image(data=[0.5] * 120), "the data of image are not 120 whole numbers"),
        (image(data=["a"] * 120), "the data of image are not 120 whole numbers"),
        (image(data=["a" * 10**7] + ["a"] * 10**4), "the data of image are not 120 whole"),  # 400 GB as a matrix
        (image(data=120), "the data of image are not 120 whole numbers"),
        (image(data=[[1] * 60, [1] * 59, [1]]), "the data of image are not 120 whole numbers"),
        (image(data=[[1] * 60, 1] * 2), "the data of image are not 120 whole numbers"),
        (image(data=[[{"a": 1}] * 60] * 2), "the data of image are not 120 whole numbers"),
        (image(data=[[]] * 2**18), "there are too many numbers in the JSON: send the pictures as binary_data"),
        (image(data=[0] * 2**23), "there are too many numbers in the JSON: send the pictures as binary_data"),
        (image(data=[10**30] * 120), "the data of image are not 120 whole numbers"),
        (image(data=None), "the data of image are not 120 whole numbers"),
        (image(parameters=[]), "the input's parameters is not a JSON object"),
        (image(parameters={"binary_data_size": 9}), "binary_data_size is 9, and 0 bytes are behind the JSON"),
        (jpeg(b"a", shape=[2]), "the shape of jpeg is [N], with as many files: not [2] with 1"),
        (jpeg(b"a", data=["?"]), "the data of jpeg, within JSON, are not a list of files as base64"),
        (jpeg(b"a", data=7), "the data of jpeg, within JSON, are not a list of files as base64"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_with_the_reason(request_: Any, said: str) -> None:
    untrusted = request_ if isinstance(request_, bytes) else json.dumps({"inputs": [request_]}).encode()
    with pytest.raises(RequestError) as error:
        read_request(untrusted, None)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("untrusted", "header_bytes", "said"),
    [
        (b"{}", 3, "the header says that 3 bytes are JSON, and there are 2"),
        (b"{}", -1, "the header says that -1 bytes are JSON"),
        (
            binary(image(), b"abc")[0],
            binary(image(), b"abc")[1],
            "a shape of [2, 4, 5, 3] is 120 bytes, and there are 3",
        ),
        (json.dumps({"inputs": [image()]}).encode() + b"x", -2, "the header says"),
        (*binary(jpeg(b"a"), b"\x09\0\0\0a"), "an element of jpeg is cut off"),
        (*binary(jpeg(b"a"), b"\0\0"), "an element of jpeg is cut off"),
        (*binary(jpeg(b"a"), bytes(4 * 17)), f"a request has 1 to {MOST_PICTURES} pictures"),
    ],
)
def test_bytes_that_do_not_fit_the_json_are_refused_with_the_reason(
    untrusted: bytes, header_bytes: int, said: str
) -> None:
    with pytest.raises(RequestError) as error:
        read_request(untrusted, header_bytes)
    assert str(error.value).startswith(said)


def test_an_output_that_there_is_not_is_refused() -> None:
    for outputs in ([{"name": "boxes"}], [{}], {"name": []}):
        with pytest.raises(RequestError, match="there is no output"):
            read(image(), outputs=outputs)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["image", "UINT8"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["inputs", "name", "shape"]), inner),
    max_leaves=10,
)


@given(
    JSON, st.dictionaries(st.sampled_from([*image(), "parameters"]), JSON), st.binary(max_size=9), st.integers(0, 99)
)
def test_any_bytes_are_a_request_or_an_error_of_one_kind(any_: Any, changes: Any, behind: bytes, header: int) -> None:
    texts = [json.dumps(told).encode() for told in (any_, {"inputs": [any_]}, {"inputs": [image(**changes)]})]
    for untrusted, size in [(text + behind, size) for text in texts for size in (len(text), header, None)]:
        with contextlib.suppress(RequestError):
            read_request(untrusted, size)


def test_a_response_has_the_lines_of_each_answer_and_its_record() -> None:
    text, header_bytes = response("resnet50", "1", read(image(), id="7"), ANSWERS)
    assert header_bytes is None
    told = json.loads(text)
    outputs = {output.pop("name"): output for output in told.pop("outputs")}
    assert told == {"model_name": "resnet50", "model_version": "1", "id": "7"}
    assert outputs["label"] == {
        "datatype": "BYTES",
        "shape": [2, 2],
        "data": ["caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cup", "cat", ""],
    }
    assert outputs["score"] == {"datatype": "FP32", "shape": [2, 2], "data": [0.75, 0.25, 1.0, 0.0]}
    assert outputs["answer"]["shape"] == [2]
    assert [json.loads(one) for one in outputs["answer"]["data"]] == [answer.record() for answer in ANSWERS]


def test_outputs_that_are_wanted_as_bytes_are_behind_the_json_in_their_order() -> None:
    wanted = [
        {"name": "score", "parameters": {"binary_data": True}},
        {"name": "label", "parameters": {"binary_data": True}},
    ]
    content, header_bytes = response("resnet50", "1", read(image(), outputs=wanted), ANSWERS)
    assert header_bytes is not None
    score, label = json.loads(content[:header_bytes])["outputs"]
    assert (score["parameters"], label["parameters"]) == ({"binary_data_size": 16}, {"binary_data_size": 27})
    behind = content[header_bytes:]
    assert np.frombuffer(behind[:16], "<f4").tolist() == [0.75, 0.25, 1.0, 0.0]
    assert behind[16:] == b"\x05\0\0\0caf\xc3\xa9\x03\0\0\0cup\x03\0\0\0cat\0\0\0\0"
