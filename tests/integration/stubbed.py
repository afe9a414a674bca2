"""Real daemons with toy models: real sockets, signals, threads and files, but no neural runtime to wait for.

Tests import `stubbed`; run as a script, this module is such a daemon.
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
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance import EstimatorFile

READY = {"gradfec-edge": None, "gradfec-cloud": "listening on"}
# 256 datagrams a tensor, which any kernel's receive buffer holds, and no hurry: a slow machine must not lose any.
SMALL = {
    "gradfec-edge": (
        *("--split", "pool1_pool", "--rows", "14", "--codec", "uniform8", "--packets-per-datagram", "1"),
        *("--timeout-ms", "60000"),
    ),
    "gradfec-cloud": ("--split", "pool1_pool", "--deadline-ms", "60000"),
}


@contextmanager
def stubbed(name: str, *arguments: object, ready: str | None = "", **settings: object) -> Iterator[Daemon]:
    """Run `gradfec-edge` or `gradfec-cloud` with toy models; what `arguments` say goes before the options in SMALL.

    `settings`: BACK_END_S, how long the cloud's takes for a batch; PATIENCE_S, the edge's; EVERY_S, how often a daemon
    says how it goes; and any other variable of the environment, None to be without it.
    """
    unset = [f"--unset={key}" for key, value in settings.items() if value is None]
    given = [f"{key}={value}" for key, value in settings.items() if value is not None]
    program = ["env", *unset, *given, sys.executable, __file__, MODULES[name]]
    words = READY[name] if ready == "" else ready
    with daemon(name, *SMALL[name], *map(str, arguments), ready=words, program=program) as running:
        yield running


class FrontEnd:
    """Repeats the image until it fills the tensor."""

    def __init__(self, split: Cut, weights: object, proxy: EstimatorFile | None) -> None:
        self.shape = split.shape
        self.packets = PacketGrid(split.shape, proxy.about["rows"]).count if proxy else None

    def warm_up(self) -> None:
        pass

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], ...]:
        scores = np.arange(self.packets, dtype=np.float32) if self.packets else None
        return np.resize(image, self.shape).astype(np.float32) - 100, scores, None


class BackEnd:
    """Is sure of one class, by the tensor's mean."""

    def __init__(self, split: Cut, weights: object, max_batch: int) -> None:
        self.takes_s = float(os.environ.get("BACK_END_S", "0"))

    def warm_up(self) -> None:
        pass

    def __call__(self, chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        time.sleep(self.takes_s)
        probabilities = np.zeros((len(chi), 1000), np.float32)
        probabilities[np.arange(len(chi)), np.abs(chi).mean(axis=(1, 2, 3)).astype(int) % 1000] = 1
        return probabilities


if __name__ == "__main__":
    put_in_place(FrontEnd, BackEnd)
    for name in ("tensorflow", "keras", "ai_edge_litert.interpreter"):
        sys.modules[name] = None  # type: ignore[assignment]  # importing them is an error
    from gradfec_edge import health
    from gradfec_host import progress

    health.PATIENCE_S = float(os.environ.get("PATIENCE_S", health.PATIENCE_S))
    progress.EVERY_S = float(os.environ.get("EVERY_S", progress.EVERY_S))
    run(sys.argv[1], sys.argv[2:])
