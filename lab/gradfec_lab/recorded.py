"""Answers read back from records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradfec_common.heads import Answer, Box, Boxes, Classes, Tensors


def recorded_answer(record: Mapping[str, Any]) -> Answer:
    """Return the answer in a frame's record, as its head made it."""
    match record["head"]:
        case "classify":
            return Classes(tuple((one["class_index"], one["label"], one["score"]) for one in record["top5"]))
        case "detect":
            found = ((one["class_index"], one["label"], one["score"], tuple(one["box"])) for one in record["boxes"])
            return Boxes(tuple(Box(*one) for one in found))
        case _:
            tensors = record["tensors"].items()
            return Tensors(tuple((name, tuple(one["dims"]), tuple(one["data"])) for name, one in tensors))
