"""What a worker does with tensors of one cut: erasure decoding, dequantising, concealment, back-end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gradfec_cloud.backend import BackEnd
from gradfec_cloud.decoding import Decoder
from gradfec_cloud.workers.pool import Done, Tensor
from gradfec_common.conceal import Concealment
from gradfec_common.networks import Cut
from gradfec_common.reassembly import Reassembly


class CutStation:
    """Decodes tensors of a cut, and runs the back-end on them. One thread at a time may call it."""

    def __init__(self, load: Callable[[], BackEnd], cut: Cut, conceal: Concealment) -> None:
        """Load the back-end; GradfecError if that fails."""
        self._back_end, self._cut = load(), cut
        self._decoder = Decoder({cut: conceal})

    def warm_up(self) -> None:
        """Run the back-end once."""
        self._back_end.warm_up()

    def __call__(self, tensors: Sequence[Tensor]) -> list[Done]:
        """Return what came of each tensor. One that cannot be decoded costs no other; an error of the network does."""
        every = [self._decoded(one) for one in tensors]
        features = [chi for _, chi in every if chi is not None]
        if features:
            # n x (H, W, C) -> (n, H, W, C), without a copy where there is one
            stacked = np.stack(features) if len(features) > 1 else features[0][np.newaxis]
            outputs = iter(self._back_end(stacked))
            for done, chi in every:
                if chi is not None:
                    done.output = next(outputs)
        return [done for done, _ in every]

    def _decoded(self, tensor: Tensor) -> tuple[Done, NDArray[np.float32] | None]:
        """Return a tensor's features (H, W, C), None if it cannot be decoded."""
        if not isinstance(tensor, Reassembly):
            return Done(), tensor
        start, given_up = time.perf_counter(), self._decoder.given_up
        try:
            found = self._decoder.decode(self._cut, tensor)
        except Exception as error:
            return Done(error=error), None
        reason = next(iter(self._decoder.given_up - given_up), None)
        decode_ms = 1000 * (time.perf_counter() - start)
        done = Done(None, None, decode_ms, found.recovered, found.missing, found.found, reason)
        return done, found.tensor
