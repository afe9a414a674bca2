"""What Frigate's `zmq` detector sends and expects, byte by byte. Pure.

As its plugin has it (https://github.com/blakeblackshear/frigate, frigate/detectors/plugins/zmq_ipc.py, from 0.17 on). A
REQ socket sends messages of one or two parts; the first is a JSON object:

    {"model_request": true, "model_name": "x.onnx"}       at its start and after each timeout: is the model there?
    {"model_data": true, "model_name": "x.onnx"}, file    if it is not
    {"shape": [1, h, w, 3], "dtype": "uint8", ...}, data  a picture

and expects a JSON object for the first two, and for a picture a JSON object with `shape` and `dtype`, and behind it a
table (20, 6) of float32, best first, with zeros after the last: class, score, top, left, bottom, right, in fractions of
the picture.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_common.heads import Boxes
from gradfec_edge.frames import Image

Parts = list[bytes]

SCHEME = "zmq"
EXAMPLE = f"{SCHEME}://127.0.0.1:5555"
ROWS, COLUMNS = 20, 6
MOST_SIDE = 8192  # pixels of a picture
MOST_BYTES = 2**25  # of a message's part
REQUEST_TIMEOUT_MS = 200  # the plugin's default

# Every model counts as there, whatever its name: the edge runs its own, and Frigate keeps its model file to itself.
MODEL_IS_THERE = [json.dumps({"model_available": True, "model_loaded": True}).encode()]
MODEL_IS_NOT_TAKEN = [json.dumps({"model_saved": False, "model_loaded": False}).encode()]
TABLE_HEADER = json.dumps({"shape": [ROWS, COLUMNS], "dtype": "float32"}).encode()


class Where(NamedTuple):
    """Where Frigate asks: ZeroMQ's name for it, and how many seconds it waits."""

    endpoint: str
    timeout_s: float


def where_of(url: str) -> Where:
    """Read zmq://HOST:PORT or zmq:///PATH, perhaps with ?request_timeout_ms=N; UsageError."""
    try:
        parts = urlsplit(url)
        asked = parse_qs(parts.query, keep_blank_values=True)
        timeout_ms = int(asked.pop("request_timeout_ms", [str(REQUEST_TIMEOUT_MS)])[-1])
        at_port = parts.hostname and parts.port and not parts.path.strip("/")
        at_path = not parts.netloc and len(parts.path) > 1
        good = (at_port or at_path) and not asked and 10 <= timeout_ms <= 60_000
    except ValueError:
        good = False
    if not good:
        raise UsageError(
            f"{url} is not where Frigate can ask: use for example {EXAMPLE}, {SCHEME}:///run/gradfec/detector or "
            f"{EXAMPLE}?request_timeout_ms={REQUEST_TIMEOUT_MS}"
        )
    return Where(f"tcp://{parts.netloc}" if at_port else f"ipc://{parts.path}", timeout_ms / 1000)


class RequestError(ValueError):
    """A request is not one; the text says why."""


def read_request(untrusted: Sequence[bytes]) -> Image | Parts:
    """Return the picture of a request, as BGR (h, w, 3) uint8, or the reply to one about the model; RequestError."""
    try:
        header = json.loads(untrusted[0])
    except (IndexError, ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise RequestError("the first part of a request is not a JSON object")
    if header.get("model_request"):
        return MODEL_IS_THERE
    if header.get("model_data"):
        return MODEL_IS_NOT_TAKEN
    if len(untrusted) != 2:
        raise RequestError(f"a picture is one part behind the JSON, not {len(untrusted) - 1}")
    return _picture(header, untrusted[1])


def _picture(header: dict[str, Any], data: bytes) -> Image:
    shape, kind = header.get("shape"), header.get("dtype")
    if kind != "uint8":
        raise RequestError(f"the picture is of {str(kind)[:20]!r}: leave Frigate's input_dtype at int, for uint8")
    if not isinstance(shape, list) or not all(type(side) is int and 0 < side <= MOST_SIDE for side in shape):
        raise RequestError(f"the picture's shape is not a list of numbers from 1 to {MOST_SIDE}")
    channels_last = len(shape) == 4 and shape[3] == 3
    if len(shape) != 4 or shape[0] != 1 or not (channels_last or shape[1] == 3):
        raise RequestError(f"the picture's shape is neither [1, h, w, 3] nor [1, 3, h, w]: {str(shape)[:60]}")
    if len(data) != int(np.prod(shape, dtype=np.int64)):
        raise RequestError(f"a picture of {shape} has not {len(data)} bytes")
    pixels = np.frombuffer(data, np.uint8).reshape(shape)[0]
    rgb = pixels if channels_last else pixels.transpose(1, 2, 0)  # (3, h, w) -> (h, w, 3)
    return np.ascontiguousarray(rgb[..., ::-1])


def table_of(answer: Boxes) -> npt.NDArray[np.float32]:
    """Return the best boxes as a table (20, 6) float32."""
    table = np.zeros((ROWS, COLUMNS), np.float32)
    for row, box in zip(table, answer.found[:ROWS], strict=False):
        left, top, right, bottom = box.place
        row[:] = box.class_index, box.score, top, left, bottom, right
    return table


def reply_with(answer: Boxes) -> Parts:
    """Return the reply to a picture."""
    return [TABLE_HEADER, table_of(answer).tobytes()]
