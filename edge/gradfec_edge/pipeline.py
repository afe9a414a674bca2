"""From a frame to an encoded tensor: preprocess, front-end, importance, plan, compensation, code: one thread's work.

A tensor's stripes are coded in threads of their own, one for each core: zfec releases the GIL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradfec_common.heads import WHOLE, Place
from gradfec_common.packets import PacketGrid
from gradfec_common.preprocess import seen_share, to_input
from gradfec_common.protect import UNKNOWN_LINK, LinkEstimate
from gradfec_common.transmit import EncodedTensor
from gradfec_edge.coding import Coding
from gradfec_edge.frontend import FrontEnd
from gradfec_edge.importance import Estimator
from gradfec_edge.importance.shares import importance_shares
from gradfec_host.runtimes import cores

Floats = npt.NDArray[np.float32]
Choose = Callable[[Sequence["Pipeline"], LinkEstimate], "Pipeline"]


class Stages(dict[str, float]):
    """Milliseconds spent in each stage, in order."""

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Time a block of code as `stage`."""
        start = time.perf_counter()
        yield
        self.took(stage, start)

    def took(self, stage: str, start: float) -> None:
        """Note that `stage` has lasted from `start`, by time.perf_counter(), until now."""
        self[stage] = round(1000 * (time.perf_counter() - start), 3)


@dataclass(frozen=True)
class EncodedFrame(EncodedTensor):
    """A tensor ready to be sent, and what it was made of: the input `image` (h, w, 3), the packets' `importance`
    (count,), by which they were ranked, and its `shares` (count,), which add up to 1. `split` and `codec` are the names
    for people, and `part` is what the network sees of the frame.
    """

    form: int
    split: str
    codec: str
    grid: PacketGrid
    image: npt.NDArray[np.uint8]
    importance: Floats
    shares: Floats
    part: Place = WHOLE


class Pipeline:
    """The edge's share of the inference."""

    def __init__(
        self,
        coding: Coding,
        front_end: FrontEnd,
        estimator: Estimator | None,
        others: Sequence[Pipeline] = (),
        choose: Choose | None = None,
    ) -> None:
        """Join the stages; without an `estimator`, the front-end has one in its graph.

        Each frame goes through this pipeline or one of the `others`, as `choose` says: by default, through the one that
        is worth most on the link.
        """
        self.coding, self.front_end, self.estimator = coding, front_end, estimator
        self.others, self._choose = others, choose or most_worth
        self._forms = frozenset({coding.form})
        self._coders = ThreadPoolExecutor(cores(), "coder")

    def allow(self, forms: frozenset[int]) -> None:
        """From now on, use these forms: the cloud takes no others."""
        self._forms = forms

    def encode(self, frame: npt.NDArray[np.uint8], link: LinkEstimate = UNKNOWN_LINK) -> tuple[EncodedFrame, Stages]:
        """Turn a BGR frame (height, width, 3) of any size into a tensor that is ready to be sent over a link."""
        if self.others:
            possible = [one for one in (self, *self.others) if one.coding.form in self._forms]
            return self._choose(possible, link)._encode(frame, link)
        return self._encode(frame, link)

    def _encode(self, frame: npt.NDArray[np.uint8], link: LinkEstimate) -> tuple[EncodedFrame, Stages]:
        stages = Stages()
        with stages.time("preprocess"):
            image = to_input(frame, self.coding.cut.network.preprocess)
        with stages.time("front_end"):
            tensor, scores, damage = self.front_end(image)
        with stages.time("importance"):
            scores = self.estimator(image, tensor) if self.estimator else scores
            assert scores is not None, "neither a proxy in the graph nor an estimator after it"  # noqa: S101
            shares = importance_shares(scores, damage)
        with stages.time("encode"):
            encoded = self.coding.encode(tensor, scores, damage, link, self._coders.map)
        coding, part = self.coding, seen_share(frame, self.coding.cut.network.preprocess)
        about = coding.form, coding.split, coding.codec, coding.grid
        return EncodedFrame(encoded.plan, encoded.unnumbered, *about, image, scores, shares, part), stages


def most_worth(possible: Sequence[Pipeline], link: LinkEstimate) -> Pipeline:
    """Return the pipeline whose frames are worth most on a link; of equal ones the first."""
    return max(possible, key=lambda one: one.coding.value(link))
