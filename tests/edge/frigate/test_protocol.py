"""What Frigate's detector sends, and what it gets."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_common.heads import Box, Boxes
from gradfec_edge.frigate.protocol import MOST_SIDE, RequestError, read_request, reply_with

RGB = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(1, 4, 5, 3)


def asked(picture: Any = RGB, **changes: Any) -> list[bytes]:
    header = {"shape": list(picture.shape), "dtype": str(picture.dtype), "model_type": "ssd", **changes}
    return [json.dumps(header).encode(), picture.tobytes()]


def test_a_picture_comes_as_cameras_have_it() -> None:
    assert np.array_equal(read_request(asked()), RGB[0, ..., ::-1])


def test_channels_may_come_first() -> None:
    assert np.array_equal(read_request(asked(RGB.transpose(0, 3, 1, 2).copy())), RGB[0, ..., ::-1])


def test_every_model_is_there_and_none_is_taken() -> None:
    for request, reply in (
        ({"model_request": True, "model_name": "any.onnx"}, {"model_available": True, "model_loaded": True}),
        ({"model_data": True, "model_name": "any.onnx"}, {"model_saved": False, "model_loaded": False}),
    ):
        (said,) = read_request([json.dumps(request).encode(), b"file"])
        assert json.loads(said) == reply


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ([], "the first part of a request is not a JSON object"),
        ([b"[" * 100_000], "the first part of a request is not a JSON object"),
        ([b"[]", b""], "the first part of a request is not a JSON object"),
        (asked()[:1], "a picture is one part behind the JSON, not 0"),
        ([*asked(), b""], "a picture is one part behind the JSON, not 2"),
        (asked(RGB.astype(np.float32)), "the picture is of 'float32': leave Frigate's input_dtype at int, for uint8"),
        (asked(shape="4"), f"the picture's shape is not a list of numbers from 1 to {MOST_SIDE}"),
        (asked(shape=[1, 4, 5, True]), f"the picture's shape is not a list of numbers from 1 to {MOST_SIDE}"),
        (asked(shape=[1, 4, MOST_SIDE + 1, 3]), f"the picture's shape is not a list of numbers from 1 to {MOST_SIDE}"),
        (asked(shape=[4, 5, 3]), "the picture's shape is neither [1, h, w, 3] nor [1, 3, h, w]: [4, 5, 3]"),
        (asked(shape=[2, 4, 5, 3]), "the picture's shape is neither [1, h, w, 3] nor [1, 3, h, w]: [2, 4, 5, 3]"),
        (asked(shape=[1, 4, 6, 3]), "a picture of [1, 4, 6, 3] has not 60 bytes"),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(request_: list[bytes], said: str) -> None:
    with pytest.raises(RequestError) as error:
        read_request(request_)
    assert str(error.value) == said


KEYS = st.sampled_from(["shape", "dtype", "model_request"])
VALUES = st.none() | st.integers() | st.sampled_from(["uint8"]) | st.lists(st.integers(0, 4), max_size=5)


@given(st.lists(st.binary(max_size=60), max_size=3), st.dictionaries(KEYS, VALUES))
def test_any_bytes_are_a_request_or_an_error_of_one_kind(parts: list[bytes], header: dict[str, Any]) -> None:
    for request in (parts, [json.dumps(header).encode(), *parts]):
        with contextlib.suppress(RequestError):
            read_request(request)


def test_a_reply_has_the_best_twenty_boxes_as_frigate_orders_their_edges() -> None:
    boxes = [Box(number, "thing", 1 - number / 32, (0.125, 0.25, 0.5, 0.75)) for number in range(25)]
    header, data = reply_with(Boxes(tuple(boxes)))
    assert json.loads(header) == {"shape": [20, 6], "dtype": "float32"}
    table = np.frombuffer(data, np.float32).reshape(20, 6)
    assert table[:, 0].tolist() == [*range(20)]
    assert table[7].tolist() == [7, 1 - 7 / 32, 0.25, 0.125, 0.75, 0.5]


def test_a_reply_without_boxes_is_twenty_rows_of_zeros() -> None:
    assert reply_with(Boxes(()))[1] == bytes(20 * 6 * 4)
