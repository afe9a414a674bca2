"""Requests and responses of the Open Inference Protocol for whole pictures, byte by byte. Pure.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol, and Triton's extension for binary
tensors: a JSON object, and behind it the bytes of those tensors that are not in it. A model has two inputs, of which a
request has one:

    image  UINT8  [N, H, W, 3]   RGB pixels, of any height and width
    jpeg   BYTES  [N]            JPEG files; within JSON as base64

and three outputs, all of them unless a request names some:

    label  BYTES  [N, K]         the lines of each answer, best first; "" where an answer has fewer than K
    score  FP32   [N, K]
    answer BYTES  [N]            a JSON object each, as in a results file
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common.heads import Answer

Image = npt.NDArray[np.uint8]

EXTENSIONS = ["binary_tensor_data"]
HEADER = "inference-header-content-length"
MOST_PICTURES = 16  # of a request
MOST_NUMBERS = 2**22  # in its JSON, by commas: a parser lets nothing else happen in the cloud meanwhile
MOST_LISTS = 2**18  # and objects, which cost it more
INPUTS = [
    {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    {"name": "jpeg", "datatype": "BYTES", "shape": [-1]},
]
OUTPUTS = [
    {"name": "label", "datatype": "BYTES", "shape": [-1, -1]},
    {"name": "score", "datatype": "FP32", "shape": [-1, -1]},
    {"name": "answer", "datatype": "BYTES", "shape": [-1]},
]
NAMES = tuple(str(output["name"]) for output in OUTPUTS)
LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor


class RequestError(ValueError):
    """A request is not one; the text says why."""


@dataclass(frozen=True)
class Request:
    """A request: its `images` as RGB pixels, or its `files`, and which outputs it wants, in JSON or binary."""

    id: str | None
    images: Sequence[Image]
    files: Sequence[bytes]
    outputs: Mapping[str, bool]  # by name, whether it is wanted as bytes


def read_request(untrusted: bytes, header_bytes: int | None) -> Request:
    """Read a request, of which the first `header_bytes`, or all, are JSON; RequestError if it is not valid."""
    size = len(untrusted) if header_bytes is None else header_bytes
    if not 0 <= size <= len(untrusted):
        raise RequestError(f"the header says that {size} bytes are JSON, and there are {len(untrusted)}")
    text = untrusted[:size]
    if text.count(b",") > MOST_NUMBERS or text.count(b"[") + text.count(b"{") > MOST_LISTS:
        raise RequestError("there are too many numbers in the JSON: send the pictures as binary_data, or as jpeg")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError("the request is not JSON") from None
    told = _table(told, "the request")
    number, inputs = told.get("id"), told.get("inputs")
    if number is not None and not isinstance(number, str):
        raise RequestError("the request's id is not a string")
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise RequestError("a request has one input, image or jpeg")
    one = _table(inputs[0], "the input")
    shape = _shape(one)
    binary = untrusted[size:]
    data = _binary(one, binary)
    match one.get("name"), one.get("datatype"):
        case "image", "UINT8":
            return Request(number, _images(one, shape, data), (), _outputs(told))
        case "jpeg", "BYTES":
            return Request(number, (), _files(one, shape, data), _outputs(told))
    raise RequestError("the input is neither image, of datatype UINT8, nor jpeg, of datatype BYTES")


def _table(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{what} is not a JSON object")
    return value


def _shape(one: Mapping[str, Any]) -> list[int]:
    shape = one.get("shape")
    if not isinstance(shape, list) or not all(type(side) is int and 0 < side < 2**16 for side in shape):
        raise RequestError("the input's shape is not a list of whole numbers from 1 to 65535")
    if not shape or shape[0] > MOST_PICTURES:
        raise RequestError(f"a request has 1 to {MOST_PICTURES} pictures")
    return shape


def _binary(one: Mapping[str, Any], binary: bytes) -> bytes | None:
    """Return the bytes of a binary tensor, which is the only one; None if the tensor is in the JSON."""
    size = _table(one.get("parameters", {}), "the input's parameters").get("binary_data_size")
    if size is None:
        if binary:
            raise RequestError("there are bytes behind the JSON, and the input has no binary_data_size")
        return None
    if size != len(binary):
        raise RequestError(f"binary_data_size is {size!r}, and {len(binary)} bytes are behind the JSON")
    return binary


def _images(one: Mapping[str, Any], shape: list[int], data: bytes | None) -> Sequence[Image]:
    if len(shape) != 4 or shape[3] != 3:
        raise RequestError(f"the shape of image is [N, H, W, 3], not {shape}")
    size = int(np.prod(shape, dtype=np.int64))
    if data is not None:
        if len(data) != size:
            raise RequestError(f"a shape of {shape} is {size} bytes, and there are {len(data)}")
        return [*np.frombuffer(data, np.uint8).reshape(shape)]  # (N * H * W * 3,) -> N x (H, W, 3)
    try:
        pixels = _flat(one.get("data"))
    except (TypeError, ValueError):
        pixels = b""
    if len(pixels) != size:
        raise RequestError(f"the data of image are not {size} whole numbers from 0 to 255, as its shape {shape} says")
    return [*np.frombuffer(pixels, np.uint8).reshape(shape)]


def _flat(data: Any) -> bytes:
    """Return the numbers in lists, or in lists of lists, as bytes; TypeError or ValueError if they are none."""
    while isinstance(data, list) and data and isinstance(data[0], list):
        if len({len(row) for row in data}) > 1:
            raise ValueError("it is ragged")
        data = [*chain.from_iterable(data)]
    if not isinstance(data, list):  # bytes(5) would be five of them
        raise TypeError(data)
    return bytes(data)


def _files(one: Mapping[str, Any], shape: list[int], data: bytes | None) -> Sequence[bytes]:
    files = _texts(one.get("data")) if data is None else _elements(data)
    if shape != [len(files)]:
        raise RequestError(f"the shape of jpeg is [N], with as many files: not {shape} with {len(files)}")
    return files


def _texts(data: Any) -> list[bytes]:
    try:
        return [base64.b64decode(text, validate=True) for text in data]
    except (TypeError, ValueError, binascii.Error):
        raise RequestError("the data of jpeg, within JSON, are not a list of files as base64") from None


def _elements(data: bytes) -> list[bytes]:
    """Cut a binary BYTES tensor into its elements."""
    found, at = [], 0
    while at < len(data):
        begin = at + LENGTH.size
        size = int.from_bytes(data[at:begin], "little")
        at = begin + size
        if at > len(data):
            raise RequestError("an element of jpeg is cut off")
        found.append(data[begin:at])
        if len(found) > MOST_PICTURES:
            raise RequestError(f"a request has 1 to {MOST_PICTURES} pictures")
    return found


def _outputs(told: Mapping[str, Any]) -> dict[str, bool]:
    """Return the names of the outputs that are wanted, and whether as bytes."""
    usual = _table(told.get("parameters", {}), "parameters").get("binary_data_output", False) is True
    wanted = told.get("outputs")
    if wanted is None:
        return dict.fromkeys(NAMES, usual)
    found = {}
    for one in wanted if isinstance(wanted, list) else [wanted]:
        name = _table(one, "an output").get("name")
        if name not in NAMES:
            raise RequestError(f"there is no output {name!r}: there are {', '.join(NAMES)}")
        parameters = _table(one.get("parameters", {}), "an output's parameters")
        found[str(name)] = parameters.get("binary_data", usual) is True
    return found


def response(model: str, version: str, request: Request, answers: Sequence[Answer]) -> tuple[bytes, int | None]:
    """Return a response, and how many of its bytes are JSON; None if all of them are."""
    lines = [answer.lines() for answer in answers]
    widest = max(map(len, lines), default=0)
    filled = [[*each, *[("", 0.0)] * (widest - len(each))] for each in lines]
    tensors: dict[str, tuple[str, list[int], list[Any]]] = {
        "label": ("BYTES", [len(lines), widest], [label for each in filled for label, _ in each]),
        "score": ("FP32", [len(lines), widest], [score for each in filled for _, score in each]),
        "answer": ("BYTES", [len(lines)], [json.dumps(answer.record()) for answer in answers]),
    }
    outputs, behind = [], b""
    for name, as_bytes in request.outputs.items():
        datatype, shape, data = tensors[name]
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        if as_bytes:
            packed = np.array(data, "<f4").tobytes() if datatype == "FP32" else b"".join(map(_element, data))
            output["parameters"] = {"binary_data_size": len(packed)}
            behind += packed
        else:
            output["data"] = data
        outputs.append(output)
    told = {"model_name": model, "model_version": version, "outputs": outputs}
    text = json.dumps(told if request.id is None else {**told, "id": request.id}).encode()
    return text + behind, len(text) if any(request.outputs.values()) else None


def _element(text: str) -> bytes:
    data = text.encode(errors="replace")
    return LENGTH.pack(len(data)) + data
