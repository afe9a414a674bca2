"""Small frames, ready to be sent."""

from __future__ import annotations

import time

import numpy as np
from tests.common.small_tensors import GRID, encoded, planned

from gradfec_edge.frames import Frame
from gradfec_edge.pipeline import EncodedFrame, Stages
from gradfec_edge.slots import Outgoing

IMAGE = np.zeros((4, 4, 3), np.uint8)
SCORES = np.arange(GRID.count, dtype=np.float32)


def frame(number: int = 0) -> Frame:
    return Frame(number, f"{number}.png", IMAGE, time.monotonic())


def encoded_frame() -> EncodedFrame:
    tensor = encoded(planned("none"))
    return EncodedFrame(
        tensor.plan, tensor.unnumbered, 0, "conv", "uniform8", GRID, IMAGE, SCORES, SCORES / SCORES.sum()
    )


def outgoing(number: int = 0, first: int | None = None) -> Outgoing:
    return Outgoing(frame(number), encoded_frame(), Stages(encode=1.0), time.perf_counter(), first)
