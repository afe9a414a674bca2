"""A back-end that takes its time, and a gateway that has it: `python -m tests.cloud.workers.gateway`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradfec_cloud.catalogue import Catalogue
from gradfec_cloud.workers.pool import BackEndName, Station, back_end_name
from gradfec_cloud.workers.station import CutStation
from gradfec_common.codes import ZFEC
from gradfec_common.networks import DEFAULT_CUT, Cut, named_cut
from gradfec_edge.coding import Coding, coding_of


@dataclass(frozen=True)
class Stub:
    """Answers alike after some time, in which it uses no processor, as a GPU would."""

    cut: Cut
    takes_s: float

    def warm_up(self) -> None:
        pass

    def __call__(self, chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        time.sleep(self.takes_s)
        classes = self.cut.network.output.shape[-1]
        return np.full((len(chi), classes), 1 / classes, np.float32)


@dataclass(frozen=True)
class LoadStub:
    """Loads one."""

    cut: Cut
    takes_s: float

    def __call__(self) -> Stub:
        return Stub(self.cut, self.takes_s)


@dataclass(frozen=True)
class LoadStation:
    """Loads what stands in front of one, too: frames are decoded as usual."""

    cut: Cut
    takes_s: float

    def __call__(self) -> Station:
        conceal = Catalogue.of([self.cut], "auto").concealments[self.cut]
        return CutStation(LoadStub(self.cut, self.takes_s), self.cut, conceal)


def coding() -> Coding:
    """Return how frames are coded by default: the latents of a bottleneck, some 15 kB of them."""
    return coding_of(named_cut(DEFAULT_CUT), None, "bottleneck", None, ZFEC.name)


def loaders(takes_s: float) -> dict[BackEndName, Callable[[], Station]]:
    cut = coding().cut
    return {back_end_name(cut): LoadStation(cut, takes_s)}
