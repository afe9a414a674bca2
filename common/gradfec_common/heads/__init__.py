"""Heads: what a network's answers are. Each is a file here and a line in HEADS; a network names its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradfec_common.heads.boxes import Box, Boxes
from gradfec_common.heads.classify import Classes, Classify
from gradfec_common.heads.head import Answer, Describable, Head, agreement
from gradfec_common.heads.raw import Raw, Tensors

__all__ = [
    "HEADS", "Answer", "Box", "Boxes", "Classes", "Classify", "Describable", "Head", "Raw", "Tensors", "agreement",
    "head_of",
]  # fmt: skip

# By name, those that a guess should try first at the front.
HEADS: dict[str, type[Describable]] = {head.name: head for head in (Classify, Raw)}


def head_of(said: Mapping[str, Any]) -> Describable:
    """Return the head that a manifest describes; ValueError, KeyError or TypeError if there is no such head."""
    if said["name"] not in HEADS:
        raise ValueError(f"no head is called {said['name']!r}: use one of {', '.join(HEADS)}")
    return HEADS[said["name"]].of(said)
