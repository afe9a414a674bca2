"""Heads: what a network's answers are. Each is a file here; a network names its own."""

from __future__ import annotations

from gradfec_common.heads.classify import Classes, Classify
from gradfec_common.heads.head import Answer, Head

__all__ = ["Answer", "Classes", "Classify", "Head"]
