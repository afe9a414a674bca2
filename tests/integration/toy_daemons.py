"""Real daemons that know the toy network besides ResNet-50, and run numpy in both networks' place.

Tests import `toy_daemon`; run as a script, this module is such a daemon.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.common.networks.toy import TOY, back_end, front_end
from tests.integration.toy_runtimes import put_in_place, run

from gradfec_cli.daemons import MODULES, Daemon, daemon
from gradfec_common.networks import NETWORKS, Cut
from gradfec_edge.frontend import Features

Floats = npt.NDArray[np.float32]


@contextmanager
def toy_daemon(name: str, *arguments: object, ready: str | None = None) -> Iterator[Daemon]:
    """Run `gradfec-edge` or `gradfec-cloud`."""
    program = [sys.executable, __file__, MODULES[name]]
    with daemon(name, *map(str, arguments), ready=ready, program=program) as running:
        yield running


class FrontEnd:
    """The toy's own front-end; of ResNet-50, features that are all alike."""

    def __init__(self, cut: Cut, weights: object, proxy: object) -> None:
        self.cut = cut

    def warm_up(self) -> None:
        pass

    def __call__(self, image: npt.NDArray[np.uint8]) -> Features:
        return Features(front_end(image) if self.cut.network is TOY else np.ones(self.cut.shape, np.float32))


class BackEnd:
    """The toy's own back-end; of ResNet-50, one that is always sure of a tabby."""

    def __init__(self, cut: Cut, weights: object, max_batch: int) -> None:
        self.cut = cut

    def warm_up(self) -> None:
        pass

    def __call__(self, tensors: Floats) -> Floats:
        if self.cut.network is TOY:
            return back_end(tensors)
        return np.eye(1, 1000, 281, dtype=np.float32).repeat(len(tensors), axis=0)


def main(package: str, arguments: list[str]) -> None:
    """Run a daemon in this process."""
    from gradfec_host import weights

    NETWORKS[TOY.name] = TOY
    weights.ensure_weights = lambda network, *_: network  # type: ignore[assignment,return-value]
    put_in_place(FrontEnd, BackEnd)
    run(package, arguments)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
