"""JPEG over a link: which quality it has room for, and how many datagrams of parity its loss asks for."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gradfec_cli.channel import HEADER_BYTES, ChannelSettings, loss_model
from gradfec_common.codes import ZFEC
from gradfec_common.wire import MAX_DATAGRAM_BYTES
from gradfec_lab.bench.rivals.footage import FPS
from gradfec_lab.bench.rivals.links import State
from gradfec_lab.bench.rivals.pictures import Pictures, to_jpeg

QUALITIES = (90, 75, 60, 45, 30, 20, 10)
SHARE = 0.7  # of the link's rate that a plan may fill
SURE = 0.95  # of the frames that must survive the losses, if the rate allows
DRAWS = 2000
OVERHEAD_BYTES = 100  # of a datagram, at most: header, seal, and the packets' sizes
ROOM_BYTES = MAX_DATAGRAM_BYTES - OVERHEAD_BYTES


class Parity(NamedTuple):
    """A quality, and that any k of n datagrams are enough for a frame."""

    quality: int
    k: int
    n: int

    @property
    def policy(self) -> str:
        """What the edge's --protect takes for it."""
        return "none" if self.k == self.n else f"nested:{self.k}/{self.n}"


def sizes(frames: Pictures, quality: int) -> list[int]:
    """Return the bytes of each frame as JPEG."""
    return [len(to_jpeg(frame, quality)) for frame in frames]


def most_frame_bytes(state: State) -> float:
    """Return the bytes that a frame may have on a link, headers included."""
    return math.inf if state.rate_mbit_s is None else SHARE * 1e6 * state.rate_mbit_s / 8 / FPS


def survival(state: State, k: int, n: int) -> float:
    """Return how many of many frames of n datagrams keep k of them on a link that loses as the injector does."""
    settings = ChannelSettings(loss=state.loss, burst=state.burst)
    lost = loss_model(settings, np.random.default_rng(0)).draw(DRAWS * n).reshape(DRAWS, n)
    return float(((~lost).sum(axis=1) >= k).mean())


def with_parity(frames: Pictures, state: State) -> Parity:
    """Return the best quality whose frames, with enough parity, fit the link; or the poorest with what fits."""
    most_bytes = most_frame_bytes(state)
    for quality in QUALITIES:
        k = math.ceil(max(sizes(frames, quality)) / ROOM_BYTES)
        most = int(min(most_bytes / (MAX_DATAGRAM_BYTES + HEADER_BYTES), ZFEC.max_n))
        n = enough(state, k, most)
        if n is not None:
            return Parity(quality, k, n)
    return Parity(QUALITIES[-1], k, max(k, most))


def enough(state: State, k: int, most: int) -> int | None:
    """Return the fewest datagrams of which k are sure to arrive; None if that is more than `most`."""
    return next((n for n in range(k, most + 1) if survival(state, k, n) >= SURE), None)


def without_parity(frames: Pictures, state: State) -> int:
    """Return the best quality whose frames fit the link when what is lost is sent again."""
    most_bytes = most_frame_bytes(state) * (1 - state.loss)
    return next((quality for quality in QUALITIES if np.mean(sizes(frames, quality)) <= most_bytes), QUALITIES[-1])
