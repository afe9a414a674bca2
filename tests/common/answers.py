"""Answers of a classifier, for tests that need some."""

from __future__ import annotations

from gradfec_common.heads import Classes, Classify

HEAD = Classify(1000)
TIGER_CAT = Classes(((282, "tiger cat", 0.5),))
