"""Real daemons whose network is unsure of features and sure of pictures; numpy runs in its place.

Tests import `unsure`; run as a script, this module is such a daemon. A second look may be late here, so that a slow
machine is no fault.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.toy_runtimes import put_in_place, run

from gradfec_cli.daemons import MODULES, Daemon, daemon
from gradfec_common.networks import Cut
from gradfec_edge.frontend import Features

Floats = npt.NDArray[np.float32]
UNSURE, SURE = 0.3, 0.9
FEATURES, PICTURE = 281, 282  # the classes that the network sees in them
LATE_S = 30.0
OPTIONS = {"gradfec-edge": ("--timeout-ms", "60000"), "gradfec-cloud": ("--deadline-ms", "60000")}


@contextmanager
def unsure(name: str, *arguments: object, ready: str | None = None, **settings: object) -> Iterator[Daemon]:
    """Run `gradfec-edge` or `gradfec-cloud`; `settings`: BACK_END_S, how long the cloud's takes for a batch."""
    program = ["env", *(f"{key}={value}" for key, value in settings.items()), sys.executable, __file__, MODULES[name]]
    with daemon(name, *OPTIONS[name], *map(str, arguments), ready=ready, program=program) as running:
        yield running


class FrontEnd:
    """Makes latents of the picture's bytes."""

    def __init__(self, cut: Cut, weights: object, proxy: object) -> None:
        self.shape = cut.shape

    def warm_up(self) -> None:
        pass

    def __call__(self, image: npt.NDArray[np.uint8]) -> Features:
        return Features((np.resize(image, self.shape).astype(np.float32) - 128) / 256)


class BackEnd:
    """Is unsure of latents, but for every third picture, of which it is as sure as of the picture itself."""

    def __init__(self, cut: Cut, weights: object, max_batch: int) -> None:
        self.sees_picture = cut.pixels is not None
        self.takes_s = float(os.environ.get("BACK_END_S", "0"))

    def warm_up(self) -> None:
        pass

    def __call__(self, tensors: Floats) -> Floats:
        time.sleep(self.takes_s)
        probabilities = np.zeros((len(tensors), 1000), np.float32)
        for one, tensor in zip(probabilities, tensors, strict=True):
            one[PICTURE if self.sees_picture else FEATURES] = SURE if self.sees_picture or is_easy(tensor) else UNSURE
        return probabilities


def is_easy(latents: Floats) -> bool:
    """Whether the network is sure of a picture by its latents alone."""
    return int(np.abs(latents).sum()) % 3 == 0


def main(package: str, arguments: list[str]) -> None:
    """Run a daemon in this process."""
    from gradfec_edge import camera_setup
    from gradfec_host import weights

    camera_setup.AT_LATEST_S = LATE_S
    weights.ensure_weights = lambda network, *_: network  # type: ignore[assignment,return-value]
    put_in_place(FrontEnd, BackEnd)
    run(package, arguments)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
