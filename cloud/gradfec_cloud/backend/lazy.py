"""A back-end that is loaded when the first tensors come, for a cut that may never be asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gradfec_cloud.backend import BackEnd
from gradfec_common.networks import Cut


class LazyBackEnd:
    """The back-end that `load` loads; one thread at a time may call it."""

    def __init__(self, cut: Cut, load: Callable[[], BackEnd]) -> None:
        """Load nothing yet."""
        self.cut, self._load = cut, load
        self._loaded: BackEnd | None = None

    def warm_up(self) -> None:
        """Do nothing: it would load it."""

    def __call__(self, chi: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs (N, classes) of chi (N, H, W, C)."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded(chi)
