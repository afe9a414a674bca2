"""Heads: what a network's answers are. Each is a file here and a line in HEADS; a network names its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradfec_common.heads.boxes import Box, Boxes
from gradfec_common.heads.classify import Classes, Classify
from gradfec_common.heads.detect import Detect
from gradfec_common.heads.head import WHOLE, Answer, Describable, Head, Place, agreement
from gradfec_common.heads.raw import Raw, Tensors

__all__ = [
    "HEADS",
    "WHOLE",
    "Answer",
    "Box",
    "Boxes",
    "Classes",
    "Classify",
    "Describable",
    "Detect",
    "Head",
    "Place",
    "Raw",
    "Tensors",
    "agreement",
    "head_of",
]  # fmt: skip

# By name, those that a guess should try first at the front.
HEADS: dict[str, type[Describable]] = {head.name: head for head in (Classify, Detect, Raw)}


def head_of(said: Mapping[str, Any], labels: Sequence[str] = ()) -> Describable:
    """Return the head that a manifest describes, for classes that are called `labels`.

    ValueError, KeyError or TypeError if there is no such head.
    """
    if said["name"] not in HEADS:
        raise ValueError(f"no head is called {said['name']!r}: use one of {', '.join(HEADS)}")
    return HEADS[said["name"]].of(said, labels)
